//! What an execution writes, as server-sent events.

use actix_web::http::header::HeaderMap;
use actix_web::web::Bytes;
use actix_web::{Error, HttpResponse};
use futures::stream;

use super::cursor::Listing;
use super::dto::execution::{LogEnd, LogLine};
use super::executions::{bytes_of_place, place_in_log};
use super::problem::Problem;
use crate::service::following::{Followed, Following};
use crate::service::history::OutputCursor;

/// Where a client that comes back goes on.
const LAST_EVENT_ID: &str = "Last-Event-ID";
/// A comment, which says that the connection lives.
const KEEP_ALIVE: &str = ": nothing yet\n\n";

/// The place of the last line that a client has seen.
pub(super) fn last_seen(headers: &HeaderMap, listing: &Listing) -> Result<Option<OutputCursor>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let place = value.to_str().ok().and_then(|text| listing.place(text)).map(place_in_log);
    place
        .map(Some)
        .ok_or_else(|| Problem::bad_header(format!("{LAST_EVENT_ID} is not the id of one of these events")))
}

/// Answers with events until the execution has ended, the client has gone, or this node can say no more.
pub(super) fn answer(following: Following, listing: Listing) -> HttpResponse {
    let events = stream::unfold((Some(following), listing), |(following, listing)| async move {
        let mut following = following?;
        let (text, more) = match following.next().await {
            Ok(Some(Followed::Lines(lines))) => {
                let event = |(line, place)| event_of_line(LogLine::from(line), place, &listing);
                (lines.into_iter().map(event).collect(), Some(following))
            }
            Ok(Some(Followed::Quiet)) => (KEEP_ALIVE.to_owned(), Some(following)),
            Ok(Some(Followed::Ended(status))) => (event("end", &LogEnd::of(status)), None),
            Ok(None) => return None,
            Err(error) => {
                tracing::debug!(%error, "an execution is followed no further here");
                return None;
            }
        };
        Some((Ok::<_, Error>(Bytes::from(text)), (more, listing)))
    });
    // Proxies that would wait for the end of the answer are asked not to.
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(events)
}

fn event_of_line(line: LogLine, place: OutputCursor, listing: &Listing) -> String {
    format!("id: {}\n{}", listing.cursor(&bytes_of_place(place)), event("line", &line))
}

fn event(name: &str, data: &impl serde::Serialize) -> String {
    // JSON of these has no line break, and cannot fail.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}
