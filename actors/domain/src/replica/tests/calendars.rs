//! What a calendar forbids is passed over with its reason, whenever that is decided, and never counted as missed.

use super::*;
use crate::schedule::calendar::{Calendar, CalendarMode};
use crate::task::definition::MisfirePolicy;

const DAY: i64 = 86_400_000;

fn calendar(days: &[&str]) -> Calendar {
    Calendar {
        description: String::new(),
        mode: CalendarMode::Exclude,
        timezone: None,
        days: days.iter().map(|days| days.parse().expect("days")).collect(),
        windows: Vec::new(),
    }
}

fn daily(calendars: &[&str], policy: MisfirePolicy) -> Definition {
    Definition {
        trigger: Trigger::Interval { every: Span::hours(24), anchor: Some(Timestamp(0)) },
        misfire: Misfire { policy, grace: Span::minutes(1), window: Span::hours(24 * 30) },
        calendars: calendars.iter().map(|name| (*name).to_owned()).collect(),
        ..definition()
    }
}

fn put(world: &mut World, name: &str, days: &[&str]) {
    let request = Request::PutCalendar { name: name.into(), calendar: calendar(days) };
    assert!(matches!(world.client(request), Ok(Accepted::Calendar { .. })));
}

/// A world in which the 3rd and 4th of January 1970 are holidays, and a task that is due every midnight from the 2nd.
fn world(policy: MisfirePolicy) -> (World, TaskId, Definition) {
    let mut world = World::new();
    put(&mut world, "holidays", &["1970-01-03/1970-01-04"]);
    let definition = daily(&["holidays"], policy);
    let task = world.create(1, &definition, Some(DAY));
    (world, task, definition)
}

#[test]
fn a_forbidden_instant_is_passed_over_when_it_comes() {
    let (mut world, task, definition) = world(MisfirePolicy::RunLatest);
    for (day, ran, passed_over) in [(1, true, 0), (2, false, 1), (3, false, 1), (4, true, 0)] {
        world.now = day * DAY;
        let expected = if ran { vec![day * DAY] } else { Vec::new() };
        assert_eq!(world.fire_due(task, &definition), (expected, passed_over), "day {day}");
    }
    let calendars: Vec<_> = world
        .records
        .iter()
        .filter_map(|record| match &record.event {
            Event::TaskSuppressed { calendar, count, .. } => Some((calendar.to_string(), *count)),
            _ => None,
        })
        .collect();
    assert_eq!(calendars, [("holidays".to_owned(), 1), ("holidays".to_owned(), 1)]);
}

#[test]
fn after_an_outage_forbidden_instants_are_not_missed_and_the_latest_allowed_is_run() {
    // The 2nd was missed, the 3rd and 4th are forbidden, and it is the 4th: the 2nd is the latest that is allowed.
    let (mut world, task, definition) = world(MisfirePolicy::RunLatest);
    world.now = 3 * DAY + 3_600_000;
    assert_eq!(world.fire_due(task, &definition), (vec![DAY], 2));
    assert_eq!(world.count(|event| matches!(event, Event::TaskMissed { .. })), 0);
}

#[test]
fn runs_of_missed_and_of_forbidden_instants_alternate_in_order() {
    let (mut world, task, definition) = world(MisfirePolicy::Skip);
    world.now = 6 * DAY + 3_600_000;
    assert_eq!(world.fire_due(task, &definition), (Vec::new(), 6));
    let runs: Vec<_> = world
        .records
        .iter()
        .filter_map(|record| match &record.event {
            Event::TaskMissed { first, last, count, .. } => {
                Some(("missed", first.0 / DAY, last.0 / DAY, *count))
            }
            Event::TaskSuppressed { first, last, count, .. } => {
                Some(("forbidden", first.0 / DAY, last.0 / DAY, *count))
            }
            _ => None,
        })
        .collect();
    assert_eq!(runs, [("missed", 1, 1, 1), ("forbidden", 2, 3, 2), ("missed", 4, 6, 3)]);
}

#[test]
fn what_was_planned_before_a_calendar_changed_comes_to_nothing() {
    let (mut world, task, definition) = world(MisfirePolicy::RunLatest);
    world.now = DAY;
    let stale = world.due(task, DAY, Some(2 * DAY));
    let stale = Due { revision: world.replica.revision(world.task(task)), ..stale };
    put(&mut world, "holidays", &["1970-01-02"]);
    assert_eq!(world.fire_item(stale), (0, 0, 1));
    assert_eq!(world.fire_due(task, &definition), (Vec::new(), 1));
}

#[test]
fn another_tenants_calendar_changes_nothing() {
    let (mut world, task, _) = world(MisfirePolicy::RunLatest);
    let revision = world.replica.revision(world.task(task));
    let request = Request::PutCalendar { name: "holidays".into(), calendar: calendar(&["01-01"]) };
    let command = world.client_command("rival", request);
    world.apply(&command);
    assert_eq!(world.replica.revision(world.task(task)), revision);
}

#[test]
fn a_calendar_that_tasks_name_cannot_be_deleted() {
    let (mut world, task, _) = world(MisfirePolicy::RunLatest);
    let delete = |world: &mut World| world.client(Request::DeleteCalendar { name: "holidays".into() });
    let in_use = Rejection::CalendarInUse { name: "holidays".into(), tasks: 1 };
    assert_eq!(delete(&mut world), Err(in_use));
    world.client(Request::DeleteTask { task, expected_version: None }).expect("nothing is due");
    assert_eq!(delete(&mut world), Ok(Accepted::Done));
    let gone = Rejection::NoSuchCalendar { name: "holidays".into() };
    assert_eq!(delete(&mut world), Err(gone));
}

#[test]
fn a_task_names_only_calendars_that_are_there() {
    let (mut world, _, _) = world(MisfirePolicy::RunLatest);
    let unknown = Rejection::MissingCalendars { names: vec!["nights".into(), "lunch".into()] };
    let new = new_task(2, &daily(&["nights", "holidays", "lunch"], MisfirePolicy::Skip), Some(DAY));
    let created = world.client(Request::CreateTasks(vec![new]));
    assert_eq!(created, Ok(Accepted::Tasks(vec![Err(unknown)])));
}

#[test]
fn the_same_calendar_put_again_changes_nothing() {
    let mut world = World::new();
    let versions: Vec<_> = [&["12-25"], &["12-25"], &["12-26"]]
        .into_iter()
        .map(|days| {
            let request = Request::PutCalendar { name: "holidays".into(), calendar: calendar(days) };
            world.client(request).expect("put")
        })
        .collect();
    assert_eq!(versions, [1, 1, 2].map(|version| Accepted::Calendar { version }));
}

#[test]
fn calendars_and_what_names_them_survive_a_snapshot() {
    let (mut world, _, _) = world(MisfirePolicy::RunLatest);
    let mut bytes = Vec::new();
    world.replica.freeze().write_to(&mut bytes).expect("memory");
    let restored = Replica::restore(&mut bytes.as_slice()).expect("readable");
    assert_eq!(restored.state_hash(), world.replica.state_hash());
    assert_eq!(restored.calendars().users(world.tenant(), "holidays"), 1);
    world.replica = restored;
    let in_use = world.client(Request::DeleteCalendar { name: "holidays".into() });
    assert!(matches!(in_use, Err(Rejection::CalendarInUse { .. })));
}
