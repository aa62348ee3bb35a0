//! The process of one node: everything that it runs, in a `LocalSet` of its own.
//!
//! Invariants: a process that was ended runs nothing any more and everything in it is dropped; one that is frozen runs
//! nothing until it thaws, while time goes on; it ends by itself when its main task does. Absent on purpose: what a node
//! is, which the program's own assembly says.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::{JoinHandle, LocalSet};

/// The outside of a running process.
pub(super) struct Process {
    task: JoinHandle<()>,
    gate: Rc<RefCell<Gate>>,
}

#[derive(Default)]
struct Gate {
    frozen: bool,
    waker: Option<Waker>,
}

impl Process {
    /// Starts a process around a main task, among the tasks around the caller.
    pub(super) fn start(main: impl Future<Output = ()> + 'static) -> Self {
        let gate = Rc::<RefCell<Gate>>::default();
        let set = LocalSet::new();
        let main = set.spawn_local(main);
        let task = tokio::task::spawn_local(Inside { set, main, gate: gate.clone() });
        Self { task, gate }
    }

    /// Stops it in the middle of whatever it does, until it thaws.
    pub(super) fn freeze(&self) {
        self.gate.borrow_mut().frozen = true;
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        let mut gate = self.gate.borrow_mut();
        gate.frozen = false;
        gate.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it without a word, and returns when nothing of it is left.
    pub(super) async fn kill(self) {
        self.task.abort();
        // It was cancelled, or had ended before.
        let _ = self.task.await;
    }
}

/// The process as a future.
struct Inside {
    set: LocalSet,
    main: JoinHandle<()>,
    gate: Rc<RefCell<Gate>>,
}

impl Future for Inside {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut gate = self.gate.borrow_mut();
        if gate.frozen {
            gate.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(gate);
        // Alone it would be done when every task is; a process is done when its main task is.
        let _ = Pin::new(&mut self.set).poll(context);
        Pin::new(&mut self.main).poll(context).map(|ended| {
            if let Err(error) = ended {
                tracing::error!(%error, "a node's main task died");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    /// A process that counts seconds, and the count.
    fn counting() -> (Process, Rc<Cell<u32>>) {
        let count = Rc::<Cell<u32>>::default();
        let counted = count.clone();
        let process = Process::start(async move {
            let inner = counted.clone();
            tokio::task::spawn_local(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    inner.set(inner.get() + 1);
                }
            });
            std::future::pending().await
        });
        (process, count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_process_goes_on_where_it_was_and_a_killed_one_never() {
        let all = async {
            let (process, count) = counting();
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            assert_eq!(count.get(), 2);
            process.freeze();
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(count.get(), 2);
            process.thaw();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(count.get(), 3);
            process.kill().await;
            assert_eq!(Rc::strong_count(&count), 1, "everything in it was dropped");
        };
        LocalSet::new().run_until(all).await;
    }
}
