//! The house rules, as a test: layers, sizes, module documentation, names.
//!
//! What a person would otherwise have to say in every review.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file above which it wants splitting by noun.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function above which it wants splitting.
const FUNCTION_LINES_MAX: usize = 70;
/// Module names that say nothing about what is in them.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "common", "helpers", "helper", "types", "misc", "shared", "manager"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in
            fs::read_dir(folder).expect("a folder of the repository").map(|entry| entry.expect("readable"))
        {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "actors", "raft", "simulation", "tests", "benches"] {
        walk(&root().join(folder), &mut found);
    }
    found.sort();
    let sources: Vec<_> = found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            (name, text)
        })
        .collect();
    assert!(sources.len() > 40, "the sources were found");
    sources
}

#[track_caller]
fn none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

/// The crates of ours, and those that are named, on which a package depends, however far.
fn dependencies(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .filter(|name| name != package)
        .collect()
}

#[track_caller]
fn check_absent(package: &str, absent: &[&str]) {
    let found = dependencies(package);
    let faults: Vec<String> =
        absent.iter().filter(|name| found.contains(**name)).map(|name| (*name).into()).collect();
    none(&faults, &format!("{package} must not depend on"));
}

#[test]
fn the_domain_touches_nothing() {
    check_absent(
        "escapement-domain",
        &[
            "tokio",
            "actix",
            "actix-web",
            "actix-rt",
            "sled",
            "openraft",
            "raft-log",
            "reqwest",
            "rand",
            "tracing",
        ],
    );
    check_absent("escapement-domain", &["escapement-actors", "escapement-raft", "escapement"]);
}

#[test]
fn the_actors_know_no_raft_no_http_and_no_disk() {
    check_absent(
        "escapement-actors",
        &["openraft", "raft-log", "sled", "actix-web", "actix-http", "reqwest", "rand"],
    );
    check_absent("escapement-actors", &["escapement-raft", "escapement"]);
}

#[test]
fn the_log_knows_no_task() {
    check_absent(
        "escapement-raft",
        &["escapement-domain", "escapement-actors", "escapement", "sled", "actix-web"],
    );
}

#[test]
fn no_file_is_too_long() {
    let faults: Vec<String> = sources()
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    none(&faults, &format!("a file has at most {FILE_LINES_MAX} lines"));
}

#[test]
fn no_function_is_too_long() {
    let mut faults = Vec::new();
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let is_function =
                ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(super) fn ", "pub(crate) fn "]
                    .iter()
                    .chain(&["pub(super) async fn ", "pub(crate) async fn ", "const fn ", "pub const fn "])
                    .any(|prefix| head.starts_with(prefix));
            if !is_function {
                continue;
            }
            let close = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == close).map_or(1, |end| end + 1);
            let opens =
                lines[start..].iter().take_while(|line| !line.ends_with('{') && !line.ends_with(';')).count();
            let declares_only = lines.get(start + opens).is_some_and(|line| line.ends_with(';'));
            if length > FUNCTION_LINES_MAX && !declares_only {
                faults.push(format!("{name}:{}: {length} lines", start + 1));
            }
        }
    }
    none(&faults, &format!("a function has at most {FUNCTION_LINES_MAX} lines"));
}

#[test]
fn every_module_says_what_it_is() {
    let faults: Vec<String> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    none(&faults, "a file opens with `//!`");
}

#[test]
fn every_name_says_what_is_in_it() {
    let faults: Vec<String> = sources()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.split(['/', '.']).any(|part| EMPTY_NAMES.contains(&part)))
        .collect();
    none(&faults, "these names say nothing");
}

#[test]
fn nothing_is_left_open() {
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)))
        .map(|(name, _)| name)
        .collect();
    none(&faults, "left open");
}

#[test]
fn the_core_has_no_unordered_map_and_no_float() {
    let words = ["HashMap", "HashSet", "f64", "f32", "SystemTime", "Instant::now", "std::env", "std::fs"];
    let mut faults = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| name.starts_with("actors/domain/src")) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                faults.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(&faults, "not in the core");
}
