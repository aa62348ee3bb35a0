//! Ports that nobody else takes, and a bound on what runs at once.
//!
//! Ports lie below the range from which the system takes those of outgoing connections, so that a node that was killed
//! finds its port free when it comes back.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 19_000;
/// Nodes that run at once in all tests of this process.
const NODES_MAX: usize = 8;

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Returns a port that is free on loopback.
pub(crate) fn free_port() -> u16 {
    // Two runs of the suite at once begin at different places.
    let start = std::process::id() as u16 % PORTS;
    loop {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (start + step % PORTS) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The right to run so many nodes; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(usize);

impl Permit {
    /// Waits until so many more nodes may run.
    pub(crate) fn of(nodes: usize) -> Self {
        let (running, changed) = &RUNNING;
        let mut count = running.lock().unwrap_or_else(PoisonError::into_inner);
        while *count + nodes > NODES_MAX {
            count = changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count += nodes;
        Self(nodes)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (running, changed) = &RUNNING;
        *running.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        changed.notify_all();
    }
}
