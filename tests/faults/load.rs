//! A thousand tasks that fall due, and clients that go on writing while things break.
//!
//! Every wish has a number, which is its correlation id and the end of its key; it is repeated under both until somebody
//! answers, so that it must happen once. Absent on purpose: knowledge of who leads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use escapement_domain::identifier::TaskId;
use serde_json::{Value, json};

use crate::harness::api::{Api, text};
use crate::harness::definitions::{call, every_second, with};
use crate::harness::target::Target;
use crate::harness::wait::{instant_in, now_ms};

/// Clients that write at the same time.
const CLIENTS: usize = 3;
/// The pause between two questions of one client that got no answer.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an attempt takes at the target, in ms: some take long enough to be caught in the middle.
const TAKES_MS: [u64; 4] = [0, 0, 30, 150];

/// One wish for a new task, as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Its number.
    pub(crate) number: usize,
    /// When it was first sent, in ms since 1970.
    pub(crate) issued: i64,
    /// The task that was acknowledged, and when.
    pub(crate) answered: Option<(TaskId, i64)>,
}

#[derive(Debug, Default)]
struct Shared {
    apis: Mutex<Vec<Api>>,
    wishes: Mutex<Vec<Wish>>,
    acknowledged: Mutex<Vec<TaskId>>,
    next: AtomicUsize,
    stop: AtomicBool,
}

/// Clients and what they wished for.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// A load on these nodes, without any client yet.
    pub(crate) fn new(apis: Vec<Api>) -> Self {
        let shared = Shared { apis: Mutex::new(apis), ..Shared::default() };
        Self { shared: Arc::new(shared), clients: Vec::new() }
    }

    /// From now on the clients ask these nodes.
    pub(crate) fn ask(&self, apis: Vec<Api>) {
        *lock(&self.shared.apis) = apis;
    }

    /// Creates so many tasks, evenly due over a span; returns when the last is due, in ms since 1970.
    pub(crate) fn create_due(&self, target: &Target, tasks: usize, from_ms: i64, span_ms: i64) -> i64 {
        let begin = now_ms() + from_ms;
        let place = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    loop {
                        let n = place.fetch_add(1, Ordering::Relaxed);
                        if n >= tasks {
                            return;
                        }
                        let after =
                            span_ms * i64::try_from(n).expect("few") / i64::try_from(tasks).expect("few");
                        self.shared.wish(|number| once(number, begin + after - now_ms(), target));
                    }
                });
            }
        });
        begin + span_ms
    }

    /// Creates tasks that fire every second, and returns them.
    pub(crate) fn create_beats(&self, target: &Target, beats: usize) -> Vec<TaskId> {
        let beat = |number: usize| {
            let beat = call(&format!("beat-{number}"), &every_second(), &target.url("/slow/0"));
            with(beat, json!({ "overlap": "allow", "timeout": "20s" }))
        };
        (0..beats).map(|_| self.shared.wish(beat).expect("a beat is created in quiet times")).collect()
    }

    /// Starts clients that create tasks which are due soon, until [`Load::stop`].
    pub(crate) fn start_clients(&mut self, target: &Target, pause: Duration) {
        let target = target.clone();
        self.start_writing(pause, move |number| once(number, 1_500, &target));
    }

    /// Starts clients that create tasks, each after a pause, until [`Load::stop`].
    pub(crate) fn start_writing(
        &mut self,
        pause: Duration,
        task: impl Fn(usize) -> Value + Clone + Send + 'static,
    ) {
        for _ in 0..CLIENTS {
            let (shared, task) = (self.shared.clone(), task.clone());
            self.clients.push(std::thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.wish(&task);
                    std::thread::sleep(pause);
                }
            }));
        }
    }

    /// How many wishes were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        lock(&self.shared.acknowledged).len()
    }

    /// The tasks that were acknowledged, in that order.
    pub(crate) fn acknowledged_tasks(&self) -> Vec<TaskId> {
        lock(&self.shared.acknowledged).clone()
    }

    /// Lets the clients end what they do; returns every wish by its number.
    pub(crate) fn stop(&mut self) -> Vec<Wish> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.drain(..).for_each(|client| client.join().expect("a client ends"));
        let mut wishes = lock(&self.shared.wishes).clone();
        wishes.sort_by_key(|wish| wish.number);
        wishes
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Wishes for one task until it is acknowledged, or the clients are told to stop and nobody answers.
    fn wish(&self, task: impl FnOnce(usize) -> Value) -> Option<TaskId> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let body = task(number).to_string();
        let (name, key) = (number.to_string(), format!("key-{number}"));
        let headers = [("X-Correlation-Id", name.as_str()), ("Idempotency-Key", key.as_str())];
        let issued = now_ms();
        let mut answered = None;
        for turn in number.. {
            let api = {
                let apis = lock(&self.apis);
                apis[turn % apis.len()].clone()
            };
            match api.try_send("POST", "/api/scheduled-tasks/", &headers, Some(&body)) {
                Ok(reply) if reply.status == 201 => {
                    let id = text(&reply.json(), "id").parse().expect("an identifier");
                    answered = Some((id, now_ms()));
                    lock(&self.acknowledged).push(id);
                    break;
                }
                Ok(reply) if reply.status < 500 => {
                    eprintln!("wish {number}: {} {}", reply.status, reply.body)
                }
                Ok(_) | Err(_) => {}
            }
            if self.stop.load(Ordering::Relaxed) && now_ms() > issued + 10_000 {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        lock(&self.wishes).push(Wish { number, issued, answered });
        answered.map(|(id, _)| id)
    }
}

fn once(number: usize, in_ms: i64, target: &Target) -> Value {
    let at = json!({ "type": "once", "at": instant_in(in_ms), "if_past": "run" });
    let takes = TAKES_MS[number % TAKES_MS.len()];
    let task = call(&format!("once-{number}"), &at, &target.url(&format!("/slow/{takes}")));
    with(task, json!({ "timeout": "20s" }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
