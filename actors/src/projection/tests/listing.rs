//! Lists are newest first and complete, wherever the rows are; streams are oldest first.

use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::task::definition::Definition;
use escapement_domain::timestamp::{Span, Timestamp};

use super::*;

fn twice(definition: &Definition) -> impl FnOnce(&mut World) + '_ {
    move |world| {
        world.join(64);
        world.create("acme", 1, definition);
        world.create("acme", 2, definition);
    }
}

fn all(projections: &Projections, query: ExecutionQuery) -> Vec<ExecutionId> {
    let (mut query, mut found) = (query, Vec::new());
    loop {
        let page = projections.executions(ACME, &query).expect("memory");
        assert!(page.items.len() <= query.limit);
        found.extend(page.items.iter().map(|row| row.id));
        match page.next {
            Some(next) => query.before = Some(next),
            None => return found,
        }
    }
}

#[test]
fn lists_are_complete_across_memory_and_storage() {
    local(async {
        let mut world = World::default();
        let storage = Arc::new(FakeStorage::default());
        let projections = Projections::start(world.machine.clone(), storage.clone()).expect("empty");
        twice(&world::definition())(&mut world);
        for round in 0..40 {
            world.fire(ACME, 1 + round % 2, 0);
            if round % 3 == 0 {
                world.complete_all();
            }
            if round == 20 {
                projections.synced(world.machine.applied()).await.expect("written");
            }
        }
        projections.wait_folded(world.machine.applied()).await.expect("folded");
        assert!(projections.backlog() > 0, "some of it is in memory only");
        for limit in [1, 3, 7, 1_000] {
            let found = all(&projections, ExecutionQuery::newest(limit));
            assert_eq!(found.len(), 40, "each once, {limit} at a time");
            assert!(found.is_sorted_by(|newer, older| newer > older), "newest first");
            let of_task = ExecutionQuery { task: Some(TaskId(1)), ..ExecutionQuery::newest(limit) };
            assert_eq!(all(&projections, of_task).len(), 20);
            let by_status = |status| {
                let query = ExecutionQuery { status: Some(status), ..ExecutionQuery::newest(limit) };
                all(&projections, query).len()
            };
            assert_eq!(by_status(Status::Running) + by_status(Status::Succeeded), 40);
            assert_eq!(by_status(Status::Running), world.open().len());
            let both = ExecutionQuery {
                task: Some(TaskId(2)),
                status: Some(Status::Succeeded),
                ..ExecutionQuery::newest(limit)
            };
            assert!(!all(&projections, both).is_empty());
        }
        let rows = projections.executions(ACME, &ExecutionQuery::newest(100)).expect("memory").items;
        let (from, to) = (rows[30].scheduled_at, rows[10].scheduled_at);
        let between = ExecutionQuery { from: Some(from), to: Some(to), ..ExecutionQuery::newest(4) };
        let expected: Vec<_> = rows
            .iter()
            .filter(|row| from <= row.scheduled_at && row.scheduled_at < to)
            .map(|row| world::name(row))
            .collect();
        assert_eq!(all(&projections, between), expected);
    });
}

#[test]
fn a_stream_of_many_events_is_paged_oldest_first() {
    local(async {
        let mut world = World::default();
        let projections =
            Projections::start(world.machine.clone(), Arc::new(FakeStorage::default())).expect("empty");
        twice(&world::definition())(&mut world);
        for round in 0..500 {
            world.fire(ACME, 1, 0);
            world.fire(ACME, 2, 0);
            world.complete_all();
            if round == 250 {
                projections.synced(world.machine.applied()).await.expect("written");
            }
        }
        projections.wait_folded(world.machine.applied()).await.expect("folded");
        let head = world.stream(ACME, 1);
        assert!(head.length > 1_000, "{head:?}");
        for limit in [7, 256, 1_000] {
            let (mut after, mut positions) = (0, Vec::new());
            loop {
                let page = projections.stream(ACME, TaskId(1), head, after, limit).expect("threaded");
                for record in &page.records {
                    assert_eq!(record.event.task(), Some(TaskId(1)));
                    positions.push(record.header.stream.expect("in a stream").position);
                }
                match page.next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            assert_eq!(positions, (1..=head.length).collect::<Vec<_>>(), "{limit} at a time");
        }
    });
}

#[test]
fn events_are_paged_by_sequence_and_by_instant() {
    let (mut world, storage) = folded(|world| world.play(&(0..=200).collect::<Vec<u8>>()));
    let records: Vec<_> = world.records().into_iter().filter(|record| record.header.tenant == ACME).collect();
    let log = EventLog::open(storage).expect("opens");
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = log.after(ACME, after, 10, None, None).expect("intact");
        found.extend(page.records);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(found, records);
    let (from, to) = (records[20].header.at, records[70].header.at);
    let between = log.after(ACME, 0, 1_000, Some(from), Some(to)).expect("intact").records;
    let expected: Vec<_> =
        records.into_iter().filter(|record| from <= record.header.at && record.header.at < to).collect();
    assert_eq!(between, expected);
    assert_eq!(log.first_at(ACME, Timestamp::MAX), Ok(log.head(ACME).sequence + 1));
}

#[test]
fn what_ended_long_ago_is_removed_and_nothing_else() {
    local(async {
        let mut world = World::default();
        let storage = Arc::new(FakeStorage::default());
        let projections = Projections::start(world.machine.clone(), storage.clone()).expect("empty");
        twice(&world::definition())(&mut world);
        world.fire(ACME, 2, 0);
        let kept = world.open()[0].id;
        for _ in 0..5 {
            world.fire(ACME, 1, 0);
            let open = world.open().into_iter().filter(|open| open.task == TaskId(1)).collect::<Vec<_>>();
            open.iter().for_each(|open| {
                world.report(open, escapement_domain::command::AttemptOutcome::TimedOut);
            });
        }
        projections.synced(world.machine.applied()).await.expect("written");
        let later = Timestamp(world.now + 3_600_000);
        assert_eq!(
            projections.prune(later, Span::hours(2), Span::minutes(1), 1_000).expect("memory").executions,
            0,
            "too young"
        );
        assert_eq!(
            projections.prune(later, Span::minutes(30), Span::hours(9), 1_000).expect("memory").executions,
            5
        );
        assert_eq!(
            projections.prune(later, Span::minutes(30), Span::hours(9), 1_000).expect("memory"),
            Pruned::default()
        );
        assert_eq!(all(&projections, ExecutionQuery::newest(10)), [kept], "the open one stays");
        let timed_out = ExecutionQuery { status: Some(Status::TimedOut), ..ExecutionQuery::newest(10) };
        assert_eq!(all(&projections, timed_out), []);
        assert_eq!(projections.statistics(ACME).count(Status::TimedOut), 5, "it is counted still");
    });
}
