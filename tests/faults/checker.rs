//! The checker itself: evidence that somebody tampered with must not pass, or every verdict here is worth nothing.

use escapement_domain::identifier::TaskId;

use crate::campaign::await_drained;
use crate::evidence::Case;
use crate::harness::cluster::Cluster;
use crate::harness::target::Target;
use crate::harness::wait::{now_ms, until};
use crate::load::Load;

const TASKS: usize = 60;
const BULKS: usize = 5;

/// Demands that tampered evidence breaks an invariant.
#[track_caller]
fn check(case: &Case, invariant: &str, tamper: impl FnOnce(&mut Case)) {
    let mut tampered = case.clone();
    tamper(&mut tampered);
    let found = tampered.judge().violations;
    assert!(found.iter().any(|one| one.starts_with(invariant)), "no `{invariant}` in {found:?}");
}

#[test]
fn what_must_not_be_is_found() {
    let epoch = now_ms() - 60_000;
    let (mut cluster, target) = (Cluster::start(1), Target::start());
    let mut load = Load::new(vec![cluster.api(1)]);
    let due = (0..BULKS).map(|_| load.create_due(&target, TASKS / BULKS, 1_500, 1_000));
    let last_due = due.max().expect("some");
    until("everything has fallen due", || now_ms() > last_due && target.calls().len() >= TASKS);
    let quiesced = now_ms();
    await_drained(&cluster.api(1));
    let drained = now_ms();
    let wishes = load.stop();
    assert_eq!(cluster.terminate(1), Some(0));
    let (data, calls) = (vec![cluster.data(1)], target.calls());
    let case =
        Case { epoch, quiesced, drained, data, wishes, calls, disturbances: Vec::new(), frozen: Vec::new() };
    let verdict = case.clone().judge();
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert_eq!((verdict.tasks, verdict.fires), (TASKS, TASKS));
    check(&case, "fencing", |case| drop(case.calls.pop()));
    check(&case, "once", |case| drop(case.calls.pop()));
    check(&case, "fencing", |case| case.calls[2].answered = false);
    check(&case, "duplicate", |case| case.calls.push(case.calls[0].clone()));
    check(&case, "early", |case| case.calls[3].at_ms -= 10_000);
    check(&case, "acknowledged", |case| {
        case.wishes[0].answered.as_mut().expect("it was answered").0[0] = TaskId(1);
    });
    check(&case, "acknowledged", |case| case.wishes[1].asked -= 1);
    check(&case, "acknowledged", |case| case.wishes[1].number = case.wishes[0].number);
    check(&case, "linearizable", |case| case.wishes[2].issued += 10_000);
    check(&case, "linearizable", |case| {
        case.wishes[2].answered.as_mut().expect("it was answered").1 -= 10_000;
    });
    check(&case, "fencing", |case| case.calls[4].at_ms += 10_000);
}
