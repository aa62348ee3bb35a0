//! Workers outside the cluster: they lease from a queue through some node, work, show that they live, and say how it ended.
//!
//! They count a lease from when they asked for it, by a clock that runs as fast as any, and stop before it ends. Some
//! die in the middle of their work, and what they ask and are answered gets lost as it does for clients. Some tell lies of what is
//! not theirs: under a token that nobody was given, and for another tenant. None of that may be believed.

use std::rc::Rc;

use escapement::service::leasing::{LeaseRequest, LeasedExecution};
use escapement::service::{Caller, Service, ServiceError};
use escapement_domain::answer::Rejection;
use escapement_domain::command::{AttemptOutcome, Idempotency};
use escapement_domain::execution::failure::Failure;
use escapement_domain::identifier::NodeId;
use escapement_domain::timestamp::Span;
use futures::FutureExt;

use super::World;
use super::clients::{TENANTS, caller};
use super::target::Begun;
use crate::definitions::{Behaviour, QUEUE};
use crate::evidence::Ended;

/// Where attempts of workers outside are noted to run: no node has this number.
pub(crate) const OUTSIDE: NodeId = NodeId(0);
/// How long a lease holds, in ms.
const LEASE_MS: u64 = 3_000;
/// How long a worker stops before its lease ends, in ms.
const MARGIN_MS: u64 = 200;
/// How long a worker works before it shows that it lives, in ms.
const BEAT_MS: u64 = 700;
/// How long a worker waits for an answer, in ms.
const PATIENCE_MS: u64 = 900;
/// How long an empty queue is waited at, in ms.
const WAIT_MS: u64 = 1_500;
/// Workers, of a thousand, that die during an attempt.
const DIES_PER_MILLE: u64 = 40;
/// Workers, of a thousand, that tell a lie before they begin.
const LIES_PER_MILLE: u64 = 60;
/// How often the end of an attempt is told until somebody has heard it.
const TOLD_MAX: u32 = 4;

/// Lets a worker go on to the end of the run.
pub(super) async fn work(world: Rc<World>, number: u64) {
    loop {
        let tenant = world.nature.draw(|chance| chance.pick(&TENANTS));
        let caller = caller_of(tenant);
        let request = LeaseRequest {
            queue: QUEUE.into(),
            worker: format!("worker-{number}").into(),
            most: 2,
            lease: Span(LEASE_MS),
            wait: Span(WAIT_MS),
        };
        let asked = world.nature.now();
        let asks = caller.clone();
        let answer = world
            .call(WAIT_MS + PATIENCE_MS, move |service| {
                async move { service.lease(&asks, &request).await }.boxed_local()
            })
            .await;
        match answer {
            Some(Ok(leased)) => {
                for leased in leased {
                    tokio::task::spawn_local(attempt(world.clone(), caller.clone(), leased, asked));
                }
                world.pause(20).await;
            }
            Some(Err(_)) | None => world.pause(300).await,
        }
    }
}

fn caller_of(tenant: &'static str) -> Caller {
    let mut caller = caller(None);
    tenant.clone_into(&mut caller.principal.tenant);
    caller
}

/// How one attempt went, as its worker sees it.
enum Course {
    /// It did its work, and it succeeded or not.
    Through(bool),
    /// It was told to stop.
    Stopped,
    /// Its lease was about to end, or had; or the worker died.
    Over(Ended),
}

async fn attempt(world: Rc<World>, caller: Caller, leased: LeasedExecution, asked: u64) {
    let holds_until = asked + leased.holds.0;
    if world.nature.now() + MARGIN_MS >= holds_until {
        return;
    }
    let visit = world.target.begin(
        OUTSIDE,
        Begun {
            task: leased.row.task,
            execution: leased.row.id,
            scheduled_at: leased.row.scheduled_at,
            attempt: leased.row.attempt,
            token: leased.token,
        },
    );
    let mut shift = Shift { world, caller, leased, holds_until };
    if shift.world.nature.draw(|chance| chance.per_mille(LIES_PER_MILLE)) {
        shift.lie().await;
    }
    let (told, outcome) = match shift.through().await {
        Course::Through(true) => (Ended::Succeeded, AttemptOutcome::Succeeded(None)),
        Course::Through(false) => (Ended::Failed, failed("the worker says no")),
        Course::Stopped => (Ended::Stopped, failed("it was told to stop")),
        Course::Over(how) => {
            visit.end(how);
            return;
        }
    };
    visit.end(told);
    shift.tell(outcome).await;
}

fn failed(error: &str) -> AttemptOutcome {
    AttemptOutcome::Failed(Failure::new(error))
}

/// One attempt in the hands of its worker.
struct Shift {
    world: Rc<World>,
    caller: Caller,
    leased: LeasedExecution,
    /// In ms of the world.
    holds_until: u64,
}

impl Shift {
    async fn through(&mut self) -> Course {
        let Behaviour { takes_ms, fails_per_mille } =
            Behaviour::of_text(self.leased.payload.as_deref().unwrap_or_default());
        let (fails, dies) = self.world.nature.draw(|chance| {
            let dies = chance.per_mille(DIES_PER_MILLE).then(|| chance.below(takes_ms + 1));
            (chance.per_mille(fails_per_mille), dies)
        });
        let began = self.world.nature.now();
        let (done, dead) = (began + takes_ms, dies.map_or(u64::MAX, |after| began + after));
        loop {
            let now = self.world.nature.now();
            let over = self.holds_until.saturating_sub(MARGIN_MS);
            if now >= dead {
                return Course::Over(Ended::Died);
            }
            if now >= over {
                return Course::Over(Ended::Killed);
            }
            if now >= done {
                return Course::Through(!fails);
            }
            let until = (now + BEAT_MS).min(done).min(dead).min(over);
            self.world.pause(until - now).await;
            if until < done && until < dead && until < over && self.beat().await {
                return Course::Stopped;
            }
        }
    }

    /// Shows that the worker lives; says whether it is to stop. An attempt that is not its own any more is over at once.
    async fn beat(&mut self) -> bool {
        let sent = self.world.nature.now();
        let (caller, execution, token) = (self.caller.clone(), self.leased.row.id, self.leased.token);
        let patience = PATIENCE_MS.min(self.holds_until.saturating_sub(MARGIN_MS + sent));
        let heard = self
            .world
            .call(patience, move |service| {
                async move { service.heartbeat(&caller, execution, token).await }.boxed_local()
            })
            .await;
        match heard {
            Some(Ok(extension)) => {
                self.holds_until = sent + extension.holds.0;
                extension.cancel
            }
            Some(Err(ServiceError::Rejected(Rejection::StaleLease) | ServiceError::NoSuchExecution)) => {
                self.holds_until = sent;
                false
            }
            Some(Err(_)) | None => false,
        }
    }

    /// Speaks for somebody else: under a token that nobody was given, and for another tenant under the right one.
    async fn lie(&self) {
        let (execution, token) = (self.leased.row.id, self.leased.token);
        let stranger = TENANTS.into_iter().find(|tenant| *tenant != self.caller.principal.tenant);
        let stranger = stranger.map_or_else(|| self.caller.clone(), caller_of);
        for (caller, token) in [(self.caller.clone(), token - 1), (stranger, token)] {
            let of_another = caller.principal.tenant != self.caller.principal.tenant;
            let lie = move |service: Service| {
                async move {
                    let beat = service.heartbeat(&caller, execution, token).await.map(drop);
                    let outcome = AttemptOutcome::Succeeded(None);
                    [beat, service.complete_attempt(&caller, execution, token, outcome).await.map(drop)]
                }
                .boxed_local()
            };
            // Whoever tells lies works under a lease all the same.
            let left = self.holds_until.saturating_sub(MARGIN_MS + self.world.nature.now());
            if left == 0 {
                return;
            }
            let answers = self.world.call(PATIENCE_MS.min(left), lie).await;
            for answer in answers.into_iter().flatten() {
                self.world.counts.borrow_mut().lies += 1;
                // To a stranger not even that there is such an execution may be told.
                let told = of_another && matches!(answer, Err(ServiceError::Rejected(Rejection::StaleLease)));
                if answer.is_ok() || told {
                    let what =
                        format!("a lie about {execution} under token {token} was answered with {answer:?}");
                    self.world.violate("fencing", what);
                }
            }
        }
    }

    /// Says how it ended, until somebody has heard it.
    async fn tell(&self, outcome: AttemptOutcome) {
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(&self.leased.row.id.0.to_be_bytes());
        digest[16..24].copy_from_slice(&self.leased.token.to_be_bytes());
        let key = format!("{}-{}", self.leased.row.id, self.leased.token);
        let caller =
            Caller { idempotency: Some(Idempotency { key: key.into(), digest }), ..self.caller.clone() };
        for _ in 0..TOLD_MAX {
            let (caller, outcome) = (caller.clone(), outcome.clone());
            let (execution, token) = (self.leased.row.id, self.leased.token);
            let told = self
                .world
                .call(PATIENCE_MS, move |service| {
                    async move { service.complete_attempt(&caller, execution, token, outcome).await.err() }
                        .boxed_local()
                })
                .await;
            match told {
                Some(
                    None
                    | Some(ServiceError::Rejected(Rejection::StaleLease) | ServiceError::NoSuchExecution),
                ) => return,
                Some(Some(_)) | None => self.world.pause(200).await,
            }
        }
    }
}
