//! Calls on calendars.

use actix_web::HttpResponse;

use super::cursor::Listing;
use super::dto::List;
use super::dto::calendar::Calendar;
use super::problem::{Problem, ProblemBody};
use super::put_answer;
use super::request::{Call, Content};
use crate::service::validation::calendar;

type Answer = Result<HttpResponse, Problem>;

/// Makes a calendar, or puts another in the place of one of this name: tasks that name it are planned by it at once.
#[utoipa::path(
    put, path = "/api/calendars/{name}", tag = "calendars",
    params(
        ("name" = String, Path, description = "Its name: 1 to 128 letters, digits, `-`, `_` and `.`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour"),
    ),
    request_body = Calendar,
    responses(
        (status = 200, description = "The calendar as it is now", body = Calendar),
        (status = 201, description = "The calendar, which is new", body = Calendar, headers(("Location" = String))),
        (status = 403, description = "It takes an admin", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    let node = call.required_content(&body)?;
    let caller = call.writer(Some(node))?;
    let calendar = calendar(node).map_err(Problem::invalid)?;
    let (view, new) = call.service.put_calendar(&caller, call.segment("name"), calendar).await?;
    let location = format!("/api/calendars/{}", view.name);
    Ok(put_answer(new, location).json(Calendar::from(view)))
}

/// Lists calendars by name.
#[utoipa::path(
    get, path = "/api/calendars", tag = "calendars",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has"),
    ),
    responses((status = 200, description = "A page", body = List<Calendar>))
)]
pub(super) async fn list(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    let page = Listing::new("calendars", caller.tenant()).page(&mut parameters);
    parameters.finish()?;
    let found = call.service.calendars(&caller, page.after(), page.limit()).await?;
    Ok(HttpResponse::Ok().json(List {
        items: found.items.into_iter().map(Calendar::from).collect::<Vec<_>>(),
        next_cursor: found.next.map(|next| page.cursor(&next)),
    }))
}

/// Returns a calendar.
#[utoipa::path(
    get, path = "/api/calendars/{name}", tag = "calendars",
    params(("name" = String, Path, description = "Its name"), ("consistency" = Option<String>, Query, description = "`linearizable`, or `local` for what this node has")),
    responses(
        (status = 200, description = "The calendar", body = Calendar),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(call: Call) -> Answer {
    let mut parameters = call.parameters()?;
    let caller = call.reader(&mut parameters);
    parameters.finish()?;
    let view = call.service.calendar(&caller, call.segment("name")).await?;
    Ok(HttpResponse::Ok().json(Calendar::from(view)))
}

/// Deletes a calendar that no task names.
#[utoipa::path(
    delete, path = "/api/calendars/{name}", tag = "calendars",
    params(("name" = String, Path, description = "Its name"), ("Idempotency-Key" = Option<String>, Header, description = "Names the request for an hour")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = ProblemBody<'static>, content_type = "application/problem+json"),
        (status = 409, description = "Tasks name it", body = ProblemBody<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(call: Call, body: Content) -> Answer {
    call.parameters()?.finish()?;
    call.no_content(&body)?;
    let caller = call.writer(None)?;
    call.service.delete_calendar(&caller, call.segment("name")).await?;
    Ok(HttpResponse::NoContent().finish())
}
