//! `schedule check`: expressions against the instants that they should fire at, one JSON object a line.
//!
//! Invariant: every line that is not blank is counted once, as passed or as failed; one that cannot be read has failed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use escapement_domain::task::trigger::Dst;
use escapement_domain::timestamp::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::connection::Output;
use super::failure::Failure;
use super::schedule::compile;
use super::screen::Screen;
use super::table::visible;

/// One line. Other members may stand in it.
#[derive(Debug, Deserialize)]
struct Vector {
    expr: String,
    tz: Option<String>,
    from: String,
    next: Vec<String>,
}

/// What a check has come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

/// Checks a file, prints what differs, and fails if anything does.
pub(super) fn check(file: &Path, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let opened = File::open(file).map_err(|error| Failure::file("read", file, &error))?;
    let tally = check_lines(BufReader::new(opened), file, screen)?;
    match screen.output {
        Output::Json => {
            screen.line(&json!({ "passed": tally.passed, "failed": tally.failed }).to_string())?
        }
        Output::Table => screen.line(&format!("{} passed, {} failed", tally.passed, tally.failed))?,
    }
    if tally.failed == 0 { Ok(()) } else { Err(Failure::Told) }
}

fn check_lines(lines: impl BufRead, file: &Path, screen: &mut Screen<'_>) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for (index, line) in lines.split(b'\n').enumerate() {
        let line = line.map_err(|error| Failure::file("read", file, &error))?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() {
            continue;
        }
        let Err(difference) = check_line(line) else {
            tally.passed += 1;
            continue;
        };
        tally.failed += 1;
        match screen.output {
            Output::Json => screen
                .line(&json!({ "line": index + 1, "input": line, "difference": difference }).to_string())?,
            Output::Table => {
                screen.line(&format!("line {}: {}\n  {}", index + 1, visible(line), visible(&difference)))?
            }
        }
    }
    Ok(tally)
}

/// Says how a line differs from what the evaluator answers.
fn check_line(line: &str) -> Result<(), String> {
    let vector: Vector =
        serde_json::from_str(line).map_err(|error| format!("not a line of a check: {error}"))?;
    let from = Timestamp::parse(&vector.from)?;
    let expected = vector.next.iter().map(|next| Timestamp::parse(next)).collect::<Result<Vec<_>, _>>()?;
    let schedule = match compile(&vector.expr, vector.tz.as_deref().unwrap_or("UTC"), Dst::default(), from) {
        Ok((_, schedule)) => schedule,
        // What fires never is refused; an empty list says the same.
        Err(_) if expected.is_empty() => return Ok(()),
        Err(error) => return Err(format!("refused: {error}")),
    };
    // One more tells a list that is meant to be empty from one that is not.
    let found: Vec<Timestamp> = schedule.between(from, Timestamp::MAX).take(expected.len().max(1)).collect();
    if found == expected {
        return Ok(());
    }
    let at = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    let at = at.unwrap_or_else(|| found.len().min(expected.len()));
    let show = |list: &[Timestamp]| list.get(at).map_or_else(|| "nothing".to_owned(), Timestamp::to_string);
    Err(format!("instant {} should be {} and is {}", at + 1, show(&expected), show(&found)))
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;
    use crate::command_line::zone::Zone;

    fn run(lines: &str, output: Output) -> (Tally, String) {
        let mut out = Vec::new();
        let mut screen = Screen { out: &mut out, output, zone: Zone(Tz::UTC) };
        let tally = check_lines(lines.as_bytes(), Path::new("vectors"), &mut screen).expect("read");
        (tally, String::from_utf8(out).expect("a text"))
    }

    const GOOD: &str = r#"{"expr": "0 2 * * *", "tz": "Europe/Berlin", "from": "2026-03-28T00:00:00Z", "next": ["2026-03-28T01:00:00Z"]}"#;
    const BAD: &str = r#"{"expr": "0 2 * * *", "from": "2026-03-28T00:00:00Z", "next": ["2026-03-28T02:00:00Z", "2026-03-29T03:00:00+00:00"]}"#;

    #[test]
    fn every_line_is_counted_once_and_a_difference_is_shown() {
        let (tally, printed) = run(&format!("\u{feff}{GOOD}\n\n{BAD}\nnonsense\n{GOOD}\r\n"), Output::Table);
        assert_eq!(tally, Tally { passed: 2, failed: 2 });
        assert!(printed.starts_with(&format!("line 3: {BAD}\n  instant 2 should be 2026-03-29T03:00:00.000Z and is 2026-03-29T02:00:00.000Z\n")), "{printed}");
        assert!(printed.contains("line 4: nonsense\n  not a line of a check: "), "{printed}");
    }

    #[test]
    fn an_expression_that_is_refused_has_failed() {
        let (tally, printed) = run(
            r#"{"expr": "61 * * * *", "from": "2026-03-28T00:00:00Z", "next": ["2026-03-28T00:00:00Z"]}"#,
            Output::Json,
        );
        assert_eq!(tally, Tally { passed: 0, failed: 1 });
        assert!(printed.contains("\"difference\":\"refused: /expression"), "{printed}");
    }

    #[test]
    fn an_empty_list_says_that_nothing_follows() {
        let line =
            |expr: &str| format!(r#"{{"expr": "{expr}", "from": "2026-03-28T00:00:00Z", "next": []}}"#);
        assert_eq!(run(&line("0 0 30 2 *"), Output::Table).0, Tally { passed: 1, failed: 0 });
        let (tally, printed) = run(&line("0 0 * * *"), Output::Table);
        assert_eq!(tally, Tally { passed: 0, failed: 1 });
        assert!(printed.contains("instant 1 should be nothing and is 2026-03-29T00:00:00.000Z"), "{printed}");
    }

    #[test]
    fn the_committed_vectors_pass() {
        let (tally, printed) =
            run(include_str!("../../actors/domain/tests/vectors/cron.jsonl"), Output::Table);
        assert_eq!((tally, printed.as_str()), (Tally { passed: 600, failed: 0 }, ""));
    }

    #[test]
    fn a_file_with_a_difference_fails_and_closes_with_the_tally() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("vectors.jsonl");
        std::fs::write(&file, format!("{GOOD}\n{BAD}\n")).expect("written");
        let mut out = Vec::new();
        let checked = check(&file, &mut Screen { out: &mut out, output: Output::Table, zone: Zone(Tz::UTC) });
        assert!(matches!(checked, Err(Failure::Told)));
        assert!(String::from_utf8(out).expect("a text").ends_with("\n1 passed, 1 failed\n"));
    }
}
