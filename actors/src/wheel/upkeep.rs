//! What the leader proposes besides fires: work that was left over, answers to forget, bulks that nobody committed,
//! breakers that have been open for long enough, queues at which nobody waits any more.
//!
//! Absent on purpose: when to look; whoever calls decides that.

use escapement_domain::command::Request;
use escapement_domain::limits::{
    ATTENDANCES_PER_COMMAND_MAX, COMMAND_WINDOW, IDEMPOTENCY_WINDOW, STAGE_LIFETIME,
};
use escapement_domain::replica::Replica;
use escapement_domain::timestamp::{Span, Timestamp};

use super::breakers::Breakers;

/// How often answers are forgotten.
const WINDOW_PERIOD: Span = Span::minutes(1);

/// When what was done last.
#[derive(Debug)]
pub(super) struct Upkeep {
    window_at: Timestamp,
    /// Whether the last proposal went on with what was left over.
    continued: bool,
    pub(super) breakers: Breakers,
}

impl Upkeep {
    pub(super) fn new(replica: &Replica, now: Timestamp) -> Self {
        Self { window_at: now.plus(WINDOW_PERIOD), continued: false, breakers: Breakers::of(replica) }
    }

    /// The most urgent proposal, if there is any. What is left over can take many commands, one after the other: whatever else is
    /// due comes between them.
    pub(super) fn wanted(&mut self, replica: &Replica, now: Timestamp) -> Option<Request> {
        let left_over = replica.left_over();
        let due = if left_over && !self.continued { None } else { self.due(replica, now) };
        self.continued = left_over && due.is_none();
        due.or(self.continued.then_some(Request::Continue))
    }

    /// What is due beside what is left over.
    fn due(&mut self, replica: &Replica, now: Timestamp) -> Option<Request> {
        let due = self.breakers.due(replica, now);
        if !due.is_empty() {
            return Some(Request::BreakersDue(due));
        }
        let attended = replica.queue().attended();
        let over = attended.take_while(|(.., until)| *until <= now).take(ATTENDANCES_PER_COMMAND_MAX);
        let over: Vec<_> = over.map(|(tenant, queue, until)| (tenant, queue.clone(), until)).collect();
        if !over.is_empty() {
            return Some(Request::AttendanceOver(over));
        }
        if let Some((bulk, _)) = replica.staged().find(|(_, staged_at)| staged_at.plus(STAGE_LIFETIME) <= now)
        {
            return Some(Request::AbandonStaged { bulk });
        }
        if self.window_at > now {
            return None;
        }
        self.window_at = now.plus(WINDOW_PERIOD);
        let (commands, keys) = (now.minus(COMMAND_WINDOW), now.minus(IDEMPOTENCY_WINDOW));
        let something = replica.window().oldest().is_some_and(|oldest| oldest < commands);
        something.then_some(Request::AdvanceWindow { commands, keys })
    }

    /// When something is over that nothing else tells of.
    pub(super) fn next(&self, replica: &Replica) -> Option<Timestamp> {
        let attendance = replica.queue().attended().next().map(|(.., until)| until);
        self.breakers.next().into_iter().chain(attendance).min()
    }
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;

    use escapement_domain::command::{Client, Command, NewTask, Origin};
    use escapement_domain::identifier::{CommandId, TaskId};
    use escapement_domain::limits::CREATES_PER_COMMAND_MAX;
    use escapement_domain::task::action::{Action, Operation};
    use escapement_domain::task::definition::Definition;
    use escapement_domain::task::rules::Rules;
    use escapement_domain::task::sealed::Sealed;
    use escapement_domain::task::trigger::Trigger;

    use super::*;

    fn carry_out(replica: &mut Replica, index: u64, at: Timestamp, request: Request) {
        let client = Client {
            command: CommandId(u128::from(index)),
            issued_at: at,
            idempotency: None,
            tenant: "acme".into(),
            subject: "ann".into(),
            correlation_id: "request".into(),
        };
        let command = Command { stamp: at.into(), origin: Origin::Client(client), request };
        let answer = replica.apply(index, &command, &mut Vec::new());
        assert!(answer.outcome.is_ok(), "{:?}", answer.outcome);
    }

    fn stage(bulk: u128, part: u32, tasks: usize) -> Request {
        let nothing = Action::Builtin { operation: Operation::Noop, parameters: None };
        let definition = Definition::new("staged", Trigger::Manual, nothing);
        let task = |number: usize| NewTask {
            task: TaskId(bulk << 32 | u128::from(part) << 16 | number as u128),
            rules: Box::new(Rules::of(&definition)),
            definition: Sealed::definition(&definition),
            created_at: Timestamp(0),
            next: None,
            paused: false,
        };
        Request::StageTasks { bulk: CommandId(bulk), part, tasks: (0..tasks).map(task).collect() }
    }

    /// A tenant with much to be handed out must not keep another one's breaker open.
    #[test]
    fn whatever_else_is_due_comes_between_what_is_left_over() {
        let mut replica = Replica::default();
        let now = Timestamp(0).plus(STAGE_LIFETIME).plus(STAGE_LIFETIME);
        carry_out(&mut replica, 1, Timestamp(0), stage(1, 0, 1));
        for part in 0..4 {
            carry_out(&mut replica, 2 + u64::from(part), now, stage(2, part, CREATES_PER_COMMAND_MAX));
        }
        carry_out(&mut replica, 6, now, Request::CommitStaged { bulk: CommandId(2), parts: 4 });
        assert!(replica.left_over());

        let mut upkeep = Upkeep::new(&replica, now);
        let wanted: Vec<_> = (0..4).filter_map(|_| upkeep.wanted(&replica, now)).collect();
        let [first, due, third, again] = &wanted[..] else { panic!("{wanted:?}") };
        assert_eq!((first, third), (&Request::Continue, &Request::Continue));
        assert_eq!(due, &Request::AbandonStaged { bulk: CommandId(1) });
        assert_eq!(discriminant(due), discriminant(again));

        let mut idle = Upkeep::new(&replica, now);
        carry_out(&mut replica, 7, now, Request::AbandonStaged { bulk: CommandId(1) });
        let wanted = || idle.wanted(&replica, now);
        let only_continues = std::iter::repeat_with(wanted).take(5).all(|one| one == Some(Request::Continue));
        assert!(only_continues, "nothing else is due");
    }
}
