//! JSON documents that commands send: from a file or from standard input.
//!
//! Absent on purpose: what a document must hold, which is the node's to say.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::Value;

use super::failure::Failure;

/// Bytes of the largest file that is sent: what the API takes for one body.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a document, which must be one JSON object; `of_many` says how several are sent.
pub(super) fn read_json(file: &Path, of_many: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(BODY_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|opened| opened.take(BODY_BYTES_MAX + 1).read_to_string(&mut text))
    };
    let length = read.map_err(|error| Failure::file("read", file, &error))?;
    if length as u64 > BODY_BYTES_MAX {
        return Err(Failure::stopped(format!(
            "{} is larger than the 1 MiB that the API takes",
            file.display()
        )));
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(_)) => Ok(text),
        Ok(Value::Array(_)) => {
            Err(Failure::stopped(format!("{} holds a list, and a definition is one object", file.display()))
                .advise(of_many))
        }
        Ok(_) => Err(Failure::stopped(format!("{} does not hold an object", file.display()))),
        Err(error) => Err(Failure::stopped(format!("{} is not JSON: {error}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_file(contents: &str, expected: Result<(), &str>) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("task.json");
        fs::write(&path, contents).expect("written");
        match (read_json(&path, "one by one"), expected) {
            (Ok(text), Ok(())) => assert_eq!(text, contents),
            (Err(failure), Err(expected)) => assert!(failure.to_string().contains(expected), "{failure}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_file_is_sent_as_it_is_if_it_is_one_object() {
        check_file("{\"name\": \"a\", \"later\": 1}\n", Ok(()));
        check_file("[{}]", Err("holds a list"));
        check_file("7", Err("does not hold an object"));
        check_file("{\n  name: 1}", Err("line 2 column 3"));
        check_file(&format!("{{\"a\":\"{}\"}}", "x".repeat(1024 * 1024)), Err("larger than the 1 MiB"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = read_json(Path::new("/nowhere/task.json"), "").expect_err("missing");
        assert!(failure.to_string().starts_with("cannot read /nowhere/task.json: "), "{failure}");
    }
}
