//! The account against the real thing: tasks that live through random changes on a node whose fires are all settled in time
//! owe nothing. Whatever the account finds amiss is a fault of one of the two.

use escapement_domain::command::{Programs, Request};
use escapement_domain::identifier::TaskId;
use escapement_domain::task::plan::{self, Delay, Timetable};
use escapement_domain::timestamp::{Span, Timestamp};
use serde_json::json;

use super::{FireReason, FireStatus, Range, Totals};
use crate::security::Role;
use crate::service::fires::FiresQuery;
use crate::service::testing::{NOW, TestNode, caller};
use crate::service::{Caller, ServiceError, json as text};

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

/// Settles everything that is due, as the wheel would.
fn settle(node: &TestNode) {
    let now = node.service.now();
    loop {
        let due = node.machine.read(|replica| {
            let mut due = Vec::new();
            for task in replica.tasks().iter() {
                let definition = task.definition.open_definition().expect("readable");
                let calendars = replica.calendars().named_by(task);
                let timetable = Timetable::compile(&definition, task.id, task.created_at, calendars);
                let revision = replica.revision(task);
                due.extend(plan::due(task, revision, &timetable.expect("sound"), now, Delay::Jittered, 100));
            }
            due
        });
        if due.is_empty() {
            return;
        }
        node.scheduler(Request::Fire(due));
    }
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
    let done: Result<(), ServiceError> = match choices.below(8) {
        0 => node.service.pause_task(ada, task).await.map(drop),
        1 | 2 => node.service.resume_task(ada, task).await.map(drop),
        3 => {
            let written = definition(choices, node.service.now());
            let node_of = text::parse(written.as_bytes()).expect("JSON");
            match node.service.check_new(node_of, "") {
                Ok(checked) => node.service.update_task(ada, task, None, checked).await.map(drop),
                Err(faults) => panic!("{faults:?} in {written}"),
            }
        }
        4 if choices.below(6) == 0 => {
            node.service.delete_task(ada, task, None).await.expect("deleted");
            return false;
        }
        _ => Ok(()),
    };
    match done {
        Ok(()) | Err(ServiceError::Rejected(_) | ServiceError::Invalid { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

/// Lives through a row of changes; returns how many instants became what.
async fn live(seed: u64) -> Totals {
    let (node, mut choices) = (TestNode::start(), Choices(seed));
    node.worker(Programs::Any);
    let ada = caller("ada", "acme", &[Role::Admin]);
    let mut tasks = Vec::new();
    for _ in 0..40 {
        node.advance(i64::try_from(choices.below(600_000)).expect("small"));
        settle(&node);
        end_some(&node, &mut choices);
        if tasks.len() < 3 {
            let written = definition(&mut choices, node.service.now());
            let checked = node.service.check_new(text::parse(written.as_bytes()).expect("JSON"), "");
            let created = node.service.create_task(&ada, checked.expect("sound")).await.expect("created");
            tasks.push(created.id);
        }
        let mut left = Vec::new();
        for task in tasks {
            if change(&node, &ada, task, &mut choices).await {
                left.push(task);
            }
        }
        tasks = left;
        settle(&node);
    }
    let range = Range { from: NOW.minus(Span::hours(1)), to: node.service.now().plus(Span::hours(1)) };
    let query = FiresQuery { range, task: None, after: None, limit: 100_000 };
    let page = node.service.audit_fires(&ada, None, &query).await.expect("an account");
    let amiss = page
        .fires
        .iter()
        .filter(|fire| fire.status == FireStatus::Unexpected || fire.reason == Some(FireReason::Unsettled));
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
    page.totals
}

#[actix_web::test]
async fn tasks_whose_fires_are_settled_in_time_owe_nothing() {
    let mut seen = [0; FireStatus::ALL.len()];
    for seed in 0..SEEDS {
        let totals = live(seed).await;
        for (count, status) in seen.iter_mut().zip(FireStatus::ALL) {
            *count += totals.count(status);
        }
    }
    // Nothing would be proved if nothing had happened.
    for (count, status) in seen.into_iter().zip(FireStatus::ALL) {
        let wanted = !matches!(status, FireStatus::Unexpected);
        assert_eq!(count > 0, wanted, "{} {}", status.name(), count);
    }
}
