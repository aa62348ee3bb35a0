//! One node: how it is put together, and how the program runs it.
//!
//! [`assembly`] is the only wiring there is. The rest are adapters between the ports of the actors, the replicated log and
//! the operating system; each is thin.

pub mod assembly;
mod callbacks;
pub mod clock;
mod custody;
mod desk;
mod evidence;
mod history;
mod leader;
mod log;
mod membership;
mod observer;
mod outputs;
mod peer;
mod retention;
mod run;
mod state_machine;
mod timekeeping;

pub use leader::LeaderFinder;
pub use log::GroupLog;
pub use run::{DevOptions, RunError, ServerOptions, run_dev, run_server};
