//! What the state grants to an incarnation, as orders that an executor can carry out.
//!
//! Absent on purpose: whether and when an order is carried out.

use escapement_domain::execution::failure::{Failure, FailureClass};
use escapement_domain::execution::state::Execution;
use escapement_domain::identifier::{ExecutionId, Incarnation, NodeId, TenantId};
use escapement_domain::replica::Replica;
use escapement_domain::task::action::{Action, Operation};
use escapement_domain::task::inputs;
use escapement_domain::task::sealed::Sealed;

use crate::ports::AttemptOrder;

/// An attempt in the hands of this node.
pub(super) struct Granted {
    pub(super) tenant: TenantId,
    pub(super) execution: ExecutionId,
    pub(super) token: u64,
    /// Whether it was told to stop before it was started.
    pub(super) cancelling: bool,
    pub(super) work: Work,
}

/// What there is to do.
pub(super) enum Work {
    /// Nothing: it is done as soon as it is looked at.
    Nothing,
    /// Something for an executor.
    Order(Box<AttemptOrder>),
    /// It cannot be told, or cannot be done.
    Impossible(Failure),
}

/// The attempt of an execution that is in the hands of an incarnation; `None` if another one, or nobody, has it.
pub(super) fn granted(
    replica: &Replica,
    execution: ExecutionId,
    node: NodeId,
    incarnation: Incarnation,
) -> Option<Granted> {
    let open = replica.execution(execution)?;
    let grant = open.grant().filter(|grant| grant.of_node() == Some((node, incarnation)))?;
    let cancelling = open.cancelling.is_some();
    let (token, work) = (grant.token, work_of(replica, open, grant.token));
    Some(Granted { tenant: open.tenant, execution, token, cancelling, work })
}

/// The fencing token under which an incarnation has an execution.
pub(super) fn token_of(
    replica: &Replica,
    execution: ExecutionId,
    worker: (NodeId, Incarnation),
) -> Option<u64> {
    let grant = replica.execution(execution)?.grant()?;
    (grant.of_node() == Some(worker)).then_some(grant.token)
}

/// Everything that the state says an incarnation holds.
pub(super) fn held(replica: &Replica, node: NodeId, incarnation: Incarnation) -> Vec<ExecutionId> {
    let worker = replica.workers().get(&(node, incarnation));
    worker.map(|worker| worker.held.iter().copied().collect()).unwrap_or_default()
}

fn work_of(replica: &Replica, open: &Execution, token: u64) -> Work {
    let definition = match open.definition.open_definition() {
        Ok(definition) => definition,
        Err(error) => return Work::Impossible(Failure::new(error.to_string())),
    };
    if matches!(definition.action, Action::Builtin { operation: Operation::Noop, .. }) {
        return Work::Nothing;
    }
    let cause = replica.cause_of(open);
    let without_cause = cause.is_none() && !definition.inputs.is_empty();
    let action = match inputs::action_of(definition, cause.as_deref()) {
        Ok(action) => action,
        Err(error) => {
            let failure = Failure { class: FailureClass::Inputs, ..Failure::new(error.to_string()) };
            return Work::Impossible(failure);
        }
    };
    Work::Order(Box::new(AttemptOrder {
        tenant: replica.tenant_name(open.tenant).map(|name| name.to_string()).unwrap_or_default(),
        task: open.task,
        execution: open.id,
        attempt: open.attempts,
        fencing_token: token,
        scheduled_at: open.scheduled_at,
        action,
        without_cause,
        timeout: open.rules.timeout,
        correlation_id: open.correlation_id.to_string(),
        retry_items: open.retry_items.as_ref().and_then(Sealed::text).map(str::to_owned),
    }))
}
