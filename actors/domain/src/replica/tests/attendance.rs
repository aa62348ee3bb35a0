//! Queues that workers outside wait at, and their places in the lines of pools.

use super::leases::{WAIT, complete, lease, queued, world_with};
use super::*;
use crate::limits::ATTENDANCE_GRACE;
use crate::replica::placement::Gate;

/// A pool of one, a task of a queue that needs it and one of a node, which has it and wants it twice more.
fn contended() -> (World, TaskId) {
    let mut world = World::with_worker(8);
    let pool = Gate::Pool("staging".into());
    world.client(Request::PutGate { gate: pool, capacity: 1 }).expect("may");
    let resources: std::collections::BTreeMap<String, u32> = [("staging".to_owned(), 1)].into();
    let outside =
        world.create(1, &Definition { priority: 9, resources: resources.clone(), ..queued() }, None);
    let inside = world.create(2, &Definition { resources, ..definition() }, None);
    for _ in 0..3 {
        world.client(Request::RunTask { task: inside }).expect("run");
    }
    (world, outside)
}

/// Ends what a node runs; says whether a node runs something then.
fn free(world: &mut World) -> bool {
    let on_a_node = |world: &World| {
        let open = world.open();
        let grant = |open: &Arc<Execution>| open.grant().is_some_and(|grant| grant.of_node().is_some());
        open.iter().find(|open| grant(open)).map(|open| open.id)
    };
    let running = on_a_node(world).expect("it has the pool");
    world.report(running, AttemptOutcome::Succeeded(None)).expect("heard");
    on_a_node(world).is_some()
}

#[test]
fn a_queue_that_a_worker_waits_at_has_its_place_at_a_pool() {
    let (mut world, outside) = contended();
    world.client(Request::RunTask { task: outside }).expect("run");
    assert!(free(&mut world), "nobody is known to take from the queue");
    assert!(world.replica.queue().is_unattended(world.tenant(), &"suites".into()), "whoever waits is woken");
    assert_eq!(lease(&mut world, "suites", "w", 1), []);
    assert_eq!(world.names(), ["QueueAttended"]);
    assert_eq!(world.replica.queue().held_up().len(), 0, "and not woken again");
    assert_eq!(lease(&mut world, "suites", "another", 1), []);
    assert_eq!(world.names(), [""; 0], "that is known");
    // It is state, as all of placement is.
    world.replica = restored(&world.replica);
    assert!(!free(&mut world), "the share is kept");
    assert_eq!(world.replica.queue().going().len(), 1, "and whoever waits is woken");
    let leased = lease(&mut world, "suites", "w", 1);
    assert_eq!(leased.len(), 1);
    complete(&mut world, leased[0], AttemptOutcome::Succeeded(None)).expect("heard");
    assert!(!free(&mut world), "the last of the nodes' had it");
    let folded = world.records.iter().fold(Replica::default(), |mut replica, record| {
        replica.evolve(record);
        replica
    });
    assert_eq!(folded.state_hash(), world.replica.state_hash());
}

#[test]
fn a_queue_at_which_nobody_waits_any_more_loses_its_place() {
    let (mut world, outside) = contended();
    world.client(Request::RunTask { task: outside }).expect("run");
    assert_eq!(lease(&mut world, "suites", "w", 1), []);
    let queue: Arc<str> = "suites".into();
    let until = world.replica.queue().attendance(world.tenant(), &queue).expect("attended");
    assert_eq!(until, Timestamp(world.now).plus(WAIT).plus(ATTENDANCE_GRACE));
    assert!(!free(&mut world), "the share is kept");
    let over = |world: &mut World, until| {
        let over = vec![(world.tenant(), queue.clone(), until)];
        world.scheduler(Request::AttendanceOver(over)).expect("heard");
        world.names()
    };
    assert_eq!(over(&mut world, until), [""; 0], "not yet");
    world.now = until.0;
    assert_eq!(over(&mut world, until.minus(WAIT)), [""; 0], "of another time");
    assert_eq!(over(&mut world, until), ["QueueUnattended", "TaskStarted"]);
    assert_eq!(world.replica.queue().attended().count(), 0);
}

#[test]
fn a_worker_whose_word_opens_the_way_takes_what_waits_at_once() {
    let mut world = World::with_worker(1);
    let pool = Gate::Pool("staging".into());
    world.client(Request::PutGate { gate: pool, capacity: 1 }).expect("may");
    let resources: std::collections::BTreeMap<String, u32> = [("staging".to_owned(), 1)].into();
    let busy = world.create(1, &definition(), None);
    let inside = world.create(2, &Definition { resources: resources.clone(), ..definition() }, None);
    let outside = world.create(3, &Definition { priority: 9, resources, ..queued() }, None);
    for task in [busy, inside, outside] {
        world.client(Request::RunTask { task }).expect("run");
    }
    let leased = lease(&mut world, "suites", "w", 1);
    assert_eq!(leased.len(), 1, "the share was kept for what has no slot, and has a lower priority");
}

#[test]
fn a_worker_that_waits_where_no_gate_holds_anything_up_claims_nothing() {
    let (mut world, task) = world_with(&Definition { max_concurrent: Some(1), ..queued() }, 2);
    assert_eq!(lease(&mut world, "suites", "w", 5).len(), 1);
    assert_eq!(world.names(), ["TaskStarted"], "the other one waits for its own task");
    assert_eq!(lease(&mut world, "elsewhere", "w", 5), []);
    let impossible = Definition { resources: [("staging".to_owned(), 1)].into(), ..queued() };
    let pool = |capacity| Request::PutGate { gate: Gate::Pool("staging".into()), capacity };
    world.client(pool(1)).expect("may");
    let large = world.create(2, &impossible, None);
    world.client(Request::RunTask { task: large }).expect("run");
    world.client(pool(0)).expect("may");
    assert_eq!(lease(&mut world, "suites", "w", 5), []);
    world.client(Request::PauseTask { task }).expect("may");
    assert_eq!(world.replica.queue().attended().count(), 0);
}
