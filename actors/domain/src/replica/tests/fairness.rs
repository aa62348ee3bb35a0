//! Priorities, and fair shares between tenants within one.

use proptest::prelude::*;

use super::*;
use crate::replica::placement::PASSED_MAX;

/// Creates a task of a tenant and queues so many runs of it.
fn queue(world: &mut World, tenant: &str, id: u128, priority: u8, runs: usize) {
    let task = new_task(id, &Definition { priority, ..definition() }, None);
    let command = world.client_command(tenant, Request::CreateTasks(vec![task]));
    world.apply(&command).outcome.expect("created");
    for _ in 0..runs {
        run(world, tenant, id);
    }
}

fn run(world: &mut World, tenant: &str, id: u128) {
    let command = world.client_command(tenant, Request::RunTask { task: TaskId(id) });
    world.apply(&command).outcome.expect("runs");
}

/// The tenants that were granted something, in order.
fn granted(world: &World) -> Vec<String> {
    let started = world.records.iter().filter(|record| matches!(record.event, Event::TaskStarted { .. }));
    let name = |record: &Record| world.replica.tenant_name(record.header.tenant).expect("known").to_string();
    started.map(name).collect()
}

/// Ends one running execution of a tenant.
fn end_one(world: &mut World, tenant: &str) {
    let tenant = world.replica.tenant_number(tenant);
    let running = |open: &&Arc<Execution>| Some(open.tenant) == tenant && open.grant().is_some();
    let id = world.open().iter().find(running).expect("one runs").id;
    end(world, id);
}

fn end(world: &mut World, id: ExecutionId) {
    let open = world.replica.execution(id).expect("open").clone();
    let grant = open.grant().expect("running");
    let worker = grant.of_node().expect("a node's");
    world.report_under(id, grant.token, worker, AttemptOutcome::Succeeded(None)).expect("heard");
}

#[test]
fn a_tenant_does_not_wait_for_all_that_another_queued_before() {
    let mut world = World::new();
    queue(&mut world, "acme", 1, 5, 1_000);
    queue(&mut world, "beta", 2, 5, 3);
    world.join(WORKER, 8);
    assert_eq!(granted(&world), ["acme", "beta", "acme", "beta", "acme", "beta", "acme", "acme"]);
}

#[test]
fn who_runs_the_least_is_granted_what_becomes_free() {
    let mut world = World::with_worker(4);
    queue(&mut world, "acme", 1, 5, 10);
    queue(&mut world, "beta", 2, 5, 10);
    for _ in 0..2 {
        end_one(&mut world, "acme");
    }
    assert_eq!(granted(&world)[4..], ["beta", "beta"], "two of four slots each");
    end_one(&mut world, "beta");
    end_one(&mut world, "acme");
    assert_eq!(granted(&world)[6..], ["beta", "acme"]);
}

#[test]
fn a_tenant_that_comes_back_gains_nothing_over_one_that_waits() {
    let mut world = World::with_worker(1);
    queue(&mut world, "beta", 2, 5, 1);
    queue(&mut world, "acme", 1, 5, 2);
    queue(&mut world, "gamma", 3, 5, 0);
    end_one(&mut world, "beta");
    run(&mut world, "beta", 2);
    run(&mut world, "gamma", 3);
    end_one(&mut world, "acme");
    end_one(&mut world, "acme");
    end_one(&mut world, "beta");
    assert_eq!(granted(&world), ["beta", "acme", "acme", "beta", "gamma"]);
}

#[test]
fn a_priority_does_not_count_what_a_tenant_runs_at_another() {
    let mut world = World::new();
    queue(&mut world, "acme", 1, 9, 4);
    queue(&mut world, "acme", 2, 5, 4);
    queue(&mut world, "beta", 3, 5, 4);
    world.join(WORKER, 8);
    assert_eq!(granted(&world)[4..], ["acme", "beta", "acme", "beta"]);
}

#[test]
fn a_priority_that_was_passed_over_often_enough_gets_the_next_grant() {
    let mut world = World::with_worker(1);
    queue(&mut world, "acme", 1, 9, 2);
    queue(&mut world, "beta", 2, 0, 1);
    let low = world.replica.tenant_number("beta").expect("known");
    let mut grants = 0;
    while !world.open().iter().any(|open| open.tenant == low && open.grant().is_some()) {
        run(&mut world, "acme", 1);
        end_one(&mut world, "acme");
        grants += 1;
        assert!(grants <= PASSED_MAX + 1, "it waits for ever");
    }
    assert_eq!(grants, PASSED_MAX + 1);
    end_one(&mut world, "beta");
    assert_eq!(granted(&world).last().map(String::as_str), Some("acme"), "and then not again at once");
}

#[test]
fn a_queued_execution_is_moved_by_its_priority_and_no_other() {
    let mut world = World::with_worker(1);
    queue(&mut world, "acme", 1, 5, 3);
    let open = world.open();
    let running = open.iter().find(|open| open.grant().is_some()).expect("one").id;
    let last = open.iter().max_by_key(|open| open.turn).expect("three").id;
    assert_eq!(
        world.client(Request::SetPriority { execution: running, priority: 9 }),
        Err(Rejection::WrongStatus { status: Status::Running })
    );
    world.client(Request::SetPriority { execution: last, priority: 6 }).expect("it waits");
    assert_eq!(world.names(), ["TaskPriorityChanged"]);
    end_one(&mut world, "acme");
    assert!(world.replica.execution(last).expect("open").grant().is_some());
    let command = world.client_command("beta", Request::SetPriority { execution: last, priority: 1 });
    assert_eq!(world.apply(&command).outcome, Err(Rejection::NoSuchExecution), "not another tenant's");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever queues and ends in whatever order, of those that wait nobody runs less than who is granted.
    #[test]
    fn of_the_tenants_that_wait_the_one_that_runs_the_least_is_granted(
        steps in proptest::collection::vec((0..4_usize, any::<bool>(), any::<u8>()), 1..150)
    ) {
        let tenants = ["acme", "beta", "gamma", "delta"];
        let mut world = World::with_worker(5);
        for (tenant, id) in tenants.iter().zip(1..) {
            queue(&mut world, tenant, id, 5, 0);
        }
        for (which, runs, pick) in steps {
            let before = world.open();
            let records = world.records.len();
            let running: Vec<_> = before.iter().filter(|open| open.grant().is_some()).collect();
            if runs || running.is_empty() {
                run(&mut world, tenants[which], which as u128 + 1);
            } else {
                let ended = running[usize::from(pick) % running.len()].id;
                end(&mut world, ended);
            }
            let open = world.open();
            for record in &world.records[records..] {
                if !matches!(record.event, Event::TaskStarted { .. }) {
                    continue;
                }
                let runs = |tenant| open.iter().filter(|open| open.tenant == tenant && open.grant().is_some()).count();
                let chosen = runs(record.header.tenant) - 1;
                for waiting in open.iter().filter(|open| open.grant().is_none()) {
                    prop_assert!(waiting.tenant == record.header.tenant || runs(waiting.tenant) >= chosen);
                }
            }
        }
    }
}
