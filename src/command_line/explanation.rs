//! What `task next` and `task explain` print: fires to come on the task's own clock, and why one ran or did not.

use serde_json::Value;

use super::screen::{field, optional};
use super::table::{Sheet, Table};
use super::zone::Zone;

/// Shows when a task fires next.
pub(super) fn fires(next: &Value, _: Zone) -> String {
    occurrences(&next["occurrences"], &field(next, "/timezone"))
}

fn occurrences(occurrences: &Value, timezone: &str) -> String {
    let mut table = Table::new(["UTC", &format!("LOCAL ({timezone})"), ""]);
    for occurrence in occurrences.as_array().map_or(&[][..], Vec::as_slice) {
        table.row([field(occurrence, "/at"), field(occurrence, "/local"), optional(occurrence, "/note")]);
    }
    if table.is_empty() { "no fire is due\n".into() } else { table.to_string() }
}

/// Shows an explanation.
pub(super) fn explanation(told: &Value, _: Zone) -> String {
    let mut sheet = Sheet::default();
    sheet.line("fires", field(told, "/schedule"));
    sheet.line("state", field(told, "/state"));
    for (index, wait) in told["waits_for"].as_array().into_iter().flatten().enumerate() {
        sheet.line(if index == 0 { "now" } else { "and" }, field(wait, "/detail"));
    }
    let instant = &told["instant"];
    if !instant.is_null() {
        sheet.line("instant", format!("{} ({})", field(instant, "/at"), field(instant, "/local")));
        sheet.line("became", field(instant, "/status"));
        sheet.line("because", field(instant, "/explanation"));
        sheet.line("execution", optional(instant, "/execution_id"));
        sheet.line("log index", optional(instant, "/log_index"));
    }
    format!("{sheet}\n{}", occurrences(&told["next"], &field(told, "/timezone")))
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use serde_json::json;

    use super::*;

    const UTC: Zone = Zone(Tz::UTC);

    fn next() -> Value {
        json!([
            {"at": "2026-03-28T01:30:00.000Z", "local": "2026-03-28T02:30:00.000+01:00", "note": null},
            {"at": "2026-03-29T01:00:00.000Z", "local": "2026-03-29T03:00:00.000+02:00",
             "note": "clocks forward 1h on Mar 29 at 02:00"}])
    }

    const TABLE: &str = "\
UTC                       LOCAL (Europe/Berlin)
2026-03-28T01:30:00.000Z  2026-03-28T02:30:00.000+01:00
2026-03-29T01:00:00.000Z  2026-03-29T03:00:00.000+02:00  clocks forward 1h on Mar 29 at 02:00
";

    #[test]
    fn fires_to_come_are_shown_in_utc_and_on_the_tasks_clock() {
        assert_eq!(fires(&json!({"timezone": "Europe/Berlin", "occurrences": next()}), UTC), TABLE);
        assert_eq!(fires(&json!({"occurrences": []}), UTC), "no fire is due\n");
    }

    #[test]
    fn an_explanation_says_what_is_waited_for_and_what_became_of_an_instant() {
        let told = json!({
            "schedule": "at 02:30 every day, Berlin time", "timezone": "Europe/Berlin", "state": "active", "next": next(),
            "waits_for": [{"reason": "instant", "detail": "it waits for its next instant"},
                          {"reason": "running", "detail": "execution 7: attempt 1 runs"}],
            "instant": {"at": "2026-03-27T01:30:00.000Z", "local": "2026-03-27T02:30:00.000+01:00", "status": "skipped",
                        "explanation": "it was skipped: an earlier execution ran", "execution_id": null, "log_index": 7}});
        let expected = "\
fires      at 02:30 every day, Berlin time
state      active
now        it waits for its next instant
and        execution 7: attempt 1 runs
instant    2026-03-27T01:30:00.000Z (2026-03-27T02:30:00.000+01:00)
became     skipped
because    it was skipped: an earlier execution ran
log index  7
";
        assert_eq!(explanation(&told, UTC), format!("{expected}\n{TABLE}"));
    }
}
