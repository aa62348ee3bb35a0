//! The shapes of what goes over the wire. Nothing outside of this folder's parent sees them.

pub(super) mod action;
pub(super) mod bulk;
pub(super) mod calendar;
pub(super) mod cluster;
pub(super) mod event;
pub(super) mod execution;
pub(super) mod explanation;
pub(super) mod fires;
pub(super) mod forecast;
pub(super) mod gate;
pub(super) mod leasing;
pub(super) mod occurrence;
pub(super) mod publication;
pub(super) mod run;
pub(super) mod task;
pub(super) mod trigger;

use serde::Serialize;
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    /// What is on the page.
    pub(super) items: Vec<T>,
    /// Names the next page as `cursor`; null on the last one.
    pub(super) next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A list that has one page.
    pub(super) fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// The same page of something else.
    pub(super) fn map<U>(self, each: impl FnMut(T) -> U) -> List<U> {
        List { items: self.items.into_iter().map(each).collect(), next_cursor: self.next_cursor }
    }
}

/// JSON text as it was written; what is no JSON becomes a string.
pub(super) fn raw(text: &str) -> Option<Box<serde_json::value::RawValue>> {
    let text = text.to_owned();
    serde_json::value::RawValue::from_string(text.clone())
        .or_else(|_| serde_json::value::to_raw_value(&text))
        .ok()
}
