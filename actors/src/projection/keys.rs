//! The keys of the read models and of the event log: big endian, so that their order is the order of what they name.
//!
//! Every key of a tenant begins with its group and its number.

use escapement_domain::execution::state::Status;
use escapement_domain::identifier::{ExecutionId, GroupId, TaskId, TenantId};

/// The only group there is.
const GROUP: GroupId = GroupId(0);
/// Bytes of the beginning that the keys of one tenant share.
pub(super) const SCOPE_BYTES: usize = 8;
/// The key under which each read model says in which format it was built.
pub(super) const MARKER: &[u8] = b"";

/// What the keys of one tenant begin with.
pub(super) fn scope(tenant: TenantId) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    key.extend_from_slice(&GROUP.0.to_be_bytes());
    key.extend_from_slice(&tenant.0.to_be_bytes());
    key
}

/// The tenant of a key, and what follows it.
pub(super) fn tenant_of(key: &[u8]) -> Option<(TenantId, &[u8])> {
    let (scope, rest) = key.split_first_chunk::<SCOPE_BYTES>()?;
    let (_, tenant) = scope.split_last_chunk::<4>()?;
    Some((TenantId(u32::from_be_bytes(*tenant)), rest))
}

/// A key that is greater than every key with this beginning.
pub(super) fn end_of(mut beginning: Vec<u8>) -> Vec<u8> {
    beginning.extend_from_slice(&[0xff; 48]);
    beginning
}

/// A block of the event log.
pub(super) fn block(tenant: TenantId, first: u64) -> Vec<u8> {
    let mut key = scope(tenant);
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// The first sequence that the key of a block names.
pub(super) fn first_of_block(key: &[u8]) -> Option<(TenantId, u64)> {
    let (tenant, first) = tenant_of(key)?;
    Some((tenant, u64::from_be_bytes(first.try_into().ok()?)))
}

/// What the index keys of one task's stream begin with.
pub(super) fn stream(tenant: TenantId, task: TaskId) -> Vec<u8> {
    let mut key = scope(tenant);
    key.extend_from_slice(&task.0.to_be_bytes());
    key
}

/// A position in a task's stream.
pub(super) fn position(tenant: TenantId, task: TaskId, position: u64) -> Vec<u8> {
    let mut key = stream(tenant, task);
    key.extend_from_slice(&position.to_be_bytes());
    key
}

/// An execution.
pub(super) fn execution(tenant: TenantId, execution: ExecutionId) -> Vec<u8> {
    with_execution(scope(tenant), execution)
}

/// An execution among those of its task.
pub(super) fn task_execution(tenant: TenantId, task: TaskId, execution: ExecutionId) -> Vec<u8> {
    with_execution(stream(tenant, task), execution)
}

/// What the keys of executions that stand alike begin with.
pub(super) fn status(tenant: TenantId, status: Status) -> Vec<u8> {
    let mut key = scope(tenant);
    key.push(status as u8);
    key
}

/// An execution among those that stand alike.
pub(super) fn status_execution(tenant: TenantId, stands: Status, execution: ExecutionId) -> Vec<u8> {
    with_execution(status(tenant, stands), execution)
}

/// What the keys of executions of one run begin with.
pub(super) fn run(tenant: TenantId, run: ExecutionId) -> Vec<u8> {
    with_execution(scope(tenant), run)
}

/// A beginning followed by an execution.
pub(super) fn with_execution(mut beginning: Vec<u8>, execution: ExecutionId) -> Vec<u8> {
    beginning.extend_from_slice(&execution.0.to_be_bytes());
    beginning
}

/// The execution that a key ends with.
pub(super) fn last_execution(key: &[u8]) -> Option<ExecutionId> {
    key.split_last_chunk::<16>().map(|(_, execution)| ExecutionId(u128::from_be_bytes(*execution)))
}
