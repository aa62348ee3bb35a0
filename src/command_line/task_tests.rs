//! What `task` prints of the API's answers.

use chrono_tz::Tz;
use serde_json::json;

use super::*;

const UTC: Zone = Zone(Tz::UTC);

fn task() -> Value {
    json!({
        "id": "01900000-0000-7000-8000-000000000001", "name": "nightly", "description": "", "kind": "report",
        "state": "active", "trigger": {"type": "cron", "expression": "0 2 * * 1-5", "timezone": "Europe/Berlin"},
        "action": {"type": "builtin", "operation": "noop"}, "labels": {"team": "qa", "tier": "1"}, "calendars": [],
        "version": 3, "next_fire_at": "2026-03-02T01:00:00.000Z", "last_execution": null, "max_runs": null
    })
}

#[test]
fn a_list_shows_what_is_due_when() {
    let expected = "\
ID                                    NAME     STATE   TRIGGER                         NEXT FIRE (Europe/Berlin)  LAST
01900000-0000-7000-8000-000000000001  nightly  active  cron 0 2 * * 1-5 Europe/Berlin  2026-03-02 02:00:00        -
";
    assert_eq!(table(&[task()], Zone(Tz::Europe__Berlin)), expected);
    assert!(table(&[], UTC).contains("escapement task create"));
}

#[test]
fn a_sheet_leaves_out_what_is_not_set() {
    let sheet = sheet(&task(), UTC);
    assert!(sheet.contains("labels     team=qa,tier=1\n"), "{sheet}");
    assert!(sheet.contains("next fire  2026-03-02 01:00:00.000 +00:00\n"), "{sheet}");
    for absent in ["description", "calendars", "runs at most", "last execution"] {
        assert!(!sheet.contains(absent), "{absent}\n{sheet}");
    }
}

#[test]
fn a_change_is_told_in_one_line() {
    let expected = "created task 01900000-0000-7000-8000-000000000001 (nightly), version 3, fires next at 2026-03-02 01:00:00 (UTC)\n";
    assert_eq!(changed("created", &task(), UTC), expected);
    assert!(changed("created", &json!({"id": "x"}), UTC).ends_with("no fire is due\n"));
}

#[test]
fn kinds_and_states_are_spelt_as_the_api_spells_them() {
    assert_eq!(word(&Kind::TestExecution), "test_execution");
    assert_eq!(word(&State::Finished), "finished");
}
