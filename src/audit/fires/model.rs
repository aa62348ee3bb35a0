//! The account against the real thing: tasks that live through random changes on a node whose fires are all settled in time
//! owe nothing. Whatever the account finds amiss is a fault of one of the two.

use escapement_actors::intent::Intent;
use escapement_domain::command::{Change, Programs};
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::calendar::{Calendar, CalendarMode};
use escapement_domain::timestamp::{Span, Timestamp};
use serde_json::json;

use super::{Fire, FireStatus, Range, Totals};
use crate::json as text;
use crate::security::Role;
use crate::service::fires::FiresQuery;
use crate::service::testing::{NOW, TestNode, caller, timetable_of};
use crate::service::validation::Checked;
use crate::service::{Caller, ServiceError};

/// Lives that are lived.
const SEEDS: u64 = 60;

/// A generator of choices: the same seed makes the same life.
struct Choices(u64);

impl Choices {
    fn below(&mut self, choices: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % choices
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("few")]
    }
}

/// Some task.
fn definition(choices: &mut Choices, now: Timestamp) -> String {
    let minutes = 1 + choices.below(20);
    let trigger = match choices.below(5) {
        0 => json!({ "type": "interval", "every": format!("{minutes}m") }),
        1 => json!({ "type": "cron", "expression": format!("*/{minutes} * * * *") }),
        2 => json!({ "type": "cron", "expression": "7,37 * * * *", "timezone": "Asia/Kathmandu" }),
        3 => json!({ "type": "once", "at": now.plus(Span::minutes(minutes)).to_string() }),
        _ => json!({ "type": "once", "at": now.minus(Span::minutes(minutes)).to_string(), "if_past": "run" }),
    };
    let max_runs = choices.of(&[None, None, Some(1), Some(4)]);
    let end_at = choices.of(&[None, None, Some(90_u64)]).map(|end| now.plus(Span::minutes(end)).to_string());
    json!({
        "name": "n", "trigger": trigger, "action": { "type": "builtin", "operation": "noop" },
        "overlap": choices.of(&["skip", "queue_one", "allow"]),
        "misfire": { "policy": choices.of(&["skip", "run_latest", "run_all"]), "grace": "1m", "window": "30m" },
        "jitter": choices.of(&["0s", "0s", "90s"]), "max_runs": max_runs, "end_at": end_at,
    })
    .to_string()
}

/// Some task, checked, which may name calendars that are there.
fn checked(node: &TestNode, choices: &mut Choices) -> Checked {
    let written = definition(choices, node.service.now());
    let mut checked = match node.service.check_new(
        &caller("ada", "acme", &[Role::Admin]),
        text::parse(written.as_bytes()).expect("JSON"),
        "",
    ) {
        Ok(checked) => checked,
        Err(faults) => panic!("{faults:?} in {written}"),
    };
    let there = node.machine.read(|replica| {
        let tenant = replica.tenant_number("acme");
        let named = tenant.into_iter().flat_map(|tenant| replica.calendars().of(tenant));
        named.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    });
    checked.definition.calendars = there.into_iter().filter(|_| choices.below(3) == 0).collect();
    checked
}

/// Some calendar that is new or another one now, or gone.
fn on_a_calendar(choices: &mut Choices) -> Intent {
    let name = choices.of(&["lunch", "night"]).into();
    if choices.below(5) == 0 {
        return Intent::DeleteCalendar { name };
    }
    let mode = choices.of(&[CalendarMode::Exclude, CalendarMode::Exclude, CalendarMode::Only]);
    let windows = ["12:30-13:10", "13:00-15:00", "20:00-21:00 Asia/Kathmandu", "Sun 15:30-Mon 02:00"];
    let windows = vec![choices.of(&windows).parse().expect("a window")];
    let calendar = Calendar { description: String::new(), mode, timezone: None, days: Vec::new(), windows };
    Intent::PutCalendar { name, calendar }
}

/// Something about one occurrence of a task, which may have been changed before.
fn on_an_occurrence(node: &TestNode, task: TaskId, choices: &mut Choices) -> Option<Intent> {
    let (coming, changed) = node.machine.read(|replica| {
        let task = replica.tasks().iter().find(|other| other.id == task).expect("there");
        let timetable = timetable_of(task, replica);
        let coming = std::iter::successors(task.next, |at| timetable.next_after(*at)).take(4);
        (coming.collect::<Vec<_>>(), task.overrides.keys().copied().collect::<Vec<_>>())
    });
    let among = if choices.below(2) == 0 && !changed.is_empty() { changed } else { coming };
    let at = (!among.is_empty()).then(|| choices.of(&among))?;
    let to = Timestamp(node.service.now().0 + 60_000 * i64::try_from(choices.below(60)).expect("small"));
    let change = choices.of(&[Change::Skip, Change::Move { to }, Change::Move { to }, Change::Restore]);
    Some(Intent::ChangeOccurrence { task, at, change })
}

/// Ends some of what runs.
fn end_some(node: &TestNode, choices: &mut Choices) {
    let running = node.machine.read(|replica| {
        let open = replica.executions().values().filter(|open| open.grant().is_some());
        open.map(|open| open.id).collect::<Vec<_>>()
    });
    running.into_iter().filter(|_| choices.below(2) == 0).for_each(|id| node.succeed(id));
}

/// Does something to a task, and says whether there is one still.
async fn change(node: &TestNode, ada: &Caller, task: TaskId, choices: &mut Choices) -> bool {
    let done: Result<(), ServiceError> = match choices.below(12) {
        0 => node.service.pause_task(ada, task).await.map(drop),
        1 | 2 => node.service.resume_task(ada, task).await.map(drop),
        3 => {
            let checked = checked(node, choices);
            node.service.update_task(ada, task, None, checked).await.map(drop)
        }
        5..=7 => match on_an_occurrence(node, task, choices) {
            Some(intent) => node.carry_out(ada, intent).await,
            None => Ok(()),
        },
        8 => {
            let to = node.service.now();
            let (from, concurrency) = (to.minus(Span::minutes(choices.below(90))), 2);
            node.carry_out(ada, Intent::Backfill { task, from, to, concurrency }).await
        }
        4 if choices.below(6) == 0 => {
            node.service.delete_task(ada, task, None).await.expect("deleted");
            return false;
        }
        _ => Ok(()),
    };
    refusable(done);
    true
}

/// A refusal changes nothing, and is none of the account's.
fn refusable(done: Result<(), ServiceError>) {
    match done {
        Ok(())
        | Err(
            ServiceError::Rejected(_) | ServiceError::Invalid { .. } | ServiceError::NoSuchCalendar { .. },
        ) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Lives through a row of changes; returns what became of every instant.
async fn live(seed: u64) -> Vec<Fire> {
    let (node, mut choices) = (TestNode::start(), Choices(seed));
    node.worker(Programs::Any);
    let ada = caller("ada", "acme", &[Role::Admin]);
    let mut tasks = Vec::new();
    for _ in 0..40 {
        node.advance(i64::try_from(choices.below(600_000)).expect("small"));
        node.settle();
        end_some(&node, &mut choices);
        if tasks.len() < 3 {
            let checked = checked(&node, &mut choices);
            tasks.push(node.service.create_task(&ada, checked).await.expect("created").id);
        }
        if choices.below(4) == 0 {
            refusable(node.carry_out(&ada, on_a_calendar(&mut choices)).await);
        }
        let mut left = Vec::new();
        for task in tasks {
            if change(&node, &ada, task, &mut choices).await {
                left.push(task);
            }
        }
        tasks = left;
        node.settle();
    }
    let range = Range { from: NOW.minus(Span::hours(1)), to: node.service.now().plus(Span::hours(1)) };
    let query = FiresQuery { range, task: None, after: None, limit: 100_000 };
    let page = node.service.audit_fires(&ada, None, &query).await.expect("an account");
    let amiss = page.fires.iter().filter(|fire| fire.is_amiss());
    let amiss: Vec<String> = amiss.map(|fire| format!("{fire:?}")).collect();
    assert!(amiss.is_empty(), "seed {seed}:\n{}", amiss.join("\n"));
    // What is pending to come is what the tasks themselves name next.
    for task in tasks {
        let (_, next) = node.service.next_fires(&ada, task, 1).await.expect("there");
        let pending = page
            .fires
            .iter()
            .find(|fire| fire.task == task && fire.status == FireStatus::Pending && fire.reason.is_none());
        let next = next.first().map(|next| next.at).filter(|next| range.holds(*next));
        assert_eq!(pending.map(|fire| fire.at), next, "seed {seed}, task {task}");
    }
    page.fires
}

#[actix_web::test]
async fn tasks_whose_fires_are_settled_in_time_owe_nothing() {
    let mut fires = Vec::new();
    for seed in 0..SEEDS {
        fires.extend(live(seed).await);
    }
    // Nothing would be proved if nothing had happened.
    let totals = Totals::of(&fires);
    for status in FireStatus::ALL {
        let wanted = status != FireStatus::Unexpected;
        assert_eq!(totals.count(status) > 0, wanted, "{} {}", status.name(), totals.count(status));
    }
    for reason in ["calendar", "by_hand", "moved", "paused", "overlap", "made_good", "passed_over"] {
        let because = |fire: &&Fire| fire.reason.as_ref().is_some_and(|because| because.name() == reason);
        assert!(fires.iter().filter(because).any(|fire| fire.settled.is_some()), "{reason}");
    }
    for status in [FireStatus::Late, FireStatus::Skipped, FireStatus::Missed] {
        let moved = |fire: &Fire| fire.moved_from.is_some() && fire.status == status;
        assert!(fires.iter().any(moved), "moved and {}", status.name());
    }
}
