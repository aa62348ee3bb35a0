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

use crate::harness::api::Api;
use crate::harness::definitions::{call, every_second, with};
use crate::harness::target::Target;
use crate::harness::wait::{instant_in, now_ms};

/// Clients that write at the same time.
const CLIENTS: usize = 3;
/// The pause between two questions of one client that got no answer.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a client that is told to stop still repeats its wish, in ms.
const GIVES_UP_MS: i64 = 10_000;
/// Tasks that are created at once, all of them in one entry of the log.
const BULK: usize = 50;
/// Where tasks are created.
const TASKS: &str = "/api/scheduled-tasks/";
/// Where many are.
const BULKS: &str = "/api/scheduled-tasks/bulk";
/// How long an attempt takes at the target, in ms: some take long enough to be caught in the middle.
const TAKES_MS: [u64; 4] = [0, 0, 30, 150];

/// One wish for new tasks, as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Its number.
    pub(crate) number: usize,
    /// How many tasks.
    pub(crate) asked: usize,
    /// When it was first sent, in ms since 1970.
    pub(crate) issued: i64,
    /// The tasks that were acknowledged, and when.
    pub(crate) answered: Option<(Vec<TaskId>, i64)>,
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
    #[track_caller]
    pub(crate) fn create_due(&self, target: &Target, tasks: usize, from_ms: i64, span_ms: i64) -> i64 {
        let (begin, step) = (now_ms() + from_ms, span_ms / i64::try_from(tasks).expect("few"));
        for first in (0..tasks).step_by(BULK) {
            let places = first..tasks.min(first + BULK);
            let created = self.shared.wish(BULKS, 200, |number| {
                let due = |place| begin + step * i64::try_from(place).expect("few") - now_ms();
                places
                    .clone()
                    .map(|place| once(&format!("{number}-{place}"), place, due(place), target))
                    .collect()
            });
            assert_eq!(created.len(), places.len(), "a bulk is created in quiet times");
        }
        begin + span_ms
    }

    /// Creates tasks that fire every second, and returns them.
    #[track_caller]
    pub(crate) fn create_beats(&self, target: &Target, beats: usize) -> Vec<TaskId> {
        let beat = |number: usize| {
            let beat = call(&format!("beat-{number}"), &every_second(), &target.url("/slow/0"));
            with(beat, json!({ "overlap": "allow", "timeout": "20s" }))
        };
        let created: Vec<TaskId> = (0..beats).flat_map(|_| self.shared.wish(TASKS, 201, beat)).collect();
        assert_eq!(created.len(), beats, "a beat is created in quiet times");
        created
    }

    /// Starts clients that create tasks which are due soon, until [`Load::stop`].
    pub(crate) fn start_clients(&mut self, target: &Target, pause: Duration) {
        let target = target.clone();
        self.start_writing(pause, move |number| once(&number.to_string(), number, 1_500, &target));
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
                    shared.wish(TASKS, 201, &task);
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
    /// Wishes for something new until it is acknowledged, or the clients are told to stop and nobody answers; returns
    /// the tasks that were created.
    fn wish(&self, path: &str, created: u16, tasks: impl FnOnce(usize) -> Value) -> Vec<TaskId> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tasks = tasks(number);
        let (asked, body) = (tasks.as_array().map_or(1, Vec::len), tasks.to_string());
        let (name, key) = (number.to_string(), format!("key-{number}"));
        let headers = [("X-Correlation-Id", name.as_str()), ("Idempotency-Key", key.as_str())];
        let issued = now_ms();
        let mut answered = None;
        for turn in number.. {
            let api = {
                let apis = lock(&self.apis);
                apis[turn % apis.len()].clone()
            };
            match api.try_send("POST", path, &headers, Some(&body)) {
                Ok(reply) if reply.status == created => {
                    answered = Some((ids(&reply.json()), now_ms()));
                    break;
                }
                Ok(reply) if reply.status < 500 => {
                    eprintln!("wish {number}: {} {}", reply.status, reply.body)
                }
                Ok(_) | Err(_) => {}
            }
            if self.stop.load(Ordering::Relaxed) && now_ms() > issued + GIVES_UP_MS {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let tasks = answered.as_ref().map(|(tasks, _)| tasks.clone()).unwrap_or_default();
        lock(&self.acknowledged).extend(&tasks);
        lock(&self.wishes).push(Wish { number, asked, issued, answered });
        tasks
    }
}

/// The tasks in an answer, to one or to a bulk.
fn ids(answer: &Value) -> Vec<TaskId> {
    let id = |item: &Value| {
        let id = ["/id", "/task/id"].iter().find_map(|pointer| item.pointer(pointer)?.as_str());
        id.unwrap_or_else(|| panic!("an identifier in {item}")).parse().expect("an identifier")
    };
    match answer["items"].as_array() {
        Some(items) => items.iter().map(id).collect(),
        None => vec![id(answer)],
    }
}

fn once(name: &str, place: usize, in_ms: i64, target: &Target) -> Value {
    let at = json!({ "type": "once", "at": instant_in(in_ms), "if_past": "run" });
    let takes = TAKES_MS[place % TAKES_MS.len()];
    let task = call(&format!("once-{name}"), &at, &target.url(&format!("/slow/{takes}")));
    with(task, json!({ "timeout": "20s" }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
