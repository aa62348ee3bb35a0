//! A thousand tasks that fall due, and clients that go on working while things break.
//!
//! Every operation has a number, which is its correlation id. That of new tasks is the end of their key, too: they are asked
//! for under both until somebody answers, and must be made once. Absent on purpose: knowledge of who leads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use escapement::json;
use escapement::service::validation::{self, ProgramsOffered, Purpose, Surroundings};
use escapement_domain::identifier::TaskId;
use escapement_domain::task::definition::Definition;
use escapement_domain::timestamp::Timestamp;
use escapement_simulation::evidence::{Done, Knowledge, Operation, Wish};
use serde_json::{Value, json};

use crate::editor::Editor;
use crate::harness::api::{Api, Reply};
use crate::harness::definitions::{call, every_second, with};
use crate::harness::target::Target;
use crate::harness::wait::{instant_in, now_ms};

/// Clients that write at the same time.
const CLIENTS: usize = 3;
/// Clients that change what they created.
const EDITORS: u64 = 2;
/// The pause between two questions of one client that got no answer.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a client that is told to stop still repeats its wish, in ms.
pub(crate) const GIVES_UP_MS: u64 = 10_000;
/// Tasks that are created at once, all of them in one entry of the log.
const BULK: usize = 50;
/// The status of an answer that asks to come again later.
const TOO_MANY: u16 = 429;
/// Where tasks are.
pub(crate) const TASKS: &str = "/api/scheduled-tasks/";
/// Where many are created.
const BULKS: &str = "/api/scheduled-tasks/bulk";
/// How long an attempt takes at the target, in ms: some take long enough to be caught in the middle.
const TAKES_MS: [u64; 4] = [0, 0, 30, 150];
/// Whose all tasks are.
const TENANT: &str = "acme";

/// What the clients of one load have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The zero of the world, in ms since 1970.
    epoch: i64,
    apis: Mutex<Vec<Api>>,
    operations: Mutex<Vec<Operation>>,
    acknowledged: Mutex<Vec<TaskId>>,
    next: AtomicUsize,
    stop: AtomicBool,
}

/// Clients and what they did.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// A load on these nodes, without any client yet, in a world that began at `epoch`, in ms since 1970.
    pub(crate) fn new(apis: Vec<Api>, epoch: i64) -> Self {
        let shared = Shared {
            epoch,
            apis: Mutex::new(apis),
            operations: Mutex::default(),
            acknowledged: Mutex::default(),
            next: AtomicUsize::default(),
            stop: AtomicBool::default(),
        };
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
            let created = self.shared.keep(BULKS, 200, |number| {
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
        let created: Vec<TaskId> = (0..beats).flat_map(|_| self.shared.keep(TASKS, 201, beat)).collect();
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
                while !shared.is_over() {
                    shared.keep(TASKS, 201, &task);
                    std::thread::sleep(pause);
                }
            }));
        }
    }

    /// Starts clients that read, change, pause, resume and delete tasks of their own, until [`Load::stop`]; then they delete
    /// what they have left.
    pub(crate) fn start_editors(&mut self, target: &Target) {
        for number in 0..EDITORS {
            let editor = Editor::new(self.shared.clone(), number, target);
            self.clients.push(std::thread::spawn(move || editor.live()));
        }
    }

    /// How many tasks that are to stay were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        lock(&self.shared.acknowledged).len()
    }

    /// These tasks, in the order of their acknowledgements.
    pub(crate) fn acknowledged_tasks(&self) -> Vec<TaskId> {
        lock(&self.shared.acknowledged).clone()
    }

    /// Lets the clients end what they do; returns every operation, each in the place of its number.
    pub(crate) fn stop(&mut self) -> Vec<Operation> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.drain(..).for_each(|client| client.join().expect("a client ends"));
        let mut operations = lock(&self.shared.operations).clone();
        operations.sort_by_key(|operation| operation.number);
        operations
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Whether the clients are to stop.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// As [`Shared::create`], of tasks that are to stay.
    fn keep(&self, path: &str, created: u16, tasks: impl FnOnce(usize) -> Value) -> Vec<TaskId> {
        let tasks = self.create(path, created, tasks);
        lock(&self.acknowledged).extend(&tasks);
        tasks
    }

    /// Asks for new tasks until they are acknowledged, or the clients are told to stop and nobody answers; returns those that
    /// were created.
    pub(crate) fn create(&self, path: &str, created: u16, tasks: impl FnOnce(usize) -> Value) -> Vec<TaskId> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tasks = tasks(number);
        let (body, key) = (tasks.to_string(), format!("key-{number}"));
        let asked = tasks.as_array().map_or(vec![&tasks], |several| several.iter().collect());
        let wish = Wish::Create(asked.into_iter().map(definition).collect());
        let issued = self.world_ms();
        let (mut made, mut refused) = (None, None);
        for turn in number.. {
            match self.ask(number, turn, ("POST", path), &[("Idempotency-Key", &key)], Some(&body)) {
                Ok(reply) if reply.status == created => {
                    made = Some(ids(&reply.json()));
                    break;
                }
                // What is asked for is sound, and nobody has it already: who says no is wrong.
                Ok(reply) if reply.status < 500 && reply.status != TOO_MANY => {
                    refused = Some(format!("unexpected: {} {}", reply.status, reply.body));
                    break;
                }
                Ok(_) | Err(_) => {}
            }
            if self.is_over() && self.world_ms() > issued + GIVES_UP_MS {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let knowledge = match (&made, refused) {
            (Some(made), _) => Knowledge::Done(Done::Tasks(made.clone())),
            (None, Some(refused)) => Knowledge::Refused(refused),
            (None, None) => Knowledge::Unknown,
        };
        self.note(number, wish, Some(number as u64), issued, knowledge);
        made.unwrap_or_default()
    }

    /// Asks once for something that has no key; returns what is known of it then.
    pub(crate) fn once(
        &self,
        request: (&str, &str),
        body: Option<&str>,
        wish: Wish,
        known: impl FnOnce(&Reply) -> Knowledge,
    ) -> Knowledge {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let issued = self.world_ms();
        let reply = self.ask(number, number, request, &[], body);
        let knowledge = reply.map_or(Knowledge::Unknown, |reply| known(&reply));
        self.note(number, wish, None, issued, knowledge.clone());
        knowledge
    }

    fn ask(
        &self,
        number: usize,
        turn: usize,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> std::io::Result<Reply> {
        let api = {
            let apis = lock(&self.apis);
            apis[turn % apis.len()].clone()
        };
        let name = number.to_string();
        let headers: Vec<_> = headers.iter().copied().chain([("X-Correlation-Id", &*name)]).collect();
        api.try_send(method, path, &headers, body)
    }

    fn note(&self, number: usize, wish: Wish, key: Option<u64>, issued: u64, knowledge: Knowledge) {
        let is_known = !matches!(knowledge, Knowledge::Unknown);
        let answered = if is_known { self.world_ms() } else { u64::MAX };
        let operation = Operation { number, tenant: TENANT, wish, key, issued, knowledge, answered };
        lock(&self.operations).push(operation);
    }

    /// Now, by the clock of the world.
    pub(crate) fn world_ms(&self) -> u64 {
        u64::try_from(now_ms() - self.epoch).expect("the world has begun")
    }
}

/// What a task means, by the check that the API makes, too.
pub(crate) fn definition(task: &Value) -> Definition {
    let text = task.to_string();
    let surroundings =
        Surroundings { now: Timestamp(now_ms()), purpose: Purpose::Create, programs: &ProgramsOffered::Any };
    let node = json::parse(text.as_bytes()).expect("JSON");
    validation::check(node, "", &surroundings).expect("a sound task").definition
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
