//! What may be proposed while properties are held against the state, and of which tasks.

use proptest::prelude::*;

use super::*;
use crate::replica::placement::Gate;
use crate::task::definition::CircuitBreaker;

/// The target of every task that has a breaker.
pub(super) const TARGET: &str = "builtin";
/// The queue of the tasks that workers outside the cluster carry out.
pub(super) const QUEUE: &str = "suites";

#[derive(Clone, Debug)]
pub(super) enum Move {
    Create(u8, u8),
    Pause(u8),
    Resume(u8),
    Update(u8),
    Delete(u8),
    Run(u8),
    Fire(u8, i16),
    Repeat,
    Report(u8, u8),
    StaleReport(u8),
    Lease(u8),
    Cancel(u8),
    Join(u8),
    Lose(u8),
    Waits,
    Continue,
    Change(u8, u8),
    FireMoved(u8),
    MissMoved(u8),
    Backfill(u8, u8),
    CancelBackfill(u8),
    Publish(u8),
    PutGate(u8, u8),
    DeleteGate(u8),
    SetPriority(u8, u8),
    SetBreaker(bool),
    BreakersDue,
    AttendanceOver,
    Restore,
    Later(u16),
}

pub(super) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => (0..6_u8, any::<u8>()).prop_map(|(id, kind)| Move::Create(id, kind)),
        1 => (0..6_u8).prop_map(Move::Pause),
        1 => (0..6_u8).prop_map(Move::Resume),
        1 => (0..6_u8).prop_map(Move::Update),
        1 => (0..6_u8).prop_map(Move::Delete),
        1 => (0..6_u8).prop_map(Move::Run),
        4 => (0..6_u8, -50..400_i16).prop_map(|(id, shift)| Move::Fire(id, shift)),
        2 => Just(Move::Repeat),
        4 => (any::<u8>(), 0..5_u8).prop_map(|(which, how)| Move::Report(which, how)),
        1 => any::<u8>().prop_map(Move::StaleReport),
        2 => (1..4_u8).prop_map(Move::Lease),
        1 => any::<u8>().prop_map(Move::Cancel),
        1 => (0..3_u8).prop_map(Move::Join),
        1 => (0..3_u8).prop_map(Move::Lose),
        2 => Just(Move::Waits),
        1 => Just(Move::Continue),
        2 => (0..6_u8, any::<u8>()).prop_map(|(id, how)| Move::Change(id, how)),
        2 => (0..6_u8).prop_map(Move::FireMoved),
        1 => (0..6_u8).prop_map(Move::MissMoved),
        1 => (0..6_u8, 1..6_u8).prop_map(|(id, many)| Move::Backfill(id, many)),
        1 => (0..6_u8).prop_map(Move::CancelBackfill),
        2 => (0..2_u8).prop_map(Move::Publish),
        3 => (0..4_u8, 0..4_u8).prop_map(|(which, capacity)| Move::PutGate(which, capacity)),
        1 => (0..4_u8).prop_map(Move::DeleteGate),
        1 => (any::<u8>(), 0..10_u8).prop_map(|(which, priority)| Move::SetPriority(which, priority)),
        1 => any::<bool>().prop_map(Move::SetBreaker),
        2 => Just(Move::BreakersDue),
        1 => Just(Move::AttendanceOver),
        1 => Just(Move::Restore),
        3 => (0..2_000_u16).prop_map(Move::Later),
    ];
    proptest::collection::vec(one, 1..120)
}

pub(super) fn kind(kind: u8) -> Definition {
    let overlaps =
        [Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelRunning, Overlap::Allow];
    let trigger = match kind & 12 {
        12 => super::events::on_finished(&[("/n", if kind & 2 == 0 { "0" } else { "1.0" })]),
        _ => definition().trigger,
    };
    let outside = kind % 7 == 3;
    let action = match outside {
        true => Action::Queue { queue: QUEUE.into(), payload: None },
        false => definition().action,
    };
    Definition {
        trigger,
        action,
        overlap: overlaps[kind as usize % 5],
        delivery: if kind & 8 == 0 { Delivery::AtLeastOnce } else { Delivery::AtMostOnce },
        retry: Retry { max_attempts: 1 + u32::from(kind % 3), ..Retry::DEFAULT },
        priority: kind % 10,
        resources: (kind & 16 != 0)
            .then(|| ("staging".into(), 1 + u32::from(kind % 2)))
            .into_iter()
            .collect(),
        labels: (kind & 32 != 0).then(|| ("team".into(), "qa".into())).into_iter().collect(),
        max_concurrent: (kind & 64 != 0).then_some(1),
        circuit_breaker: (kind & 128 != 0 && !outside)
            .then_some(CircuitBreaker { failure_threshold: 2, open_for: Span::seconds(1) }),
        execution_timeout: (kind & 16 != 0).then_some(Span(3_000)),
        queue_timeout: (kind & 32 != 0).then_some(Span(700)),
        pause_after_failures: (kind & 64 != 0).then_some(2),
        ..definition()
    }
}

/// The first instant of a task that has instants.
pub(super) fn first(definition: &Definition, at: i64) -> Option<i64> {
    Rules::of(definition).listens.is_none().then_some(at)
}

pub(super) fn gate(which: u8) -> Gate {
    match which {
        0 => Gate::Pool("staging".into()),
        1 => Gate::Label("team=qa".into()),
        2 => Gate::Tenant,
        _ => Gate::Queue(QUEUE.into()),
    }
}
