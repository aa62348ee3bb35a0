//! The API over HTTP: thin over [`service`](crate::service).
//!
//! Every request comes through one front door (form of the path, token, correlation id, problems) to a handler that reads
//! the request, calls the service and writes the answer. Invariants: what is not open needs a token; what goes wrong is a
//! problem (RFC 9457) that shows nothing of the node's insides; the shapes of the wire never leave this folder.
//! Absent on purpose: rules, permissions, and everything that a simulated client would miss.

mod audit;
mod breakers;
mod bulk;
mod calendars;
mod cluster;
mod cursor;
mod dead_letters;
mod dto;
mod elsewhere;
mod executions;
mod following;
mod front;
mod gates;
mod leasing;
mod occurrences;
mod openapi;
mod problem;
mod publications;
mod request;
mod routes;
mod runs;
mod schedules;
mod server;
mod system;
mod tasks;
#[cfg(test)]
mod tests;

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, HttpResponseBuilder};

pub use server::{ServeError, ServerHandle, serve};

/// The answer to whoever put something in its place: whether it is new there, and where that is.
fn put_answer(new: bool, location: String) -> HttpResponseBuilder {
    if !new {
        return HttpResponse::Ok();
    }
    let mut created = HttpResponse::Created();
    created.insert_header((LOCATION, location));
    created
}
