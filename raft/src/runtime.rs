//! Time, randomness, tasks and blocking work: the only file that touches them.
//!
//! By default a task is tokio's, random numbers are the operating system's and blocking work goes to
//! tokio's pool. After [`seed`] on a thread, everything that runs on that thread draws from one
//! seeded generator, spawns into the `LocalSet` around it and runs blocking work in place, so that
//! many nodes on one thread of paused time are a deterministic simulation. Production never calls
//! [`seed`].
//!
//! Absent on purpose: wall time. Nothing in this crate needs to know what day it is.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::TokioRuntime as Tokio;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, TryRng};
use tokio::task::JoinHandle;

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Makes this thread deterministic; see the module. Meant for a simulation's thread only.
pub fn seed(seed: u64) {
    SEEDED.with(|cell| *cell.borrow_mut() = Some(StdRng::seed_from_u64(seed)));
}

fn seeded() -> bool {
    SEEDED.with(|cell| cell.borrow().is_some())
}

/// A random number: seeded where [`seed`] was called, the operating system's elsewhere.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the adapter through which randomness comes in")]
pub fn random() -> u64 {
    let drawn = SEEDED.with(|cell| cell.borrow_mut().as_mut().map(Rng::next_u64));
    drawn.unwrap_or_else(|| rand::rng().next_u64())
}

/// A monotonic instant, paused where tokio's time is paused.
pub(crate) type Instant = tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "this is the adapter through which monotonic time comes in")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Starts a task: on the `LocalSet` around a seeded thread, on tokio's pool elsewhere.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if seeded() { tokio::task::spawn_local(future) } else { tokio::task::spawn(future) }
}

/// Runs blocking work beside the tasks.
///
/// # Errors
/// What the work answers; a panic in it is an error too.
#[expect(clippy::disallowed_methods, reason = "this is the adapter through which blocking work goes")]
pub(crate) async fn blocking<T, W>(work: W) -> io::Result<T>
where
    T: Send + 'static,
    W: FnOnce() -> io::Result<T> + Send + 'static,
{
    if seeded() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(format!("blocking work ended without an answer: {error}"))),
    }
}

/// The generator that openraft draws its election timeouts from.
pub struct Entropy;

impl TryRng for Entropy {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((random() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(random())
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        for chunk in to.chunks_mut(8) {
            chunk.copy_from_slice(&random().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// openraft's runtime: tokio, with the tasks and the randomness of this file.
pub struct Runtime(Tokio);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = JoinHandle<T>;
    type Sleep = <Tokio as AsyncRuntime>::Sleep;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Entropy;
    type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
    type Watch = <Tokio as AsyncRuntime>::Watch;
    type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
    type Mutex<T: Send + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Tokio::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Tokio::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Entropy
    }

    fn new(threads: usize) -> Self {
        Self(Tokio::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        blocking(move || Ok(work()))
    }
}
