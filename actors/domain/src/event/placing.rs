//! What happened to pools, limits, queues, breakers and the nodes that take no work.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::identifier::{ExecutionId, NodeId};
use crate::replica::placement::Gate;
use crate::timestamp::Timestamp;

/// A change of what decides who gets which attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placing {
    /// A pool or a limit is there, or has another capacity now.
    GatePut {
        /// Which.
        gate: Gate,
        /// Its version now, from 1.
        version: u32,
        /// How much there is.
        capacity: u32,
    },
    /// A pool or a limit is gone.
    GateDeleted {
        /// Which.
        gate: Gate,
    },
    /// Nothing more of a queue is granted.
    QueuePaused {
        /// Which.
        queue: Arc<str>,
    },
    /// Something of a queue is granted again.
    QueueResumed {
        /// Which.
        queue: Arc<str>,
    },
    /// A target is not called for a while.
    BreakerOpened {
        /// The target.
        target: Arc<str>,
        /// How many attempts had failed in a row.
        failures: u32,
        /// The execution whose attempt was the last of them; none if somebody opened it by hand.
        execution: Option<ExecutionId>,
        /// When one attempt may try; never by itself if somebody opened it by hand.
        until: Option<Timestamp>,
    },
    /// One attempt at a time may try a target.
    BreakerHalfOpened {
        /// The target.
        target: Arc<str>,
    },
    /// A target is called again.
    BreakerClosed {
        /// The target.
        target: Arc<str>,
        /// The execution whose attempt tried it; none if somebody closed it by hand.
        execution: Option<ExecutionId>,
    },
    /// A node takes nothing new, whatever start of it is there.
    NodeDrained {
        /// Which.
        node: NodeId,
    },
    /// A node takes something again.
    NodeUndrained {
        /// Which.
        node: NodeId,
    },
    /// A worker outside waits for what gates hold up in a queue: it has a place in their lines.
    QueueAttended {
        /// Which.
        queue: Arc<str>,
        /// For how long, if nobody asks again.
        until: Timestamp,
    },
    /// Nobody was heard to wait at a queue any more.
    QueueUnattended {
        /// Which.
        queue: Arc<str>,
    },
}

impl Placing {
    /// The name of the event in the log, streams and notifications.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::GatePut { gate: Gate::Pool(_), .. } => "PoolPut",
            Self::GatePut { .. } => "LimitPut",
            Self::GateDeleted { gate: Gate::Pool(_) } => "PoolDeleted",
            Self::GateDeleted { .. } => "LimitDeleted",
            Self::QueuePaused { .. } => "QueuePaused",
            Self::QueueResumed { .. } => "QueueResumed",
            Self::BreakerOpened { .. } => "BreakerOpened",
            Self::BreakerHalfOpened { .. } => "BreakerHalfOpened",
            Self::BreakerClosed { .. } => "BreakerClosed",
            Self::NodeDrained { .. } => "NodeDrained",
            Self::NodeUndrained { .. } => "NodeUndrained",
            Self::QueueAttended { .. } => "QueueAttended",
            Self::QueueUnattended { .. } => "QueueUnattended",
        }
    }

    /// The execution that led to it.
    #[must_use]
    pub fn execution(&self) -> Option<ExecutionId> {
        match self {
            Self::BreakerOpened { execution, .. } | Self::BreakerClosed { execution, .. } => *execution,
            _ => None,
        }
    }
}
