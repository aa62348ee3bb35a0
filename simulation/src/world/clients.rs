//! Clients: what they wish for, and how they repeat what got no answer, always under the same command id.
//!
//! A client waits for one operation at a time. It gives up late, knows then only that its operation was carried out or
//! not, and may ask again under its own key. Now and then it repeats an operation that was answered long ago.

use std::collections::VecDeque;

use escapement_domain::answer::{Accepted, Answer, Rejection};
use escapement_domain::identifier::{CommandId, TaskId};
use escapement_domain::task::state::Phase;
use escapement_domain::timestamp::Timestamp;

use super::clock::Clock;
use super::{Happening, World};
use crate::definitions::draw;
use crate::evidence::{Knowledge, Operation, Wish};
use crate::profile::REPEAT_MS;

/// The tenants for whom clients act.
const TENANTS: [&str; 3] = ["acme", "rival", "zeta"];
/// Tasks that a client keeps, about.
const TASKS_KEPT: usize = 14;

/// One client.
#[derive(Debug)]
pub(super) struct ClientState {
    /// Its clock.
    pub(super) clock: Clock,
    tasks: Vec<(TaskId, &'static str)>,
    next: VecDeque<(Wish, &'static str, Option<u64>)>,
}

impl ClientState {
    /// A client that has done nothing yet.
    #[must_use]
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, tasks: Vec::new(), next: VecDeque::new() }
    }
}

impl World {
    /// A client that waits for nothing wishes for something.
    pub(super) fn turn(&mut self, client: usize) {
        if self.healed.is_some() {
            return;
        }
        let (wish, tenant, key) = match self.clients[client].next.pop_front() {
            Some(next) => next,
            None => self.wish(client),
        };
        let issued_at = self.clients[client].clock.wall(self.now);
        self.issue(Some(client), wish, tenant, issued_at, key);
    }

    fn issue(
        &mut self,
        client: Option<usize>,
        wish: Wish,
        tenant: &'static str,
        issued_at: Timestamp,
        key: Option<u64>,
    ) -> usize {
        let number = self.operations.len();
        let operation = Operation {
            number,
            client,
            command: CommandId(self.chance.bits()),
            tenant,
            wish,
            key,
            issued_at,
            issued: self.now,
            sent: self.now,
            knowledge: Knowledge::Pending,
            answered: 0,
        };
        self.operations.push(operation);
        self.note(19, number as u64, || format!("operation {number} is issued"));
        self.dispatch(number);
        number
    }

    /// An operation is sent, for the first time or again.
    fn dispatch(&mut self, number: usize) {
        self.operations[number].sent = self.now;
        let patience = self.chance.between(900, 3_000);
        self.later(patience, Happening::TimeOut(number));
        if self.healed.is_none() && self.chance.per_mille(self.settings.loss_share) {
            self.counts.lost += 1;
            return;
        }
        if let Some(place) = self.believed_leader() {
            let delay = self.chance.between(1, 15);
            self.later(delay, Happening::Arrive(number, place));
        }
    }

    fn wish(&mut self, client: usize) -> (Wish, &'static str, Option<u64>) {
        let tenant = self.chance.pick(&TENANTS);
        let known = self.clients[client].tasks.len();
        let now = self.clients[client].clock.wall(self.now);
        if known < 3 || (known < TASKS_KEPT && self.chance.per_mille(300)) {
            return self.create(client, tenant, now);
        }
        let which = self.chance.index(known);
        let (task, tenant) = self.clients[client].tasks[which];
        let wish = match self.chance.below(20) {
            0..=3 => Wish::Update(task, Box::new(draw(&mut self.chance, now, self.settings.aligned))),
            4..=6 => Wish::Pause(task),
            7..=10 => Wish::Resume(task),
            11 => {
                self.clients[client].tasks.swap_remove(which);
                Wish::Delete(task)
            }
            12..=16 => Wish::Run(task),
            _ => {
                let open = self.ledger.state().executions();
                let some = self.chance.index(open.len().max(1));
                match open.values().nth(some) {
                    Some(execution) => {
                        let owner = self.ledger.state().tenant_name(execution.tenant);
                        let tenant =
                            owner.and_then(|name| TENANTS.into_iter().find(|known| *known == &**name));
                        return (Wish::Cancel(execution.id), tenant.unwrap_or(TENANTS[0]), None);
                    }
                    None => Wish::Run(task),
                }
            }
        };
        (wish, tenant, None)
    }

    fn create(
        &mut self,
        client: usize,
        tenant: &'static str,
        now: Timestamp,
    ) -> (Wish, &'static str, Option<u64>) {
        let aligned = self.settings.aligned;
        let count = match self.chance.below(10) {
            0 => self.chance.between(2, 8),
            _ => 1,
        };
        let some = |chance: &mut _| (0..count).map(|_| draw(chance, now, aligned)).collect::<Vec<_>>();
        if self.chance.per_mille(120) {
            let bulk = CommandId(self.chance.bits());
            let parts = self.chance.between(1, 3);
            let rest: Vec<Wish> = (1..parts)
                .map(|part| Wish::Stage(bulk, u32::try_from(part).unwrap_or(0), some(&mut self.chance)))
                .chain([Wish::Commit(bulk, u32::try_from(parts).unwrap_or(0))])
                .collect();
            let first = Wish::Stage(bulk, 0, some(&mut self.chance));
            self.clients[client].next.extend(rest.into_iter().map(|wish| (wish, tenant, None)));
            return (first, tenant, None);
        }
        let definitions = some(&mut self.chance);
        let key = self.chance.per_mille(400).then(|| self.chance.below(u64::MAX));
        (Wish::Create(definitions), tenant, key)
    }

    /// A node that applied an operation's command answers, if the answer gets through.
    pub(super) fn reply(&mut self, number: usize, answer: Answer) {
        if self.healed.is_none() && self.chance.per_mille(self.settings.loss_share * 2) {
            self.counts.lost += 1;
            return;
        }
        let delay = self.chance.between(1, 15);
        self.later(delay, Happening::Answered(number, Box::new(answer)));
    }

    /// A client hears an answer.
    pub(super) fn answered(&mut self, number: usize, answer: Answer) {
        self.note(20, number as u64, || format!("operation {number} is answered: {:?}", answer.outcome));
        let operation = &mut self.operations[number];
        match &operation.knowledge {
            Knowledge::Pending => {}
            Knowledge::Unknown => return,
            Knowledge::Answered(first) => {
                let same = **first == answer;
                // Nothing was carried out and nothing is remembered: whoever proposes settles first and asks again.
                let asks_again = |answer: &Answer| matches!(answer.outcome, Err(Rejection::Overdue { .. }));
                let forgotten = matches!(answer.outcome, Err(Rejection::Expired { .. }))
                    || asks_again(first)
                    || asks_again(&answer);
                if !same && !forgotten {
                    let detail = format!("operation {number} was answered {first:?}, and then {answer:?}");
                    self.violate("acknowledged", detail);
                }
                return;
            }
        }
        operation.answered = self.now;
        let (tenant, client) = (operation.tenant, operation.client);
        let created = match &answer.outcome {
            Ok(Accepted::Tasks(tasks)) => {
                tasks.iter().filter_map(|task| task.as_ref().ok().copied()).collect()
            }
            _ => Vec::new(),
        };
        operation.knowledge = Knowledge::Answered(Box::new(answer));
        if self.healed.is_none() && self.chance.per_mille(60) {
            let ghost = self.chance.between(1_000, REPEAT_MS + 20_000);
            self.later(ghost, Happening::TimeOut(number));
        }
        let Some(client) = client else { return };
        self.clients[client].tasks.extend(created.into_iter().map(|task| (task, tenant)));
        let pause = self.chance.below(2 * self.settings.pause_ms);
        self.later(pause, Happening::Turn(client));
    }

    /// A client has waited long enough, and repeats or gives up; or it repeats an operation that was answered.
    pub(super) fn time_out(&mut self, number: usize) {
        let operation = &self.operations[number];
        let waited = self.now - operation.issued;
        match operation.knowledge {
            // The time-out that was set with an answered request is not a reason to repeat it.
            Knowledge::Answered(_)
                if operation.sent + 900 <= self.now
                    && waited < 2 * REPEAT_MS
                    && operation.answered + 1_000 <= self.now
                    && self.healed.is_none()
                    && self.chance.per_mille(500) =>
            {
                self.resend(number);
            }
            Knowledge::Pending
                if waited > REPEAT_MS || (self.healed.is_none() && self.chance.per_mille(60)) =>
            {
                self.operations[number].knowledge = Knowledge::Unknown;
                let operation = &self.operations[number];
                let (client, again) =
                    (operation.client, (operation.wish.clone(), operation.tenant, operation.key));
                self.note(21, number as u64, || format!("operation {number} is given up"));
                let Some(client) = client else { return };
                if again.2.is_some() {
                    self.clients[client].next.push_front(again);
                }
                self.later(200, Happening::Turn(client));
            }
            Knowledge::Pending => self.dispatch(number),
            _ => {}
        }
    }

    /// A request goes out once more though nobody waits for it.
    fn resend(&mut self, number: usize) {
        if let Some(place) = self.believed_leader() {
            self.later(5, Happening::Arrive(number, place));
        }
    }

    /// An operator pauses what still fires; says whether there is anything left.
    pub(super) fn pause_some(&mut self) -> bool {
        let state = self.ledger.state();
        let active: Vec<(TaskId, &'static str)> = state
            .tasks()
            .iter()
            .filter(|task| task.phase == Phase::Active && task.next.is_some())
            .filter_map(|task| {
                let owner = state.tenant_name(task.tenant)?;
                Some((task.id, TENANTS.into_iter().find(|known| *known == &**owner)?))
            })
            .collect();
        let issued_at = Timestamp(self.epoch + self.now.cast_signed());
        for (task, tenant) in &active {
            self.issue(None, Wish::Pause(*task), tenant, issued_at, None);
        }
        !active.is_empty()
    }
}
