//! Every line of `vectors/cron.jsonl`: the next instants of crontab expressions, many of them across changes of
//! clocks, as Debian's cron would have them.

use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::Schedule;
use escapement_domain::task::trigger::{Dst, Trigger};
use escapement_domain::timestamp::Timestamp;

/// Says how one line differs from what the evaluator answers; `None` if it does not.
fn difference(line: &str) -> Option<String> {
    let vector: serde_json::Value = serde_json::from_str(line).expect("each line is an object");
    let text = |key: &str| vector[key].as_str().expect("each value is a text").to_owned();
    let trigger = Trigger::Cron { expression: text("expr"), timezone: text("tz"), dst: Dst::default() };
    let expected: Vec<String> = vector["next"]
        .as_array()
        .expect("next is a list")
        .iter()
        .map(|instant| Timestamp::parse(instant.as_str().expect("a text")).expect("an instant").to_string())
        .collect();
    let from = Timestamp::parse(&text("from")).expect("an instant");
    let actual: Vec<String> = match Schedule::compile(&trigger, TaskId(0), from) {
        Ok(schedule) => {
            schedule.between(from, Timestamp::MAX).take(expected.len()).map(|next| next.to_string()).collect()
        }
        Err(error) => vec![error.to_string()],
    };
    (actual != expected).then(|| format!("{line}\n  answers {actual:?}"))
}

#[test]
fn every_vector_is_answered_as_debian_s_cron_would() {
    let differences: Vec<String> =
        include_str!("vectors/cron.jsonl").lines().filter_map(difference).collect();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}
