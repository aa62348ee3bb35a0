//! Clients: what they wish for, whom they ask, and what they know afterwards.
//!
//! They call the service of some node, as its HTTP handlers do. A client waits for one operation at a time and gives up
//! when its patience ends; then it knows nothing of the outcome, and repeats the operation if it has a key of its own
//! for it. Requests and answers get lost on the way.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use escapement::security::{Principal, Role};
use escapement::service::validation::{BackfillRange, Checked, Publication};
use escapement::service::{BulkOutcome, Caller, Consistency, Service, ServiceError, TaskView};
use escapement_domain::command::{Change, Idempotency};
use escapement_domain::identifier::{ExecutionId, NodeId, TaskId};
use escapement_domain::record::Hash;
use escapement_domain::replica::placement::Gate;
use escapement_domain::timestamp::{Span, Timestamp};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::sync::oneshot;

use super::host::Call;
use super::meddling::{self, some};
use super::{World, first_eight};
use crate::chance::Chance;
use crate::definitions::{
    Behaviour, CALENDAR, EVENT, HELD_UP_MS, POOL, SIDE, draw, draw_calendar, draw_idle, draw_plain,
    let_follow,
};
use crate::evidence::{Done, EVENTS_READ, Hold, Knowledge, Missing, Operation, Seen, Wish};

/// The tenants for whom clients act.
pub(super) const TENANTS: [&str; 4] = ["acme", "rival", "zeta", QUIET];
/// The tenant of tasks that are left alone.
const QUIET: &str = "quiet";
/// Tasks of it.
const QUIET_TASKS: usize = 6;
/// Tasks of one bulk that a client keeps in mind.
const TASKS_TAKEN: usize = 8;
/// Tasks that a client keeps, about.
const TASKS_KEPT: usize = 14;
/// How long a client waits for an answer, in ms.
const PATIENCE_MS: (u64, u64) = (1_500, 8_000);
/// How often a client repeats what it has a key for.
const REPEATS: u32 = 3;
/// Requests, and answers, of a thousand that get lost while the world is rough.
const LOST_PER_MILLE: u64 = 15;

/// One client.
struct Client {
    world: Rc<World>,
    number: u64,
    tasks: Vec<(TaskId, &'static str)>,
}

/// Lets a client go on until the world heals.
pub(super) async fn live(world: Rc<World>, number: u64) {
    let mut client = Client { world, number, tasks: Vec::new() };
    client.world.pause(300 + number * 37).await;
    while client.world.healed().is_none() {
        let (wish, tenant) = client.wish();
        client.turn(wish, tenant).await;
        let pause = client.world.nature.draw(|chance| chance.below(2 * client.world.settings.pause_ms));
        client.world.pause(pause).await;
    }
}

/// Creates tasks of which somebody outside can tell what must run, and leaves them alone, but for reading what happened to
/// them; until the world heals.
pub(super) async fn keep_quiet(world: Rc<World>, number: u64) {
    let mut client = Client { world, number, tasks: Vec::new() };
    client.world.pause(400).await;
    while client.world.healed().is_none() {
        let now = client.world.nature.wall();
        let tasks: Vec<TaskId> = client.tasks.iter().map(|(task, _)| *task).collect();
        let wish = client.world.nature.draw(|chance| {
            if tasks.len() < QUIET_TASKS {
                Wish::Create(vec![draw_plain(chance, now)])
            } else {
                Wish::ReadEvents(tasks[chance.index(tasks.len())])
            }
        });
        client.turn(wish, QUIET).await;
        client.world.pause(2 * client.world.settings.pause_ms).await;
    }
}

impl Client {
    async fn turn(&mut self, wish: Wish, tenant: &'static str) {
        let keyed = matches!(wish, Wish::Create(_) | Wish::CreateAll(_) | Wish::Run(_) | Wish::Publish(_));
        let key =
            self.world.nature.draw(|chance| (keyed && chance.per_mille(400)).then(|| chance.below(u64::MAX)));
        let number = self.world.issue(tenant, wish, key);
        let repeats = if key.is_some() { REPEATS } else { 0 };
        for _ in 0..=repeats {
            self.world.carry_out(number).await;
            let open = matches!(self.world.knowledge(number), Knowledge::Unknown | Knowledge::Missing(_));
            if !open || self.world.healed().is_some() {
                break;
            }
            self.world.pause(500).await;
        }
        if let Knowledge::Done(Done::Tasks(tasks)) = self.world.knowledge(number) {
            self.tasks.extend(tasks.into_iter().take(TASKS_TAKEN).map(|task| (task, tenant)));
        }
    }

    fn tenant(&self) -> &'static str {
        TENANTS[(self.number as usize) % (TENANTS.len() - 1)]
    }

    fn wish(&mut self) -> (Wish, &'static str) {
        let world = self.world.clone();
        let (aligned, known) = (world.settings.aligned, self.tasks.len());
        // A client's own clock is as good as anybody's.
        let now = world.nature.wall();
        let tasks: Vec<TaskId> = self.tasks.iter().map(|(task, _)| *task).collect();
        world.nature.draw(|chance| {
            if known < 4 || (known < TASKS_KEPT && chance.per_mille(300)) {
                if chance.per_mille(2) {
                    let many = (0..chance.between(600, 1_100)).map(|_| draw_idle(chance, now)).collect();
                    return (Wish::CreateAll(many), self.tenant());
                }
                let count = if chance.per_mille(150) { chance.between(2, 8) } else { 1 };
                let definitions: Vec<_> = (0..count)
                    .map(|_| {
                        let mut definition = draw(chance, now, aligned);
                        let_follow(&mut definition, chance, &tasks);
                        definition
                    })
                    .collect();
                let all = chance.per_mille(200);
                let wish = if all { Wish::CreateAll(definitions) } else { Wish::Create(definitions) };
                return (wish, self.tenant());
            }
            let which = chance.index(known);
            let (task, tenant) = self.tasks[which];
            let wish = match chance.below(37) {
                24 => Wish::PutCalendar(Box::new(draw_calendar(chance, now))),
                30..=32 => Wish::Publish(chance.below(SIDE.1)),
                29 => Wish::Hold(Hold::PutGate(Gate::Pool(POOL.into()), some(chance, (2, 5)))),
                33..=36 => world.some_meddling(tenant, chance).map_or(Wish::Run(task), Wish::Hold),
                25 | 26 => world.some_change(tenant, task, chance, now).unwrap_or(Wish::Read(task)),
                27 | 28 => world.some_backfill(tenant, task, chance, now).unwrap_or(Wish::Run(task)),
                0..=2 => {
                    let mut definition = draw(chance, now, aligned);
                    let_follow(&mut definition, chance, &tasks);
                    Wish::Update(task, Box::new(definition))
                }
                3..=4 => Wish::Pause(task),
                5..=8 => Wish::Resume(task),
                9 => {
                    self.tasks.swap_remove(which);
                    Wish::Delete(task)
                }
                10..=13 => Wish::Run(task),
                14..=16 => Wish::Read(task),
                17 | 18 => Wish::ReadEvents(task),
                some => match world.some_execution(tenant, chance, some < 22) {
                    Some(execution) if chance.per_mille(250) => {
                        let run = world.run_of(execution);
                        if some < 22 { Wish::CancelRun(run) } else { Wish::RetryRun(run) }
                    }
                    Some(execution) if some < 22 => Wish::Cancel(execution),
                    Some(execution) => Wish::Retry(execution),
                    None => Wish::Run(task),
                },
            };
            (wish, tenant)
        })
    }
}

impl World {
    /// A change of an occurrence of a task that is to come.
    fn some_change(&self, tenant: &str, task: TaskId, chance: &mut Chance, now: Timestamp) -> Option<Wish> {
        let ledger = self.ledger.borrow();
        let held = ledger.state().task(ledger.state().tenant_number(tenant)?, task)?;
        let changed = held.overrides.keys().next().copied().filter(|_| chance.per_mille(300));
        let at = changed.or(held.next)?;
        let change = match chance.below(8) {
            0 | 1 => Change::Skip,
            2 => Change::Restore,
            _ => Change::Move { to: now.plus(Span(chance.between(200, 20_000))) },
        };
        Some(Wish::ChangeOccurrence(task, at, change))
    }

    /// A backfill of the last seconds of a task whose runs are short, so that it ends with the world.
    fn some_backfill(&self, tenant: &str, task: TaskId, chance: &mut Chance, now: Timestamp) -> Option<Wish> {
        let ledger = self.ledger.borrow();
        let held = ledger.state().task(ledger.state().tenant_number(tenant)?, task)?;
        let definition = held.definition.open_definition().ok()?;
        let short =
            Behaviour::of(&definition.action).takes_ms <= HELD_UP_MS && definition.retry.max_attempts == 1;
        let range = (now.minus(Span(chance.between(5_000, 40_000))), now.minus(Span(3_000)));
        let concurrency = u32::try_from(chance.between(1, 4)).unwrap_or(1);
        short.then_some(Wish::Backfill(task, range, concurrency))
    }

    /// An execution of a tenant: an open one, or any that was ever scheduled.
    pub(super) fn some_execution(
        &self,
        tenant: &str,
        chance: &mut Chance,
        open: bool,
    ) -> Option<ExecutionId> {
        let ledger = self.ledger.borrow();
        let number = ledger.state().tenant_number(tenant)?;
        if open {
            let executions = ledger.state().executions();
            let some = chance.index(executions.len().max(1));
            return executions.values().nth(some).filter(|one| one.tenant == number).map(|one| one.id);
        }
        let records = ledger.records();
        let some = chance.index(records.len().max(1));
        let of_tenant = records.iter().skip(some).filter(|record| record.header.tenant == number);
        of_tenant.take(200).find_map(|record| record.event.execution())
    }

    /// The run that an execution belongs to.
    fn run_of(&self, execution: ExecutionId) -> ExecutionId {
        let ledger = self.ledger.borrow();
        ledger.state().execution(execution).map_or(execution, |open| open.run())
    }

    /// Notes that somebody wants something.
    pub(super) fn issue(&self, tenant: &'static str, wish: Wish, key: Option<u64>) -> usize {
        let mut operations = self.operations.borrow_mut();
        let number = operations.len();
        let content = first_eight(&Hash::of(format!("{wish:?}").as_bytes()));
        self.nature
            .note(&[4, number as u64, content], || format!("operation {number} ({tenant}): {}", told(&wish)));
        let issued = self.nature.now();
        let knowledge = Knowledge::Pending;
        operations.push(Operation { number, tenant, wish, key, issued, knowledge, answered: u64::MAX });
        number
    }

    /// What is known of an operation.
    pub(super) fn knowledge(&self, number: usize) -> Knowledge {
        self.operations.borrow()[number].knowledge.clone()
    }

    /// Asks some node to carry an operation out, and notes what came of it.
    pub(super) async fn carry_out(self: &Rc<Self>, number: usize) {
        let operation = self.operations.borrow()[number].clone();
        let rough = self.healed().is_none() && self.settings.fault_gap_ms > 0;
        let (patience, asked, answered) = self.nature.draw(|chance| {
            let lost = if rough { LOST_PER_MILLE } else { 0 };
            let patience = chance.between(PATIENCE_MS.0, PATIENCE_MS.1);
            (patience, !chance.per_mille(lost), !chance.per_mille(lost))
        });
        let answer = match self.some_door(asked) {
            Some(host) => self.ask(host, patience, move |service| serve(service, operation)).await,
            None => {
                self.pause(patience).await;
                None
            }
        };
        let knowledge = answer.filter(|_| answered).unwrap_or(Knowledge::Unknown);
        let told = format!("operation {number}: {knowledge:?}");
        self.nature.note(&[5, first_eight(&Hash::of(told.as_bytes()))], || told);
        let operation = &mut self.operations.borrow_mut()[number];
        operation.knowledge = knowledge;
        operation.answered = self.nature.now();
    }

    /// Asks some node; none when the question or its answer gets lost, or nobody answers in time.
    pub(super) async fn call<T: 'static>(
        &self,
        patience_ms: u64,
        question: impl FnOnce(Service) -> LocalBoxFuture<'static, T> + 'static,
    ) -> Option<T> {
        let rough = self.healed().is_none() && self.settings.fault_gap_ms > 0;
        let lost = if rough { LOST_PER_MILLE } else { 0 };
        let (asked, answered) = self.nature.draw(|chance| (!chance.per_mille(lost), !chance.per_mille(lost)));
        match self.some_door(asked) {
            Some(host) => self.ask(host, patience_ms, question).await.filter(|_| answered),
            None => {
                self.pause(patience_ms).await;
                None
            }
        }
    }

    /// Some node that a client can reach.
    fn some_door(&self, asked: bool) -> Option<NodeId> {
        let doors: Vec<NodeId> =
            self.hosts.borrow().values().filter(|host| host.ready().is_some()).map(|host| host.id).collect();
        let some = self.nature.draw(|chance| chance.index(doors.len()));
        doors.get(some).copied().filter(|_| asked)
    }

    /// Has a node do something with its service; none if it dies or takes too long.
    pub(super) async fn ask<T: 'static>(
        &self,
        host: NodeId,
        patience_ms: u64,
        question: impl FnOnce(Service) -> LocalBoxFuture<'static, T> + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let serve = move |service: Service| {
            async move {
                // Whoever asked may have given up.
                let _ = reply.send(question(service).await);
            }
            .boxed_local()
        };
        let door = {
            let hosts = self.hosts.borrow();
            hosts.get(&host)?.running.as_ref()?.door.clone()
        };
        door.send(Call::Serve(Box::new(serve))).ok()?;
        tokio::time::timeout(Duration::from_millis(patience_ms), answer).await.ok()?.ok()
    }
}

fn told(wish: &Wish) -> String {
    match wish {
        Wish::Create(definitions) => format!("create {} tasks, each for itself", definitions.len()),
        Wish::CreateAll(definitions) => format!("create {} tasks, all or none", definitions.len()),
        Wish::Update(task, _) => format!("update {task}"),
        other => format!("{other:?}"),
    }
}

/// Somebody who may do what an operation needs.
pub(super) fn caller(operation: Option<&Operation>) -> Caller {
    let tenant = operation.map_or(TENANTS[0], |operation| operation.tenant).to_owned();
    let idempotency = operation.and_then(|operation| operation.key).map(|key| {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&key.to_be_bytes());
        Idempotency { key: Arc::from(key.to_string()), digest }
    });
    Caller {
        principal: Principal {
            subject: "simulated".into(),
            tenant,
            roles: vec![Role::Admin, Role::ClusterAdmin],
        },
        correlation_id: operation.map_or_else(String::new, |operation| operation.number.to_string()).into(),
        idempotency,
        consistency: Consistency::Linearizable,
    }
}

fn serve(service: Service, operation: Operation) -> LocalBoxFuture<'static, Knowledge> {
    async move {
        let caller = caller(Some(&operation));
        let checked = |definition| Checked { definition, state: None };
        let task =
            |view: TaskView| Done::Task(Seen { task: view.id, version: view.version, state: view.state });
        let outcome = match operation.wish {
            Wish::Create(mut definitions) if definitions.len() == 1 => {
                let created = service.create_task(&caller, checked(definitions.remove(0))).await;
                created.map(|view| Done::Tasks(vec![view.id]))
            }
            Wish::Create(definitions) => {
                let items = definitions.into_iter().map(|definition| Ok(checked(definition))).collect();
                service.create_tasks(&caller, items).await.and_then(created)
            }
            Wish::CreateAll(definitions) => {
                let tasks = definitions.into_iter().map(checked).collect();
                service.create_tasks_atomically(&caller, tasks).await.map(Done::Tasks)
            }
            Wish::Update(id, definition) => {
                service.update_task(&caller, id, None, checked(*definition)).await.map(task)
            }
            Wish::Pause(id) => service.pause_task(&caller, id).await.map(task),
            Wish::Resume(id) => service.resume_task(&caller, id).await.map(task),
            Wish::Delete(id) => service.delete_task(&caller, id, None).await.map(|()| Done::Gone),
            Wish::Run(id) => service.run_task(&caller, id).await.map(|row| Done::Execution(row.id)),
            Wish::Cancel(id) => {
                service.cancel_execution(&caller, id).await.map(|row| Done::Execution(row.id))
            }
            Wish::Retry(id) => service.retry_execution(&caller, id).await.map(|row| Done::Execution(row.id)),
            Wish::CancelRun(id) => service.cancel_run(&caller, id).await.map(|_| Done::Changed),
            Wish::RetryRun(id) => service.retry_run(&caller, id).await.map(|_| Done::Changed),
            Wish::ChangeOccurrence(id, at, change) => {
                service.change_occurrence(&caller, id, at, change).await.map(|()| Done::Changed)
            }
            Wish::Backfill(id, (from, to), concurrency) => {
                let range = BackfillRange { from, to, concurrency };
                service.backfill(&caller, id, range).await.map(|_| Done::Changed)
            }
            Wish::PutCalendar(calendar) => {
                service.put_calendar(&caller, CALENDAR, *calendar).await.map(|_| Done::Changed)
            }
            Wish::Publish(side) => {
                let payload = format!("{{\"{}\":{side}.0}}", SIDE.0).into();
                let event = Publication { name: EVENT.into(), payload };
                service.publish(&caller, event).await.map(|published| Done::Published(published.id))
            }
            Wish::Hold(hold) => meddling::carry_out(&service, &caller, hold).await,
            Wish::Read(id) => match service.task(&caller, id).await {
                Err(ServiceError::NoSuchTask) => Ok(Done::Absent),
                seen => seen.map(task),
            },
            Wish::ReadEvents(id) => service.task_events(&caller, id, 0, EVENTS_READ).await.map(|page| {
                Done::Events(
                    page.records.iter().map(|record| (record.header.sequence, record.hash)).collect(),
                )
            }),
        };
        outcome.map_or_else(refused, Knowledge::Done)
    }
    .boxed_local()
}

/// One that failed makes the whole an outcome that nobody knows: the rest was created.
fn created(outcomes: Vec<BulkOutcome>) -> Result<Done, ServiceError> {
    let tasks = outcomes.into_iter().map(|outcome| match outcome {
        BulkOutcome::Created(task) => Ok(task),
        BulkOutcome::Invalid(_) | BulkOutcome::Failed(_) => Err(ServiceError::Unknown),
    });
    tasks.collect::<Result<_, _>>().map(Done::Tasks)
}

/// What a client knows after an error, by what the error promises.
fn refused(error: ServiceError) -> Knowledge {
    match error {
        ServiceError::Invalid { .. }
        | ServiceError::Rejected(_)
        | ServiceError::NoLeader
        | ServiceError::Busy => Knowledge::Refused(error.to_string()),
        // The change may stand, and what it was made to may be gone by the time it is looked at.
        ServiceError::NoSuchTask => Knowledge::Missing(Missing::Task),
        ServiceError::NoSuchExecution => Knowledge::Missing(Missing::Execution),
        ServiceError::NoSuchCalendar { .. } => Knowledge::Missing(Missing::Calendar),
        ServiceError::NoSuchRun
        | ServiceError::NoSuchTenant
        | ServiceError::Unknown
        | ServiceError::Behind
        | ServiceError::History(_)
        | ServiceError::Stopped { .. } => Knowledge::Unknown,
        ServiceError::Denied(_) | ServiceError::Cluster(_) | ServiceError::Broken { .. } => {
            Knowledge::Refused(format!("unexpected: {error}"))
        }
    }
}
