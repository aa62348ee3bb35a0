//! What a task does when it is due, as the client wrote it.
//!
//! JSON values travel as their text, so that the log's codec needs no self-describing format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::timestamp::Span;

/// What an execution does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Calls a URL.
    Http(HttpAction),
    /// Runs a program on a node that allows it.
    Process(ProcessAction),
    /// Waits in a queue for a worker outside the cluster.
    Queue {
        /// The queue's name.
        queue: String,
        /// JSON text handed to the worker.
        payload: Option<String>,
    },
    /// Runs something that the scheduler itself can do.
    Builtin {
        /// Which operation.
        operation: Operation,
        /// JSON text of its parameters.
        parameters: Option<String>,
    },
}

/// A call of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAction {
    /// The method in capitals, such as `POST`.
    pub method: String,
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Headers sent with every attempt, beside the scheduler's own.
    pub headers: BTreeMap<String, String>,
    /// JSON text sent as the body; none if absent.
    pub body: Option<String>,
    /// What ends the attempt.
    pub completion: Completion,
}

/// What ends an attempt of an HTTP action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Completion {
    /// The response: 2xx succeeds, everything else fails.
    #[default]
    Response,
    /// A later call of the target with the attempt's lease token.
    Callback {
        /// How long the target may keep silent before the attempt is given up as timed out; as long as the attempt may take
        /// if absent.
        heartbeat_timeout: Option<Span>,
    },
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessAction {
    /// The absolute path of the program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables set beside the scheduler's own; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Text written to its standard input.
    pub stdin: Option<String>,
    /// What it may use.
    pub limits: ProcessLimits,
}

/// What a program may use; absent means the node's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Address space in bytes.
    pub memory: Option<u64>,
    /// Processor time.
    pub cpu_time: Option<Span>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
    /// Processes of its user at once.
    pub processes: Option<u64>,
}

/// Something that the scheduler itself can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Nothing: succeeds at once.
    Noop,
    /// Removes captured output and finished executions older than the retention from the node that runs it.
    Housekeeping,
}
