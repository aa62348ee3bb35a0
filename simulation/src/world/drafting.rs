//! From a client's wish to a command, on the node that proposes it: stamps, fresh task ids, first instants.
//!
//! A repeated operation is drafted anew each time, under its one command id, as another leader would.

use std::sync::Arc;

use escapement_domain::command::{Client, Command, Idempotency, NewTask, Origin, Request};
use escapement_domain::identifier::{CommandId, TaskId};
use escapement_domain::task::definition::Definition;
use escapement_domain::task::plan::Timetable;
use escapement_domain::task::rules::Rules;
use escapement_domain::task::sealed::Sealed;
use escapement_domain::timestamp::Timestamp;

use super::World;
use crate::evidence::Wish;
use crate::plants::Plant;

impl World {
    /// A request reaches a node, which proposes it if it believes that it leads.
    pub(super) fn arrive(&mut self, number: usize, place: usize) {
        let node = &self.nodes[place];
        let leads = node.leader.as_ref().is_some_and(|leader| leader.ready);
        if !node.is_awake(self.now) || !leads || !self.may_stamp(place) {
            return;
        }
        let node = &self.nodes[place];
        let at = node.clock.wall(self.now).max(node.replica.logged());
        let wish = self.operations[number].wish.clone();
        let request = self.draft(wish, at);
        let operation = &self.operations[number];
        let mut client = Client {
            command: operation.command,
            issued_at: operation.issued_at,
            idempotency: operation.key.map(idempotency),
            tenant: operation.tenant.into(),
            subject: "client".into(),
            correlation_id: number.to_string().into(),
        };
        if operation.sent > operation.issued && self.has(Plant::CommandForgotten) {
            client.command = CommandId(self.chance.bits());
        }
        self.nodes[place].pending.insert(client.command, number);
        self.propose(place, &Command { at, origin: Origin::Client(client), request }, false);
    }

    fn draft(&mut self, wish: Wish, at: Timestamp) -> Request {
        match wish {
            Wish::Create(definitions) => Request::CreateTasks(self.new_tasks(&definitions, at)),
            Wish::Stage(bulk, part, definitions) => {
                Request::StageTasks { bulk, part, tasks: self.new_tasks(&definitions, at) }
            }
            Wish::Commit(bulk, parts) => Request::CommitStaged { bulk, parts },
            Wish::Update(task, definition) => Request::UpdateTask {
                task,
                expected_version: None,
                rules: Box::new(Rules::of(&definition)),
                next: first(&definition, task, at),
                definition: Sealed::definition(&definition),
            },
            Wish::Pause(task) => Request::PauseTask { task },
            Wish::Resume(task) => Request::ResumeTask { task },
            Wish::Delete(task) => Request::DeleteTask { task, expected_version: None },
            Wish::Run(task) => Request::RunTask { task },
            Wish::Cancel(execution) => Request::CancelExecution { execution },
        }
    }

    fn new_tasks(&mut self, definitions: &[Definition], at: Timestamp) -> Vec<NewTask> {
        definitions
            .iter()
            .map(|definition| {
                let task = TaskId(self.chance.bits());
                NewTask {
                    task,
                    rules: Box::new(Rules::of(definition)),
                    definition: Sealed::definition(definition),
                    created_at: at,
                    next: first(definition, task, at),
                    paused: self.chance.per_mille(60),
                }
            })
            .collect()
    }
}

fn first(definition: &Definition, task: TaskId, at: Timestamp) -> Option<Timestamp> {
    let timetable = Timetable::compile(definition, task, at).ok()?;
    timetable.first(Rules::of(definition).timing, at)
}

fn idempotency(key: u64) -> Idempotency {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&key.to_be_bytes());
    Idempotency { key: Arc::from(key.to_string()), digest }
}
