//! The names of things: tasks, executions, commands, tenants, nodes and the instants that key an occurrence.
//!
//! Every identifier is a plain value; making a fresh one needs time and entropy, which come in from outside.
//! Absent on purpose: random or clock-based constructors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::execution::state::Occurrence;
use crate::timestamp::Timestamp;

macro_rules! uuid_identifier {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u128);

        impl $name {
            /// Makes a UUIDv7 (RFC 9562) of an instant in milliseconds since the epoch and 74 bits of entropy.
            #[must_use]
            pub fn from_parts(unix_millis: u64, entropy: u128) -> Self {
                let mut random = [0_u8; 10];
                random.copy_from_slice(&entropy.to_be_bytes()[..10]);
                Self(
                    uuid::Builder::from_unix_timestamp_millis(unix_millis, &random)
                        .into_uuid()
                        .as_u128(),
                )
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_u128(self.0).hyphenated().fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(|uuid| Self(uuid.as_u128()))
            }
        }
    };
}

uuid_identifier! {
    /// Names a task for its whole life, across every version of its definition.
    TaskId
}
uuid_identifier! {
    /// Names one execution: one occurrence of a task with all of its attempts.
    ExecutionId
}
uuid_identifier! {
    /// Names one command of one client, so that a repeated command returns its first outcome.
    CommandId
}
uuid_identifier! {
    /// Names one start of one worker process; never used again after it is lost.
    Incarnation
}

impl ExecutionId {
    /// Names the execution of an occurrence: the instant it is for, and a hash of task and occurrence where a UUIDv7
    /// has its random bits. Whoever computes it, on whichever node, gets the same name.
    #[must_use]
    pub fn of(task: TaskId, occurrence: Occurrence, scheduled_at: Timestamp) -> Self {
        let mut bytes = Vec::with_capacity(40);
        crate::codec::encode_into(&(task, occurrence), &mut bytes);
        let digest = crate::record::Hash::of(&bytes).0;
        let mut entropy = [0_u8; 16];
        entropy.copy_from_slice(&digest[..16]);
        Self::from_parts(u64::try_from(scheduled_at.0).unwrap_or(0), u128::from_be_bytes(entropy))
    }
}

/// Names a node of the cluster and its disk; never reused for another disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Names a Raft group. There is one today; every key and frame carries it so that tenants can be spread over many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// The number under which the replicated state keeps a tenant; 0 is the cluster itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TenantId(pub u32);

impl TenantId {
    /// The tenant to which the cluster's own events belong.
    pub const CLUSTER: Self = Self(0);
}
