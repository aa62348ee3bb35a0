//! The two nights of the year when clocks change, and the day after an outage: lived through by the real program.
//!
//! libfaketime gives the program a wall clock that stands a few seconds before what is waited for.

use serde_json::{Value, json};

use escapement_domain::timestamp::Timestamp;

use crate::campaign::skip;
use crate::clocks::Clocks;
use crate::harness::api::{Api, items};
use crate::harness::cluster::Hosts as _;
use crate::harness::definitions::{every_second, executions, noop, with};
use crate::harness::development::Development;
use crate::harness::wait::{millis, now_ms, until};

/// A node that lives at another time.
struct Elsewhen {
    clocks: Clocks,
    development: Development,
}

impl Elsewhen {
    /// Starts a node, unless this machine cannot move its clock.
    fn start(name: &str, at: &str) -> Option<Self> {
        match Clocks::new() {
            Ok(clocks) => {
                turn(&clocks, at);
                let development = Development::start_as(|command| clocks.dress(1, command));
                Some(Self { clocks, development })
            }
            Err(reason) => {
                skip(name, &reason);
                None
            }
        }
    }

    /// Ends the node at once, and starts it again at a later time.
    fn go_on_at(&mut self, at: &str) {
        self.development.node.kill();
        turn(&self.clocks, at);
        self.development.restart_as(|command| self.clocks.dress(1, command));
    }

    fn api(&self) -> Api {
        self.development.api()
    }

    /// Creates a task by Berlin's clock.
    fn by_berlin(&self, expression: &str, dst: Value) -> String {
        let trigger =
            json!({ "type": "cron", "expression": expression, "timezone": "Europe/Berlin", "dst": dst });
        self.api().create_id(&noop(expression, &trigger))
    }

    /// The times of day, by UTC, that ran of a task.
    fn ran(&self, task: &str) -> Vec<String> {
        let ended = executions(&self.api(), task).into_iter().filter(|one| one["status"] == "succeeded");
        let mut instants: Vec<String> =
            ended.filter_map(|one| Some(one["scheduled_at"].as_str()?[11..16].to_owned())).collect();
        instants.sort_unstable();
        instants
    }
}

/// Turns the clock to a time.
fn turn(clocks: &Clocks, at: &str) {
    let ahead = Timestamp::parse(at).expect("RFC 3339").0 - now_ms();
    clocks.set(1, &format!("+{}s", ahead / 1_000));
}

#[test]
fn a_night_that_lacks_an_hour_is_lived_through_as_each_task_chose() {
    // In Berlin 02:00 becomes 03:00, at 01:00 by UTC.
    let Some(mut night) = Elsewhen::start("the night without an hour", "2037-03-29T00:59:55Z") else {
        return;
    };
    let [cron, skip, shift] =
        ["cron", "skip", "shift"].map(|gap| night.by_berlin("30 2 * * *", json!({ "gap": gap })));
    let wildcard = night.by_berlin("*/30 2 * * *", json!({}));
    until("the first minute after the gap has come", || !night.ran(&cron).is_empty());
    night.go_on_at("2037-03-29T01:29:56Z");
    until("the shifted time has come", || !night.ran(&shift).is_empty());
    let ran = [&cron, &skip, &shift, &wildcard].map(|task| night.ran(task).join(" "));
    assert_eq!(ran, ["01:00", "", "01:30", ""]);
}

#[test]
fn a_night_that_has_an_hour_twice_is_lived_through_as_each_task_chose() {
    // In Berlin 03:00 becomes 02:00, at 01:00 by UTC.
    let Some(mut night) = Elsewhen::start("the night with an hour twice", "2037-10-25T00:29:55Z") else {
        return;
    };
    let [cron, first, second, both] = ["cron", "first", "second", "both"]
        .map(|fold| night.by_berlin("30 2 * * *", json!({ "fold": fold })));
    let wildcard = night.by_berlin("30 * * * *", json!({}));
    until("half past two has come", || !night.ran(&both).is_empty() && !night.ran(&wildcard).is_empty());
    night.go_on_at("2037-10-25T01:29:56Z");
    until("half past two has come again", || !night.ran(&second).is_empty() && night.ran(&both).len() == 2);
    until("the wildcard ran again", || night.ran(&wildcard).len() == 2);
    let ran = [&cron, &first, &second, &both, &wildcard].map(|task| night.ran(task).join(" "));
    assert_eq!(ran, ["00:30", "00:30", "01:30", "00:30 01:30", "00:30 01:30"]);
}

/// Ten thousand instants of each task pass while no node is up.
#[test]
fn thousands_of_missed_instants_are_one_event_with_a_range_and_a_count() {
    let begin = "2037-06-01T12:00:00Z";
    let Some(mut outage) = Elsewhen::start("thousands of missed instants", begin) else { return };
    let create = |policy: &str| {
        let misfire = json!({ "policy": policy, "grace": "1s", "window": "5s" });
        let task = with(noop(policy, &every_second()), json!({ "misfire": misfire, "overlap": "allow" }));
        outage.api().create_id(&task)
    };
    let tasks = ["skip", "run_latest", "run_all"].map(create);
    tasks.iter().for_each(|task| until("it runs", || !outage.ran(task).is_empty()));
    outage.go_on_at("2037-06-01T15:00:00Z");
    let again = Timestamp::parse("2037-06-01T15:00:00Z").expect("RFC 3339").0;
    for task in &tasks {
        let fired = || -> Vec<i64> {
            executions(&outage.api(), task).iter().map(|one| millis(&one["scheduled_at"])).collect()
        };
        until("it runs again", || fired().iter().any(|instant| *instant > again));
        let events = items(&outage.api().get(&format!("/api/scheduled-tasks/{task}/events?limit=1000")));
        let missed: Vec<&Value> =
            events.iter().filter(|event| event["type"] == "TaskMissed").map(|event| &event["data"]).collect();
        assert_eq!(missed.len(), 1, "{missed:?}");
        let (first, last) = (millis(&missed[0]["first"]), millis(&missed[0]["last"]));
        let count = missed[0]["count"].as_i64().expect("a count");
        assert!(count > 10_000 && count == (last - first) / 1_000 + 1, "{missed:?}");
        // Before it and after it no instant is left out, and none within it ran.
        let fired = fired();
        let ran = |instant: i64| fired.contains(&instant);
        assert!(ran(first - 1_000) && ran(last + 1_000) && !(first..=last).step_by(1_000).any(ran));
    }
}
