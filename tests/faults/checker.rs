//! The checker itself: evidence that somebody tampered with must not pass, or every verdict here is worth nothing.

use escapement_domain::identifier::TaskId;
use escapement_domain::task::definition::Definition;
use escapement_simulation::evidence::{Done, Knowledge, Operation, Wish};
use escapement_simulation::profile::{LATENESS_WITH_QUORUM_MS, RECOVERY_MS};

use crate::campaign::await_drained;
use crate::evidence::Case;
use crate::harness::cluster::Cluster;
use crate::harness::target::{Call, Target};
use crate::harness::wait::{now_ms, until};
use crate::load::Load;

const TASKS: usize = 60;
const BULKS: usize = 5;
/// How long a node stands still, in ms: longer than anything may be late while most nodes are well.
const STILL_MS: i64 = LATENESS_WITH_QUORUM_MS + 6_000;

/// Demands that tampered evidence breaks an invariant.
#[track_caller]
fn check(case: &Case, invariant: &str, tamper: impl FnOnce(&mut Case)) {
    let mut tampered = case.clone();
    tamper(&mut tampered);
    let found = tampered.judge().violations;
    assert!(found.iter().any(|one| one.starts_with(invariant)), "no `{invariant}` in {found:?}");
}

/// Waits until everything has ended, ends the only node, and gathers what was seen.
#[track_caller]
fn gather(cluster: &mut Cluster, target: &Target, mut load: Load, epoch: i64) -> Case {
    let operations = load.stop();
    let quiesced = now_ms();
    await_drained(&cluster.api(1));
    let drained = now_ms();
    assert_eq!(cluster.terminate(1), Some(0));
    Case {
        epoch,
        quiesced,
        drained,
        data: vec![cluster.data(1)],
        operations,
        calls: target.calls(),
        disturbances: Vec::new(),
        without_quorum: Vec::new(),
        frozen: Vec::new(),
    }
}

#[test]
fn what_must_not_be_is_found() {
    let epoch = now_ms() - 60_000;
    let (mut cluster, target) = (Cluster::start(1), Target::start());
    let mut load = Load::new(vec![cluster.api(1)], epoch);
    load.start_editors(&target);
    let due = (0..BULKS).map(|_| load.create_due(&target, TASKS / BULKS, 1_500, 1_000));
    let last_due = due.max().expect("some");
    let called = || target.calls().iter().filter(|call| is_once(call)).count();
    until("everything has fallen due", || now_ms() > last_due && called() >= TASKS);
    let case = gather(&mut cluster, &target, load, epoch);
    let verdict = case.clone().judge();
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert!(verdict.tasks > TASKS && verdict.fires > TASKS, "{verdict:?}");
    // Whatever an editor deletes may end in the middle of a call.
    let once: Vec<usize> = (0..case.calls.len()).filter(|place| is_once(&case.calls[*place])).collect();
    check(&case, "fencing", |case| drop(case.calls.remove(once[7])));
    check(&case, "once", |case| drop(case.calls.remove(once[7])));
    check(&case, "fencing", |case| case.calls[once[2]].answered = false);
    check(&case, "duplicate", |case| case.calls.push(case.calls[once[0]].clone()));
    check(&case, "early", |case| case.calls[once[3]].at_ms -= 10_000);
    check(&case, "fencing", |case| case.calls[once[4]].at_ms += 10_000);
    check(&case, "acknowledged", |case| {
        bulk(case, 0).knowledge = Knowledge::Done(Done::Tasks(vec![TaskId(1)]));
    });
    check(&case, "acknowledged", |case| drop(asked(case, 1).pop()));
    check(&case, "acknowledged", |case| asked(case, 1)[0].name = "another".into());
    check(&case, "acknowledged", |case| {
        let first = bulk(case, 0).number;
        bulk(case, 1).number = first;
    });
    check(&case, "linearizable", |case| bulk(case, 2).issued += 10_000);
    check(&case, "linearizable", |case| bulk(case, 2).answered -= 10_000);
    check(&case, "linearizable", |case| {
        let told = |operation: &&mut Operation| matches!(operation.wish, Wish::Read(_));
        let read = case.operations.iter_mut().rfind(told).expect("something was read");
        read.knowledge = Knowledge::Done(Done::Absent);
    });
}

/// Whether the task that called falls due once.
fn is_once(call: &Call) -> bool {
    call.body.contains("once-")
}

/// One of the operations that created several tasks.
fn bulk(case: &mut Case, which: usize) -> &mut Operation {
    let several =
        |operation: &&mut Operation| matches!(&operation.wish, Wish::Create(asked) if asked.len() > 1);
    case.operations.iter_mut().filter(several).nth(which).expect("so many")
}

/// What it asked for.
fn asked(case: &mut Case, which: usize) -> &mut Vec<Definition> {
    match &mut bulk(case, which).wish {
        Wish::Create(asked) => asked,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_that_stands_still_is_late_unless_it_is_known_to_have_stood_still() {
    let epoch = now_ms() - 60_000;
    let (mut cluster, target) = (Cluster::start(1), Target::start());
    let load = Load::new(vec![cluster.api(1)], epoch);
    let last_due = load.create_due(&target, TASKS, 3_000, 1_000);
    let still = (now_ms(), now_ms() + STILL_MS);
    cluster.node(1).freeze();
    until("it has stood still for so long", || now_ms() >= still.1);
    cluster.node(1).thaw();
    until("everything has run", || now_ms() > last_due && target.calls().len() >= TASKS);
    let case = gather(&mut cluster, &target, load, epoch);
    let recovered = (still.0, still.1 + RECOVERY_MS.cast_signed());
    let mut told = case.clone();
    told.frozen.push((1, still.0, still.1));
    check(&told, "late", |_| ());
    told.disturbances.push(recovered);
    check(&told, "late", |_| ());
    told.without_quorum.push(recovered);
    let verdict = told.judge();
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
}
