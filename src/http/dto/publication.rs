//! Events from outside.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::service::Published as View;

/// Something that happened, for the tasks that listen to it.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of a schema")]
pub(in crate::http) struct Event {
    /// What happened.
    #[schema(max_length = 256, example = "build.finished")]
    name: String,
    /// What there is to say about it: any JSON, up to 16 KiB. Filters look into it, and inputs are taken from it.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({ "branch": "main", "commit": "4f2a91c" }))]
    payload: Option<Box<RawValue>>,
}

/// An event that is in the log.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Published {
    /// Its name in the log.
    #[schema(format = "uuid")]
    id: String,
    /// What happened.
    name: String,
    /// When it was published.
    at: String,
    /// How many tasks it has met so far: each has an execution, or a skip by its overlap policy.
    matched: u32,
    /// The executions that it has opened so far, the first 20 of them.
    executions: Vec<String>,
    /// Whether it was held against every task that listens to it. If not, the rest follows without another call.
    complete: bool,
}

impl Published {
    pub(in crate::http) fn of(name: &str, view: View) -> Self {
        Self {
            id: view.id.to_string(),
            name: name.to_owned(),
            at: view.at.to_string(),
            matched: view.met,
            executions: view.executions.iter().map(ToString::to_string).collect(),
            complete: view.complete,
        }
    }
}
