//! The storage's own thread: it writes what callers do not wait for, and makes writes last. Many callers share one sync.
//!
//! Invariant: a caller is answered by a sync that began after its request arrived, so it covers everything that the
//! caller had written. A failed sync is never tried again: the kernel may have dropped the pages that it could not write,
//! and a second sync would then succeed without them.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Makes everything written so far last.
pub(super) type SyncStep = Box<dyn FnMut() -> io::Result<()> + Send>;

/// The first failure of a storage; set once, for good.
#[derive(Clone, Debug, Default)]
pub(super) struct Poison(Arc<OnceLock<String>>);

impl Poison {
    /// Refuses if something failed before.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.0.get() {
            Some(reason) => {
                Err(io::Error::other(format!("this storage failed before and is closed: {reason}")))
            }
            None => Ok(()),
        }
    }

    /// Remembers a failure, unless there was one before, and returns it.
    pub(super) fn set(&self, during: &str, error: impl std::fmt::Display) -> io::Error {
        let reason = self.0.get_or_init(|| format!("{during} failed: {error}"));
        io::Error::other(reason.clone())
    }
}

type Waiter = oneshot::Sender<io::Result<()>>;

/// Something to write.
pub(super) type WriteStep = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// What the thread is asked to do.
enum Job {
    Write(WriteStep, Waiter),
    Sync(Waiter),
}

/// A handle of the thread; dropping it waits until the thread has ended.
pub(super) struct Syncer {
    jobs: Mutex<Option<std::sync::mpsc::Sender<Job>>>,
    thread: Option<JoinHandle<()>>,
    poison: Poison,
}

impl Syncer {
    /// Starts the thread.
    pub(super) fn start(mut step: SyncStep, poison: Poison) -> io::Result<Self> {
        let (jobs, inbox) = std::sync::mpsc::channel::<Job>();
        let poisoned = poison.clone();
        let thread = std::thread::Builder::new().name("storage".into()).spawn(move || {
            while let Ok(first) = inbox.recv() {
                let mut waiters = Vec::new();
                for job in std::iter::once(first).chain(inbox.try_iter()) {
                    match job {
                        // A caller that went away needs no answer.
                        Job::Write(step, waiter) => drop(waiter.send(step())),
                        Job::Sync(waiter) => waiters.push(waiter),
                    }
                }
                if waiters.is_empty() {
                    continue;
                }
                let mut outcome = poisoned.check();
                if outcome.is_ok() {
                    outcome = step().map_err(|error| poisoned.set("sync", error));
                }
                for waiter in waiters {
                    let answer = match &outcome {
                        Ok(()) => Ok(()),
                        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                    };
                    let _ = waiter.send(answer);
                }
            }
        })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Some(thread), poison })
    }

    /// Resolves when everything written before this call lasts.
    pub(super) fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        self.ask("sync", Job::Sync)
    }

    /// Has the thread write, after everything that it was asked before, and resolves when it has.
    pub(super) fn write(&self, step: WriteStep) -> BoxFuture<'static, io::Result<()>> {
        self.ask("write", |waiter| Job::Write(step, waiter))
    }

    fn ask(&self, what: &'static str, job: impl FnOnce(Waiter) -> Job) -> BoxFuture<'static, io::Result<()>> {
        let (waiter, answer) = oneshot::channel();
        let sent = self.jobs.lock().as_ref().is_some_and(|jobs| jobs.send(job(waiter)).is_ok());
        let poison = self.poison.clone();
        Box::pin(async move {
            let gone = || poison.set(what, "its thread is gone");
            if !sent {
                return Err(gone());
            }
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.jobs.lock().take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures::executor::block_on;
    use futures::future::join_all;

    use super::*;

    #[test]
    fn many_waiters_share_one_sync() {
        let count = Arc::new(AtomicUsize::new(0));
        let (entered, first_began) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let counted = Arc::clone(&count);
        let step = Box::new(move || {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                entered.send(()).expect("test waits");
                may_go.recv().expect("test answers");
            }
            Ok(())
        });
        let syncer = Syncer::start(step, Poison::default()).expect("thread");
        let first = syncer.sync();
        first_began.recv().expect("sync begins");
        let others: Vec<_> = (0..100).map(|_| syncer.sync()).collect();
        go.send(()).expect("sync waits");
        block_on(first).expect("synced");
        assert!(block_on(join_all(others)).into_iter().all(|outcome| outcome.is_ok()));
        assert_eq!(
            count.load(Ordering::SeqCst),
            2,
            "one that had begun, and one for the hundred that came during it"
        );
    }

    #[test]
    fn a_failed_sync_is_never_tried_again() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let step = Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Err(io::Error::other("input/output error"))
        });
        let poison = Poison::default();
        let syncer = Syncer::start(step, poison.clone()).expect("thread");
        assert_eq!(
            block_on(syncer.sync()).expect_err("fails").to_string(),
            "sync failed: input/output error"
        );
        let again = block_on(syncer.sync()).expect_err("poisoned").to_string();
        assert_eq!(again, "this storage failed before and is closed: sync failed: input/output error");
        assert!(poison.check().is_err());
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
