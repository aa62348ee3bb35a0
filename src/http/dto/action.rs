//! What a task does.

use std::collections::BTreeMap;

use escapement_domain::task::action as domain;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What a task does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::http) enum Action {
    /// Calls a URL.
    Http {
        /// The method.
        #[serde(default)]
        #[schema(default = "POST")]
        method: String,
        /// An absolute http or https URL.
        #[schema(example = "https://runner.example/suites/7")]
        url: String,
        /// Headers beside the scheduler's own.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Any JSON; nothing is sent if it is null.
        #[serde(default)]
        #[schema(value_type = Option<serde_json::Value>)]
        body: Option<Box<RawValue>>,
        /// What ends an attempt.
        #[serde(default)]
        #[schema(default = "response")]
        completion: Completion,
        /// With the completion `callback`: how long the target may keep silent, neither heartbeat nor progress, before the
        /// attempt has timed out; as long as the attempt may take if it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "1m")]
        heartbeat_timeout: Option<String>,
    },
    /// Runs a program on a node that allows it.
    Process {
        /// Its absolute path.
        #[schema(example = "/usr/bin/true")]
        program: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// Variables beside the scheduler's own.
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// Written to its standard input.
        #[serde(default)]
        stdin: Option<String>,
        /// What it may use.
        #[serde(default)]
        limits: Limits,
    },
    /// Waits in a queue for a worker outside the cluster, which leases it.
    Queue {
        /// The queue's name.
        queue: String,
        /// Any JSON.
        #[serde(default)]
        #[schema(value_type = Option<serde_json::Value>)]
        payload: Option<Box<RawValue>>,
    },
    /// Runs something that the scheduler itself can do.
    Builtin {
        /// What.
        operation: Operation,
        /// A JSON object.
        #[serde(default)]
        #[schema(value_type = Option<serde_json::Value>)]
        parameters: Option<Box<RawValue>>,
    },
}

/// What ends an attempt of a call.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Completion {
    /// The response.
    #[default]
    Response,
    /// A later report of the target, if it answers 202.
    Callback,
}

/// What a program may use; null is the node's default.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct Limits {
    /// Address space in bytes.
    #[serde(default)]
    memory: Option<u64>,
    /// Processor time.
    #[serde(default)]
    cpu_time: Option<String>,
    /// Open file descriptors.
    #[serde(default)]
    open_files: Option<u64>,
    /// Processes and threads of its user at once, those of other attempts among them. Binds no program of root.
    #[serde(default)]
    processes: Option<u64>,
}

/// Something that the scheduler itself can do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Operation {
    /// Nothing: succeeds at once.
    Noop,
    /// Removes what is older than the retention.
    Housekeeping,
}

impl From<domain::Action> for Action {
    fn from(action: domain::Action) -> Self {
        let json = |text: Option<String>| text.as_deref().and_then(super::raw);
        match action {
            domain::Action::Http(http) => Self::Http {
                method: http.method,
                url: http.url,
                headers: http.headers,
                body: json(http.body),
                completion: match http.completion {
                    domain::Completion::Response => Completion::Response,
                    domain::Completion::Callback { .. } => Completion::Callback,
                },
                heartbeat_timeout: match http.completion {
                    domain::Completion::Response => None,
                    domain::Completion::Callback { heartbeat_timeout } => {
                        heartbeat_timeout.map(|silence| silence.to_string())
                    }
                },
            },
            domain::Action::Process(process) => Self::Process {
                program: process.program,
                args: process.args,
                env: process.env,
                stdin: process.stdin,
                limits: Limits {
                    memory: process.limits.memory,
                    cpu_time: process.limits.cpu_time.map(|span| span.to_string()),
                    open_files: process.limits.open_files,
                    processes: process.limits.processes,
                },
            },
            domain::Action::Queue { queue, payload } => Self::Queue { queue, payload: json(payload) },
            domain::Action::Builtin { operation, parameters } => Self::Builtin {
                operation: match operation {
                    domain::Operation::Noop => Operation::Noop,
                    domain::Operation::Housekeeping => Operation::Housekeeping,
                },
                parameters: json(parameters),
            },
        }
    }
}
