//! Calls on tasks.

use actix_web::HttpResponse;
use actix_web::http::header::{ETAG, LOCATION};
use escapement_domain::identifier::TaskId;

use super::cursor::Listing;
use super::dto::List;
use super::dto::event::Event;
use super::dto::execution::Execution;
use super::dto::explanation::{Explanation, Fires};
use super::dto::task::{Task, UpcomingFire};
use super::executions::told;
use super::problem::{Problem, ProblemBody};
use super::request::{Call, Content};
use crate::audit::json::AuditEvent;
use crate::service::validation::KINDS;
use crate::service::{TaskFilter, TaskState, TaskView};

/// Instants that `next` tells, unless the client says.
const COUNT_DEFAULT: u64 = 5;
/// Instants that `next` tells at most.
const COUNT_MAX: u64 = 1_000;

type Answer = Result<HttpResponse, Problem>;

fn task_answer(mut response: actix_web::HttpResponseBuilder, task: TaskView) -> HttpResponse {
    response.insert_header((ETAG, format!("\"{}\"", task.version))).json(Task::from(task))
}

/// Creates a task.
#[utoipa::path(
    post, path = "/api/scheduled-tasks", tag = "tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour: repeated, it gets its first answer")),
    request_body = Task,
    responses(
        (status = 201, description = "Created", body = Task, headers(("Location" = String), ("ETag" = String))),
        (status = 400, description = "Not JSON", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 503, description = "No leader, or too busy", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let checked = call.service.check_new(&caller, node, "").map_err(Problem::invalid)?;
    let task = call.service.create_task(&caller, checked).await?;
    let mut response = HttpResponse::Created();
    response.insert_header((LOCATION, format!("/api/scheduled-tasks/{}", task.id)));
    Ok(task_answer(response, task))
}

/// Lists tasks in the order of their creation.
#[utoipa::path(
    get, path = "/api/scheduled-tasks", tag = "tasks",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("state" = Option<super::dto::task::State>, Query, description = "Only those in this state"),
        ("kind" = Option<super::dto::task::Kind>, Query, description = "Only those of this kind"),
        ("label" = Option<String>, Query, description = "Only those with this label: `team=qa`, or `team` for any value"),
        ("name" = Option<String>, Query, description = "Only those of this name"),
        ("calendar" = Option<String>, Query, description = "Only those that name this calendar"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses((status = 200, description = "A page", body = List<Task>))
)]
pub(super) async fn list(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let limit = parameters.limit();
    let states = TaskState::ALL.map(|state| (state.name(), state));
    let filter = TaskFilter {
        state: parameters.choice("state", &states),
        kind: parameters.choice("kind", &KINDS),
        label: parameters.text("label").map(|label| match label.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (label, None),
        }),
        name: parameters.text("name"),
        calendar: parameters.text("calendar"),
    };
    let listing = Listing::new("tasks", caller.tenant()).filtered(&format!("{filter:?}"));
    let after = parameters.cursor(|text| listing.place(text).map(u128::from_be_bytes).map(TaskId));
    parameters.finish()?;
    let page = call.service.tasks(&caller, &filter, after, limit).await?;
    Ok(HttpResponse::Ok().json(List {
        items: page.items.into_iter().map(Task::from).collect::<Vec<_>>(),
        next_cursor: page.next.map(|next| listing.cursor(&next.0.to_be_bytes())),
    }))
}

/// Tells the next fires over all tasks, in order.
#[utoipa::path(
    get, path = "/api/scheduled-tasks/upcoming", tag = "tasks",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses((status = 200, description = "The fires", body = List<UpcomingFire>))
)]
pub(super) async fn upcoming(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let limit = parameters.limit();
    parameters.finish()?;
    let fires = call.service.upcoming(&caller, limit).await?;
    Ok(HttpResponse::Ok().json(List::whole(fires.into_iter().map(UpcomingFire::from).collect::<Vec<_>>())))
}

/// Returns a task.
#[utoipa::path(
    get, path = "/api/scheduled-tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has")),
    responses(
        (status = 200, description = "The task", body = Task, headers(("ETag" = String))),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let task = call.service.task(&caller, call.task()?).await?;
    Ok(task_answer(HttpResponse::Ok(), task))
}

/// Replaces a task's definition. What it says of `state` pauses or resumes the task; left out, the state stays.
#[utoipa::path(
    put, path = "/api/scheduled-tasks/{id}", tag = "tasks",
    params(
        ("id" = String, Path, description = "The task's id"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is to be replaced"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour"),
    ),
    request_body = Task,
    responses(
        (status = 200, description = "The task as it is now", body = Task, headers(("ETag" = String))),
        (status = 412, description = "It has another version", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn update(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let id = call.task()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let checked = call.service.check_replacement(&caller, id, node).await?;
    let expected = expected_version(&call, &caller, id).await?;
    let task = call.service.update_task(&caller, id, expected, checked).await?;
    Ok(task_answer(HttpResponse::Ok(), task))
}

/// Deletes a task; its open executions are cancelled.
#[utoipa::path(
    delete, path = "/api/scheduled-tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is to be deleted")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 412, description = "It has another version", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let id = call.task()?;
    let caller = call.writer(None)?;
    let expected = expected_version(&call, &caller, id).await?;
    call.service.delete_task(&caller, id, expected).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The version that `If-Match` demands: of several, the one that the task has.
async fn expected_version(
    call: &Call,
    caller: &crate::service::Caller,
    id: TaskId,
) -> Result<Option<u32>, Problem> {
    match call.if_match()?.as_deref() {
        None => Ok(None),
        Some([only]) => Ok(Some(*only)),
        Some(several) => {
            let current = call.service.task(caller, id).await?.version;
            if several.contains(&current) {
                Ok(Some(current))
            } else {
                Err(Problem::version_mismatch(current))
            }
        }
    }
}

/// Runs a task by hand; its overlap policy holds.
#[utoipa::path(
    post, path = "/api/scheduled-tasks/{id}/run", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 202, description = "The execution", body = Execution, headers(("Location" = String))),
        (status = 404, description = "There is no such task", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn run(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    let row = call.service.run_task(&caller, call.task()?).await?;
    let location = format!("/api/executions/{}", row.id);
    Ok(HttpResponse::Accepted().insert_header((LOCATION, location)).json(told(&call, &caller, &row)))
}

/// Stops a task from firing until it is resumed.
#[utoipa::path(
    post, path = "/api/scheduled-tasks/{id}/pause", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The task", body = Task),
        (status = 409, description = "It is finished", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    Ok(task_answer(HttpResponse::Ok(), call.service.pause_task(&caller, call.task()?).await?))
}

/// Lets a paused task fire again; what it missed is settled by its misfire policy.
#[utoipa::path(
    post, path = "/api/scheduled-tasks/{id}/resume", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The task", body = Task),
        (status = 409, description = "It is finished", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    Ok(task_answer(HttpResponse::Ok(), call.service.resume_task(&caller, call.task()?).await?))
}

/// Tells the next instants for which a task fires.
#[utoipa::path(
    get, path = "/api/scheduled-tasks/{id}/next", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), ("count" = Option<u32>, Query, description = "1 to 1000; 5 if it is left out")),
    responses((status = 200, description = "The instants; none unless it is active", body = Fires))
)]
pub(super) async fn next(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let count = parameters.number("count", 1..=COUNT_MAX).unwrap_or(COUNT_DEFAULT);
    parameters.finish()?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let (clock, fires) = call.service.next_fires(&caller, call.task()?, count).await?;
    Ok(HttpResponse::Ok().json(Fires::of(clock, fires)))
}

/// Explains a task: its schedule in English, its next fires, what it waits for now, and what became of an instant, and why. A
/// deleted task is explained from its events.
#[utoipa::path(
    get, path = "/api/scheduled-tasks/{id}/explain", tag = "tasks",
    params(
        ("id" = String, Path, description = "The task's id"),
        ("at" = Option<String>, Query, description = "An instant, past or to come"),
        ("count" = Option<u32>, Query, description = "How many of the next fires: 1 to 1000; 5 if it is left out"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses(
        (status = 200, description = "The explanation", body = Explanation),
        (status = 404, description = "There never was such a task", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn explain(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let at = parameters.instant("at");
    let count = parameters.number("count", 1..=COUNT_MAX).unwrap_or(COUNT_DEFAULT);
    parameters.finish()?;
    let (id, count) = (call.task()?, usize::try_from(count).unwrap_or(usize::MAX));
    let explanation = call.service.explain(&caller, id, at, count).await?;
    Ok(HttpResponse::Ok().json(Explanation::of(id, explanation)))
}

/// Lists a task's own events, oldest first.
#[utoipa::path(
    get, path = "/api/scheduled-tasks/{id}/events", tag = "tasks",
    params(
        ("id" = String, Path, description = "The task's id; a deleted one has its events still"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page", body = List<Event>))
)]
pub(super) async fn events(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let (id, limit) = (call.task()?, parameters.limit());
    let listing = Listing::new("task events", caller.tenant()).filtered(&id.to_string());
    let after = parameters.cursor(|text| listing.place(text).map(u64::from_be_bytes));
    parameters.finish()?;
    let page = call.service.task_events(&caller, id, after.unwrap_or(0), limit).await?;
    let items = page.records.iter().map(|record| AuditEvent::of(record, caller.tenant()).into());
    Ok(HttpResponse::Ok().json(List::<Event> {
        items: items.collect(),
        next_cursor: page.next.map(|next| listing.cursor(&next.to_be_bytes())),
    }))
}
