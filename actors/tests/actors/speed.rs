//! What the wheel does and costs by itself, on a log that takes everything: with `--nocapture` it tells how fast it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use escapement_actors::intent::SubmitError;
use escapement_actors::machine::Machine;
use escapement_actors::ports::{Clock, Leadership, Log, Silent};
use escapement_actors::wheel::{WheelHandle, WheelParts};
use escapement_actors::worker::clocks::ClockWatch;
use escapement_domain::answer::{Accepted, Answer};
use escapement_domain::command::{Client, Command, NewTask, Origin, Request};
use escapement_domain::identifier::{CommandId, NodeId, TaskId};
use escapement_domain::limits::{CREATES_PER_COMMAND_MAX, FIRES_PER_COMMAND_MAX};
use escapement_domain::schedule::zone_data_version;
use escapement_domain::task::definition::Definition;
use escapement_domain::task::rules::Rules;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::task::trigger::{Dst, Trigger};
use escapement_domain::timestamp::{Span, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cast::{TENANT, at, noop, once};
use crate::stage::BEGIN;

const TASKS: usize = 10 * FIRES_PER_COMMAND_MAX;

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        at(10)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Clock of the measurement")]
    fn monotonic(&self) -> Duration {
        Instant::now().duration_since(self.0)
    }
}

/// Takes every command and applies none.
struct Abyss {
    leadership: watch::Sender<Leadership>,
    bytes: Arc<AtomicU64>,
    commands: Arc<AtomicU64>,
}

impl Log for Abyss {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Answer, SubmitError>> {
        self.bytes.fetch_add(command.len() as u64, Ordering::Relaxed);
        self.commands.fetch_add(1, Ordering::Relaxed);
        let settled = Accepted::Settled { fired: 1, passed_over: 0, ignored: 0 };
        std::future::ready(Ok(Answer { index: 1, outcome: Ok(settled) })).boxed()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<u64, SubmitError>> {
        std::future::ready(Ok(0)).boxed()
    }
}

fn filled(definition: &Definition, next: Timestamp) -> Arc<Machine> {
    let machine = Arc::new(Machine::default());
    let new = |id: usize| NewTask {
        task: TaskId(id as u128 + 1),
        rules: Box::new(Rules::of(definition)),
        definition: Sealed::definition(definition),
        created_at: BEGIN,
        next: Some(next),
        paused: false,
    };
    let ids: Vec<usize> = (0..TASKS).collect();
    for (index, ids) in ids.chunks(CREATES_PER_COMMAND_MAX).enumerate() {
        let client = Client {
            command: CommandId(index as u128),
            issued_at: BEGIN,
            idempotency: None,
            tenant: TENANT.into(),
            subject: "ann".into(),
            correlation_id: "c".into(),
        };
        let request = Request::CreateTasks(ids.iter().copied().map(new).collect());
        let command = Command { stamp: BEGIN.into(), origin: Origin::Client(client), request }.encode();
        machine.apply(index as u64 + 1, &[Bytes::from(command)]).expect("of this version");
    }
    machine
}

#[expect(clippy::disallowed_methods, reason = "this is the Clock of the measurement")]
async fn measure(what: &str, definition: Definition, next: Timestamp) {
    let machine = filled(&definition, next);
    let begin = Instant::now();
    let clock = Arc::new(RealClock(begin));
    let (bytes, commands) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let leadership = watch::Sender::new(Leadership { term: 1, leader: Some(NodeId(1)), leading: true });
    let log = Arc::new(Abyss { leadership, bytes: bytes.clone(), commands: commands.clone() });
    let clocks = ClockWatch::new(NodeId(1), clock.clone());
    clocks.count([NodeId(1)].into());
    let (observer, zone_data) = (Arc::new(Silent), zone_data_version().into());
    let _wheel = WheelHandle::start(WheelParts { log, machine, clock, clocks, observer, zone_data });
    while commands.load(Ordering::Relaxed) < 10 {
        tokio::task::yield_now().await;
    }
    let took = begin.elapsed();
    println!(
        "{what}: {TASKS} tasks filled, planned and proposed in {took:?}, {:.0}/s",
        TASKS as f64 / took.as_secs_f64()
    );
}

#[test]
fn everything_that_is_due_is_proposed_in_full_batches() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime always starts"), async {
        measure("once", noop(once(10)), at(10)).await;
        let every = Trigger::Interval { every: Span::hours(1), anchor: Some(at(10)) };
        measure("interval", noop(every), at(10)).await;
        let cron = Trigger::Cron {
            expression: "0 2 * * 1-5".into(),
            timezone: "Europe/Berlin".into(),
            dst: Dst::default(),
        };
        measure("cron", noop(cron), at(10)).await;
    });
}
