//! Many tasks at once.

use actix_web::HttpResponse;

use super::dto::bulk::BulkResult;
use super::dto::task::Task;
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content};
use crate::json::Node;
use crate::service::BulkOutcome;
use crate::service::validation::{Fault, Faults};

/// Bytes of the body of a bulk.
pub(super) const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Creates up to 10,000 tasks: each for itself, or with `atomic=true` all or none.
#[utoipa::path(
    post, path = "/api/scheduled-tasks/bulk", tag = "tasks",
    params(
        ("atomic" = Option<bool>, Query, description = "`true`: all or none"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour"),
    ),
    request_body = Vec<Task>,
    responses(
        (status = 200, description = "One result a task", body = BulkResult),
        (status = 422, description = "All or none, and some cannot be created", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(call: Call, body: Content) -> Result<HttpResponse, Problem> {
    let mut parameters = call.parameters()?;
    let atomic = parameters.flag("atomic");
    parameters.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let (place, items) = items_of(node)?;
    let outcomes = if atomic {
        let (mut checked, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
        for (index, item) in items.into_iter().enumerate() {
            match call.service.check_new(&caller, item, &format!("{place}/{index}")) {
                Ok(task) => checked.push(task),
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() {
            faults.truncate(FAULTS_MAX);
            return Err(Problem::invalid_bulk(faults));
        }
        let created = call.service.create_tasks_atomically(&caller, checked).await;
        let created = created.map_err(|error| Problem::from(error).below(place))?;
        created.into_iter().map(BulkOutcome::Created).collect()
    } else {
        let items = items.into_iter().map(|item| call.service.check_new(&caller, item, "")).collect();
        call.service.create_tasks(&caller, items).await?
    };
    Ok(HttpResponse::Ok().json(BulkResult::of(outcomes)))
}

/// Faults of a bulk that are told.
const FAULTS_MAX: usize = 1_000;

/// The tasks of a bulk, which is a list or an object that holds one as `items`; and where the list is.
fn items_of(node: Node<'_>) -> Result<(&'static str, Vec<Node<'_>>), Problem> {
    let refused = |pointer: &str, detail: &str| {
        Problem::invalid(vec![Fault { pointer: pointer.into(), detail: detail.into() }])
    };
    if let Some(items) = node.elements() {
        return Ok(("", items));
    }
    let wanted = "a list of tasks is expected, or an object with one as `items`";
    let entries = node.entries().ok_or_else(|| refused("", wanted))?;
    let (mut items, mut faults) = (None, Faults::default());
    for (name, value) in entries {
        if name == "items" {
            items = Some(value.elements().ok_or_else(|| refused("/items", "a list of tasks is expected"))?);
        } else {
            let pointer = format!("/{}", crate::json::escaped(&name));
            faults.add(pointer, "this is not a field of a bulk; allowed: items");
        }
    }
    match items {
        _ if !faults.is_empty() => Err(Problem::invalid(faults.into_vec())),
        Some(items) => Ok(("/items", items)),
        None => Err(refused("/items", "`items` is required")),
    }
}
