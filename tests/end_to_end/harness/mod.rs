//! What every test needs: processes, a client, a target, and patience.

pub(crate) mod api;
pub(crate) mod breakers;
pub(crate) mod cluster;
pub(crate) mod definitions;
pub(crate) mod description;
pub(crate) mod development;
pub(crate) mod disk;
pub(crate) mod metrics;
pub(crate) mod node;
pub(crate) mod notice;
pub(crate) mod outside;
pub(crate) mod ports;
pub(crate) mod program;
pub(crate) mod raw_target;
pub(crate) mod refusal;
pub(crate) mod target;
pub(crate) mod wait;
pub(crate) mod zone_data;
