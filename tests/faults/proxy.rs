//! A TCP proxy that is a bad link: slow, and lossy as TCP shows loss to who uses it.
//!
//! TCP repairs what is lost, so that a program sees no gap but a wait: a part that is "lost" comes a retransmission timeout
//! later, twice as much later if it is lost again, and all behind it waits. Some losses break the connection for good.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use escapement_simulation::chance::Chance;

/// What one direction of a link takes.
const DELAY: Duration = Duration::from_millis(200);
/// What is lost, in thousandths of the parts.
const LOSS: u64 = 50;
/// What breaks a connection, in thousandths of what is lost.
const RESETS: u64 = 50;
/// How long the sender's TCP waits before it sends again.
const RETRANSMISSION: Duration = Duration::from_millis(450);
/// What is read at once.
const PART_BYTES: usize = 16 << 10;

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    stop: AtomicBool,
    lost: AtomicUsize,
    reset: AtomicUsize,
    chance: Mutex<Chance>,
    streams: Mutex<Vec<TcpStream>>,
}

/// A bad link to one address; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    from: SocketAddr,
}

impl Proxy {
    /// Listens at an address and passes on to another one.
    pub(crate) fn start(from: SocketAddr, to: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind(from).expect("the address is free");
        let shared = Arc::new(Shared {
            to,
            stop: AtomicBool::default(),
            lost: AtomicUsize::default(),
            reset: AtomicUsize::default(),
            chance: Mutex::new(Chance::new(seed)),
            streams: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                accepting.join(stream);
            }
        });
        Self { shared, from }
    }

    /// How many parts were lost, and how many connections broke of it.
    pub(crate) fn losses(&self) -> (usize, usize) {
        (self.shared.lost.load(Ordering::Relaxed), self.shared.reset.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let streams =
            std::mem::take(&mut *self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner));
        streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        // It hears that it is to stop by one more connection.
        drop(TcpStream::connect(self.from));
    }
}

impl Shared {
    /// Joins a connection with one to the goal, both ways.
    fn join(self: &Arc<Self>, near: TcpStream) {
        // As where nobody listens: the connection ends.
        let Ok(far) = TcpStream::connect(self.to) else { return };
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            // No part is to wait for another one to be sent along with it.
            drop(to.set_nodelay(true));
            let (sender, receiver) = channel();
            let shared = self.clone();
            std::thread::spawn(move || shared.read(from, &sender));
            std::thread::spawn(move || write(to, &receiver));
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.extend([near, far]);
    }

    fn read(&self, mut from: TcpStream, parts: &Sender<(Instant, Vec<u8>)>) {
        let mut arrives = Instant::now();
        let mut buffer = vec![0; PART_BYTES];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let Some(repaired) = self.fate() else { break };
            arrives = arrives.max(Instant::now() + DELAY + repaired);
            if parts.send((arrives, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
        // Both sides hear of the end, whatever it was.
        drop(from.shutdown(Shutdown::Both));
    }

    /// How much later a part comes for being lost; never, if the connection breaks of it.
    fn fate(&self) -> Option<Duration> {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut later, mut timeout) = (Duration::ZERO, RETRANSMISSION);
        while chance.per_mille(LOSS) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            if chance.per_mille(RESETS) {
                self.reset.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            later += timeout;
            timeout *= 2;
        }
        Some(later)
    }
}

fn write(mut to: TcpStream, parts: &Receiver<(Instant, Vec<u8>)>) {
    for (arrives, part) in parts {
        std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
        if to.write_all(&part).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
