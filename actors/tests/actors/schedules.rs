//! Calendars, occurrences changed by hand, backfills, newer zone data and catching up, from a client's wish to the fire.

use std::time::Duration;

use escapement_actors::intent::{Intent, SubmitError};
use escapement_domain::answer::Accepted;
use escapement_domain::command::{Change, Command, NewTask, Origin, Request};
use escapement_domain::execution::state::Occurrence;
use escapement_domain::identifier::TaskId;
use escapement_domain::schedule::calendar::{Calendar, CalendarMode};
use escapement_domain::task::definition::{Definition, Misfire, MisfirePolicy, Overlap};
use escapement_domain::task::rules::Rules;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::{Span, Timestamp};

use crate::cast::{Cast, at, every, noop};
use crate::stage::{BEGIN, play, until};

fn side_by_side(seconds: u64) -> Definition {
    Definition { overlap: Overlap::Allow, ..noop(every(seconds)) }
}

async fn carry(cast: &Cast, intent: Intent) -> Accepted {
    cast.submit(1, intent).await.expect("node 1 leads").outcome.expect("it is allowed")
}

fn instants(cast: &Cast) -> Vec<(Timestamp, Timestamp)> {
    let mut found: Vec<_> = cast.open().iter().map(|open| (open.scheduled_at, open.fired_at)).collect();
    found.sort_unstable();
    found
}

#[test]
fn what_a_calendar_forbids_is_passed_over_until_it_is_changed() {
    play(async {
        let cast = Cast::new(1, &[]);
        let always = |mode| Calendar {
            description: String::new(),
            mode,
            timezone: None,
            days: vec!["01-01/12-31".parse().expect("days")],
            windows: Vec::new(),
        };
        let put = |mode| Intent::PutCalendar { name: "always".into(), calendar: always(mode) };
        carry(&cast, put(CalendarMode::Exclude)).await;
        let task = cast.create(7, Definition { calendars: vec!["always".into()], ..side_by_side(10) }).await;
        until(|| cast.task(task).is_some_and(|task| task.settled >= at(30))).await;
        assert!(cast.open().is_empty());
        carry(&cast, put(CalendarMode::Only)).await;
        until(|| !cast.open().is_empty()).await;
        assert!(instants(&cast)[0].0 <= at(50), "{:?}", instants(&cast));
    });
}

#[test]
fn occurrences_are_skipped_and_moved_by_hand() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, side_by_side(10)).await;
        for (instant, change) in
            [(20, Change::Skip), (30, Change::Move { to: at(5) }), (40, Change::Move { to: at(55) })]
        {
            carry(&cast, Intent::ChangeOccurrence { task, at: at(instant), change }).await;
        }
        until(|| cast.task(task).is_some_and(|task| task.settled >= at(60))).await;
        let found: Vec<Timestamp> = instants(&cast).into_iter().map(|(scheduled, _)| scheduled).collect();
        assert_eq!(found, [5, 10, 50, 55, 60].map(at));
        assert!(instants(&cast).iter().all(|(scheduled, fired)| (0..=5).contains(&(fired.0 - scheduled.0))));
        assert!(cast.open().iter().any(|open| open.occurrence == Occurrence::Moved(at(30))));
    });
}

#[test]
fn an_instant_that_is_none_is_refused_with_the_next_that_is_one() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, side_by_side(10)).await;
        let refused =
            cast.submit(1, Intent::ChangeOccurrence { task, at: at(15), change: Change::Skip }).await;
        let Err(SubmitError::Unschedulable { pointer, detail }) = refused else { panic!("{refused:?}") };
        assert_eq!(&*pointer, "/at");
        assert!(detail.contains(&at(20).to_string()), "{detail}");
    });
}

#[test]
fn a_backfill_is_of_a_range_of_the_past_that_holds_occurrences() {
    play(async {
        let cast = Cast::new(1, &[]);
        let task = cast.create(7, Definition { overlap: Overlap::Skip, ..noop(every(3_600)) }).await;
        let backfill = |from: Timestamp, to: Timestamp| Intent::Backfill { task, from, to, concurrency: 3 };
        let hours = |hours: i64| Timestamp(BEGIN.0 - hours * 3_600_000);
        let Accepted::Backfill { total, .. } = carry(&cast, backfill(hours(5), hours(1))).await else {
            panic!("a backfill begins");
        };
        assert_eq!(total, 5);
        let found: Vec<Timestamp> = instants(&cast).into_iter().map(|(scheduled, _)| scheduled).collect();
        assert_eq!(found, [hours(5), hours(4), hours(3)]);
        for (from, to, pointer) in [
            (hours(1), hours(2), "/from"),
            (hours(1), hours(-1), "/to"),
            (hours(2).plus(Span(1)), hours(1).minus(Span(1)), "/from"),
            (Timestamp(0), hours(1), "/to"),
        ] {
            match cast.submit(1, backfill(from, to)).await {
                Err(SubmitError::Unschedulable { pointer: found, .. }) => assert_eq!(&*found, pointer),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_leader_with_newer_zone_data_plans_every_task_anew_also_what_one_with_older_data_planned_since() {
    play(async {
        let cast = Cast::new(2, &[]);
        let version = || cast.shared.machine.read(|replica| replica.zone_data().to_string());
        until(|| !version().is_empty()).await;
        let definition = side_by_side(3_600);
        // As if zone data of old had named another instant.
        let misplanned = |id| NewTask {
            task: TaskId(id),
            rules: Box::new(Rules::of(&definition)),
            definition: Sealed::definition(&definition),
            created_at: BEGIN,
            next: Some(at(5_400)),
            paused: false,
        };
        let create = |id: u128| {
            let request = Request::CreateTasks(vec![misplanned(id)]);
            let command = Command { stamp: BEGIN.into(), origin: Origin::Client(cast.client()), request };
            assert!(cast.shared.apply(&command.encode()).outcome.is_ok());
        };
        (1..=600).for_each(create);
        let next = |id| cast.task(TaskId(id)).and_then(|task| task.next);
        let older = version();
        cast.lead(2, 2);
        until(|| version() != older).await;
        assert!((1..=600).all(|id| next(id) == Some(at(3_600))));
        create(601);
        cast.lead(1, 3);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(next(601), Some(at(5_400)), "an older version plans nothing anew");
        cast.lead(2, 4);
        until(|| next(601) == Some(at(3_600))).await;
    });
}

#[test]
fn what_is_made_good_after_an_outage_comes_in_a_row() {
    play(async {
        let cast = Cast::new(2, &[]);
        let misfire =
            Misfire { policy: MisfirePolicy::RunLatest, grace: Span::seconds(5), window: Span::hours(1) };
        for id in 1..=2_000 {
            cast.create(id, Definition { misfire, ..side_by_side(600) }).await;
        }
        cast.nodes[&1].log.behave(|conduct| conduct.lossy = usize::MAX);
        tokio::time::sleep(Duration::from_secs(650)).await;
        let back = cast.nodes[&1].clock.clone();
        let begin = escapement_actors::ports::Clock::now(&*back);
        cast.lead(2, 2);
        cast.nodes[&1].log.behave(|conduct| conduct.lossy = 0);
        until(|| cast.open().len() == 2_000).await;
        let fired: Vec<i64> = instants(&cast).iter().map(|(_, fired)| fired.0 - begin.0).collect();
        let within = |millis: i64| fired.iter().filter(|after| **after <= millis).count();
        assert!(within(500) <= 600, "{} in the first half second", within(500));
        assert!(within(2_500) == 2_000, "{} in two and a half", within(2_500));
    });
}
