//! A client that changes its mind: it creates tasks, reads, replaces, pauses and resumes them, and deletes them.
//!
//! But for new tasks it asks once and has no key: when no answer comes it does not know what came of it, and goes on.

use std::sync::Arc;
use std::time::Duration;

use escapement::service::TaskState;
use escapement_domain::identifier::TaskId;
use escapement_simulation::chance::Chance;
use escapement_simulation::evidence::{Done, Knowledge, Missing, Seen, Wish};
use serde_json::{Value, json};

use crate::harness::api::{Reply, text};
use crate::harness::definitions::{call, with};
use crate::harness::target::Target;
use crate::load::{GIVES_UP_MS, Shared, TASKS, definition};

/// Tasks that it keeps.
const TASKS_KEPT: usize = 3;
/// The pause between two of its wishes.
const PAUSE: Duration = Duration::from_millis(120);

/// The client.
pub(crate) struct Editor {
    shared: Arc<Shared>,
    chance: Chance,
    url: String,
    tasks: Vec<TaskId>,
}

impl Editor {
    /// One of several; its number decides what it wishes for.
    pub(crate) fn new(shared: Arc<Shared>, number: u64, target: &Target) -> Self {
        Self { shared, chance: Chance::new(number), url: target.url("/slow/0"), tasks: Vec::new() }
    }

    /// Goes on until the clients are to stop, and deletes what is left.
    pub(crate) fn live(mut self) {
        while !self.shared.is_over() {
            self.turn();
            std::thread::sleep(PAUSE);
        }
        // Whatever cannot be deleted, the end of the campaign waits for in vain, and says so.
        let gives_up = self.shared.world_ms() + GIVES_UP_MS;
        while let Some(task) = self.tasks.pop() {
            while !self.delete(task) && self.shared.world_ms() < gives_up {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn turn(&mut self) {
        if self.tasks.len() < TASKS_KEPT {
            let task = self.task();
            let created = self.shared.create(TASKS, 201, |_| task);
            self.tasks.extend(created);
            return;
        }
        let place = self.chance.index(self.tasks.len());
        let task = self.tasks[place];
        let path = format!("{TASKS}{task}");
        match self.chance.below(12) {
            0..=4 => drop(self.shared.once(("GET", &path), None, Wish::Read(task), read)),
            5 | 6 => {
                let new = self.task();
                let wish = Wish::Update(task, Box::new(definition(&new)));
                drop(self.shared.once(("PUT", &path), Some(&new.to_string()), wish, changed));
            }
            7 => self.post(&path, "pause", Wish::Pause(task)),
            8..=10 => self.post(&path, "resume", Wish::Resume(task)),
            _ => {
                if self.delete(task) {
                    self.tasks.swap_remove(place);
                }
            }
        }
    }

    fn task(&mut self) -> Value {
        let trigger = json!({ "type": "interval", "every": format!("{}s", self.chance.between(1, 3)) });
        let name = format!("edited-{}", self.chance.below(1_000));
        with(call(&name, &trigger, &self.url), json!({ "overlap": "allow", "timeout": "20s" }))
    }

    fn post(&self, path: &str, what: &str, wish: Wish) {
        drop(self.shared.once(("POST", &format!("{path}/{what}")), None, wish, changed));
    }

    /// Whether it is gone.
    fn delete(&self, task: TaskId) -> bool {
        let request = ("DELETE", &*format!("{TASKS}{task}"));
        let known = self.shared.once(request, None, Wish::Delete(task), changed);
        matches!(known, Knowledge::Done(Done::Gone) | Knowledge::Missing(Missing::Task))
    }
}

/// What is known of a read after its answer.
fn read(reply: &Reply) -> Knowledge {
    match reply.status {
        404 => Knowledge::Done(Done::Absent),
        _ => changed(reply),
    }
}

/// What is known of a change after its answer: a server that says that it cannot may have done it.
fn changed(reply: &Reply) -> Knowledge {
    match reply.status {
        200 => Knowledge::Done(Done::Task(seen(&reply.json()))),
        204 => Knowledge::Done(Done::Gone),
        404 => Knowledge::Missing(Missing::Task),
        409 | 412 => Knowledge::Refused(reply.body.clone()),
        429 | 500.. => Knowledge::Unknown,
        status => Knowledge::Refused(format!("unexpected: {status} {}", reply.body)),
    }
}

fn seen(task: &Value) -> Seen {
    let state = text(task, "state");
    let state = TaskState::ALL.into_iter().find(|known| known.name() == state);
    Seen {
        task: text(task, "id").parse().expect("an identifier"),
        version: task["version"].as_u64().and_then(|version| u32::try_from(version).ok()).expect("a version"),
        state: state.expect("a known state"),
    }
}
