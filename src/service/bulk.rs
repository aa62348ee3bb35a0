//! Many tasks at once: each for itself, or all or none.
//!
//! A bulk is cut into parts that fit into commands. Each for itself, a part is a command of its own, under a key made from
//! the client's, so that a bulk that is sent again gets the first answer of every part. All or none, parts are staged and
//! one command commits them; under a key the tasks have names made from it, so that a bulk that is sent again finds them, and
//! a bulk that is refused uses the key up.

use escapement_actors::intent::{Draft, Intent};
use escapement_actors::task::parts;
use escapement_domain::answer::{Accepted, Rejection};
use escapement_domain::command::Idempotency;
use escapement_domain::identifier::TaskId;
use escapement_domain::limits::{BULK_TASKS_MAX, IDEMPOTENCY_WINDOW};
use escapement_domain::record::Hash;
use escapement_domain::timestamp::Span;

use super::Service;
use super::caller::Caller;
use super::consistency::PATIENCE;
use super::failure::ServiceError;
use super::naming::{Named, refused_among};
use super::submitting::Carried;
use super::validation::{self, Checked, Fault, WantedState};
use crate::security::Permission;

/// Names made from a key carry the beginning of a time slot of this length, in milliseconds.
const SLOT_MILLIS: u64 = Span::minutes(10).0;
/// Slots in which an earlier bulk under the same key can lie.
const SLOTS_BACK: u64 = IDEMPOTENCY_WINDOW.0 / SLOT_MILLIS;

/// One task of a bulk, as the check left it.
pub type BulkItem = Result<Checked, Vec<Fault>>;

/// What became of one task of a bulk.
#[derive(Debug)]
pub enum BulkOutcome {
    /// It exists.
    Created(TaskId),
    /// It was not created: the check found faults.
    Invalid(Vec<Fault>),
    /// It was not created.
    Failed(ServiceError),
}

impl Service {
    /// Creates tasks, each for itself: one outcome an item, in order.
    ///
    /// # Errors
    /// [`ServiceError`] when nothing at all was tried.
    pub async fn create_tasks(
        &self,
        caller: &Caller,
        items: Vec<BulkItem>,
    ) -> Result<Vec<BulkOutcome>, ServiceError> {
        caller.may(Permission::CreateTask)?;
        within(items.len())?;
        let mut outcomes: Vec<Option<BulkOutcome>> = Vec::with_capacity(items.len());
        let mut drafts = Vec::new();
        for item in items {
            match item {
                Ok(checked) => {
                    drafts.push(draft(self.fresh_task(), checked));
                    outcomes.push(None);
                }
                Err(faults) => outcomes.push(Some(BulkOutcome::Invalid(faults))),
            }
        }
        let created = self.create_parts(caller, drafts).await?;
        let mut created = created.into_iter();
        let outcomes = outcomes.into_iter().map(|outcome| outcome.or_else(|| created.next()));
        let missing = || ServiceError::broken("an item of a bulk has no outcome");
        outcomes.map(|outcome| outcome.ok_or_else(missing)).collect()
    }

    /// Creates drafts part by part. A part without an answer does not take the answers of the parts before it away; what
    /// the first part meets refuses the whole request.
    async fn create_parts(
        &self,
        caller: &Caller,
        drafts: Vec<Draft>,
    ) -> Result<Vec<BulkOutcome>, ServiceError> {
        let parts = parts::split(drafts);
        let mut outcomes = Vec::new();
        for part in parts {
            let key = caller.idempotency.as_ref().map(|key| part_key(key, outcomes.len()));
            let count = part.len();
            match self.create_part(caller, key, part).await {
                Ok(of_part) => outcomes.extend(of_part),
                Err(error) if outcomes.is_empty() => return Err(error),
                Err(error) => outcomes.extend((0..count).map(|_| BulkOutcome::Failed(retold(&error)))),
            }
        }
        Ok(outcomes)
    }

    /// Creates one part. The leader refuses a part for one task that cannot be scheduled any more: that one is left out, and
    /// so is at once what has no instant to come by this node's clock.
    async fn create_part(
        &self,
        caller: &Caller,
        key: Option<Idempotency>,
        part: Vec<Draft>,
    ) -> Result<Vec<BulkOutcome>, ServiceError> {
        let mut outcomes: Vec<Option<BulkOutcome>> = part.iter().map(|_| None).collect();
        let mut left: Vec<(usize, Draft)> = part.into_iter().enumerate().collect();
        while !left.is_empty() {
            let drafts = left.iter().map(|(_, draft)| draft.clone()).collect();
            let key = key.as_ref().map(|key| key_of(key, left.len() == outcomes.len()));
            match self.carry_out_under(caller, key, Intent::CreateTasks(drafts)).await {
                Ok(Carried { accepted: Accepted::Tasks(answers), .. }) => {
                    if answers.len() != left.len() {
                        // What was left the first time is not what is left now: more of it has passed.
                        return Err(Rejection::KeyReused.into());
                    }
                    for ((place, draft), answer) in left.drain(..).zip(answers) {
                        let outcome =
                            answer.map_or_else(|rejection| failed(rejection, &draft), BulkOutcome::Created);
                        outcomes[place] = Some(outcome);
                    }
                }
                Ok(_) => return Err(ServiceError::broken("a create was answered with something else")),
                Err(ServiceError::Invalid { faults }) => {
                    let (index, faults) = refused_draft(faults, left.len())?;
                    let (place, _) = left.remove(index);
                    outcomes[place] = Some(BulkOutcome::Invalid(faults));
                    let now = self.now();
                    left.retain(|(place, draft)| {
                        let fault = validation::without_instant(&draft.definition, "", now);
                        let is_left = fault.is_none();
                        outcomes[*place] = fault.map(|fault| BulkOutcome::Invalid(vec![fault]));
                        is_left
                    });
                }
                Err(error) => return Err(error),
            }
        }
        let missing = || ServiceError::broken("a part was answered in part");
        outcomes.into_iter().map(|outcome| outcome.ok_or_else(missing)).collect()
    }

    /// Creates all tasks or none.
    ///
    /// # Errors
    /// [`ServiceError`]; then none is created, unless it is [`ServiceError::Unknown`] or [`ServiceError::Behind`].
    pub async fn create_tasks_atomically(
        &self,
        caller: &Caller,
        tasks: Vec<Checked>,
    ) -> Result<Vec<TaskId>, ServiceError> {
        caller.may(Permission::CreateTask)?;
        within(tasks.len())?;
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let bulk = self.fresh_command();
        if let Some(names) = self.earlier_names(caller, tasks.len()).await? {
            // They are there. The commit is asked for once more: it compares what was asked for under the key.
            self.carry_out(caller, Intent::CommitStaged { bulk, parts: 0 }).await?;
            return Ok(names);
        }
        let names = match &caller.idempotency {
            Some(key) => names_in(caller, key, self.unix_millis() / SLOT_MILLIS, tasks.len()),
            None => tasks.iter().map(|_| self.fresh_task()).collect(),
        };
        let named: Vec<Named> = tasks.iter().map(|task| Named::by(&task.definition)).collect();
        let drafts = names.iter().zip(tasks).map(|(name, checked)| draft(*name, checked)).collect();
        let (mut first, mut parts) = (0, 0);
        for tasks in parts::split(drafts) {
            let count = tasks.len();
            let stage = Intent::StageTasks { bulk, part: parts, tasks };
            match self.carry_out_under(caller, None, stage).await.map_err(|error| moved(error, first)) {
                Ok(_) => {}
                Err(ServiceError::Invalid { faults }) => {
                    self.refuse(caller, faults).await?;
                    let names = self.earlier_names(caller, names.len()).await?;
                    return names.ok_or_else(|| ServiceError::broken("a bulk that was created is not there"));
                }
                Err(error) => return Err(error),
            }
            first += count;
            parts += 1;
        }
        let committed = self.carry_out(caller, Intent::CommitStaged { bulk, parts }).await;
        committed.map_err(|error| refused_among(error, &named))?;
        self.await_created(caller, &names).await?;
        Ok(names)
    }

    /// The names of the tasks that an earlier bulk under the caller's key created, if one did.
    async fn earlier_names(
        &self,
        caller: &Caller,
        count: usize,
    ) -> Result<Option<Vec<TaskId>>, ServiceError> {
        let Some(key) = &caller.idempotency else { return Ok(None) };
        self.barrier().await?;
        let now = self.unix_millis() / SLOT_MILLIS;
        for slot in (0..=SLOTS_BACK + 1).filter_map(|back| now.checked_sub(back)) {
            let names = names_in(caller, key, slot, count);
            let there = self.parts.machine.read(|replica| {
                let tenant = replica.tenant_number(caller.tenant());
                tenant.is_some_and(|tenant| names.iter().any(|name| replica.task(tenant, *name).is_some()))
            });
            if there {
                return Ok(Some(names));
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }

    /// Waits until this node has created the last task of a committed bulk: the leader goes on with a large one after the
    /// commit.
    async fn await_created(&self, caller: &Caller, names: &[TaskId]) -> Result<(), ServiceError> {
        let Some(last) = names.last() else { return Ok(()) };
        let mut applied = self.parts.machine.watch_applied();
        let created = async {
            while self.find_task(caller.tenant(), *last).is_none() {
                if applied.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, created).await.map_err(|_| ServiceError::Behind)
    }
}

fn draft(task: TaskId, checked: Checked) -> Draft {
    let paused = checked.state == Some(WantedState::Paused);
    Draft { task, definition: checked.definition, paused }
}

fn within(count: usize) -> Result<(), ServiceError> {
    if count <= BULK_TASKS_MAX {
        return Ok(());
    }
    let detail = format!("at most {BULK_TASKS_MAX} tasks are allowed; these are {count}");
    Err(ServiceError::Invalid { faults: vec![Fault { pointer: String::new(), detail }] })
}

/// The key of the part that begins with item `first`: the client's own for the first part, so that another request under
/// it is recognised. A control character keeps the others apart from every client's.
fn part_key(key: &Idempotency, first: usize) -> Idempotency {
    if first == 0 {
        return key.clone();
    }
    Idempotency { key: format!("{}\u{1f}{first}", key.key).into(), digest: key.digest }
}

/// The key of a whole part, or of what is left of it: a part that is sent again is refused for the same tasks first, and must
/// then get the answers of the rest. It is the same whatever is left, so that the rest is never created twice.
fn key_of(key: &Idempotency, whole: bool) -> Idempotency {
    if whole {
        return key.clone();
    }
    Idempotency { key: format!("{}\u{1f}rest", key.key).into(), digest: key.digest }
}

fn failed(rejection: Rejection, draft: &Draft) -> BulkOutcome {
    match Named::by(&draft.definition).refused(rejection.into()) {
        ServiceError::Invalid { faults } => BulkOutcome::Invalid(faults),
        error => BulkOutcome::Failed(error),
    }
}

/// Names made from a key: the same for everyone who asks within a time slot.
fn names_in(caller: &Caller, key: &Idempotency, slot: u64, count: usize) -> Vec<TaskId> {
    let seed = Hash::of(format!("{}\u{1f}{}\u{1f}{slot}", caller.tenant(), key.key).as_bytes());
    let name = |index: usize| {
        let mut bytes = seed.0.to_vec();
        bytes.extend_from_slice(&(index as u64).to_be_bytes());
        let mut entropy = [0_u8; 16];
        entropy.copy_from_slice(&Hash::of(&bytes).0[..16]);
        TaskId::from_parts(slot * SLOT_MILLIS, u128::from_be_bytes(entropy))
    };
    (0..count).map(name).collect()
}

/// Which draft of a part the leader refused, and its faults with pointers within it.
fn refused_draft(faults: Vec<Fault>, count: usize) -> Result<(usize, Vec<Fault>), ServiceError> {
    if count == 1 {
        // What is about one task goes to its actor, which knows of no list.
        return Ok((0, faults));
    }
    let split = |fault: &Fault| {
        let rest = fault.pointer.strip_prefix('/')?;
        let (index, pointer) =
            rest.split_once('/').map_or((rest, String::new()), |(index, rest)| (index, format!("/{rest}")));
        let index = index.parse::<usize>().ok().filter(|index| *index < count)?;
        Some((index, Fault { pointer, detail: fault.detail.clone() }))
    };
    let found: Option<Vec<_>> = faults.iter().map(split).collect();
    let found = found.filter(|found| !found.is_empty());
    let found = found.ok_or_else(|| ServiceError::Invalid { faults: faults.clone() })?;
    let index = found[0].0;
    Ok((index, found.into_iter().filter(|(at, _)| *at == index).map(|(_, fault)| fault).collect()))
}

/// A refusal of a part with pointers within the whole bulk.
fn moved(error: ServiceError, first: usize) -> ServiceError {
    let ServiceError::Invalid { faults } = error else { return error };
    let moved = faults.into_iter().map(|fault| {
        let rest = fault.pointer.strip_prefix('/').unwrap_or_default();
        let (index, tail) =
            rest.split_once('/').map_or((rest, String::new()), |(index, tail)| (index, format!("/{tail}")));
        match index.parse::<usize>() {
            Ok(index) => Fault { pointer: format!("/{}{tail}", first + index), detail: fault.detail },
            Err(_) => fault,
        }
    });
    ServiceError::Invalid { faults: moved.collect() }
}

/// The same error for each task that shares it.
fn retold(error: &ServiceError) -> ServiceError {
    match error {
        ServiceError::NoLeader => ServiceError::NoLeader,
        ServiceError::Busy => ServiceError::Busy,
        ServiceError::Unknown => ServiceError::Unknown,
        ServiceError::Behind => ServiceError::Behind,
        ServiceError::Rejected(rejection) => ServiceError::Rejected(rejection.clone()),
        other => ServiceError::broken(other.to_string()),
    }
}
