//! What the tests of the executors share.

use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::{AttemptOrder, Clock, Entropy, OutputChunk, OutputSink, OutputStream};
use escapement_domain::identifier::{ExecutionId, TaskId};
use escapement_domain::task::action::Action;
use escapement_domain::timestamp::{Span, Timestamp};
use nix::unistd::{Uid, setfsuid};
use parking_lot::Mutex;

/// Nobody's files are this user's.
const NOBODY: u32 = 61_234;

/// Does something in a thread that modes bind, also if root runs the tests; `place` becomes its own.
pub(super) fn as_nobody(place: &Path, work: impl FnOnce() + Send) {
    let bound = || {
        if Uid::effective().is_root() {
            chown(place, Some(NOBODY), None).expect("root may");
            setfsuid(Uid::from_raw(NOBODY));
        }
        work();
    };
    if let Err(panic) = std::thread::scope(|scope| scope.spawn(bound).join()) {
        std::panic::resume_unwind(panic);
    }
}

/// Keeps the lines of an attempt.
#[derive(Default)]
pub(super) struct Lines(Mutex<Vec<(OutputStream, String)>>);

impl Lines {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn all(&self) -> Vec<(OutputStream, String)> {
        self.0.lock().clone()
    }

    pub(super) fn of(&self, stream: OutputStream) -> Vec<String> {
        self.all().into_iter().filter(|(found, _)| *found == stream).map(|(_, text)| text).collect()
    }
}

impl OutputSink for Lines {
    fn write(&self, chunk: OutputChunk) {
        self.0.lock().push((chunk.stream, chunk.text));
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Entropy that is the same every time.
pub(super) struct Drawn;

impl Entropy for Drawn {
    fn bits(&self) -> u128 {
        0xfeed
    }
}

/// A clock that stands still.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(Still)
}

/// The second attempt of an execution that does `action`, with a minute to do it.
pub(super) fn order(action: Action) -> AttemptOrder {
    AttemptOrder {
        tenant: "acme".into(),
        task: TaskId(1),
        execution: ExecutionId(2),
        attempt: 2,
        fencing_token: 77,
        scheduled_at: Timestamp(1_700_000_000_000),
        action,
        timeout: Span::minutes(1),
        correlation_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        retry_items: None,
        without_cause: false,
    }
}
