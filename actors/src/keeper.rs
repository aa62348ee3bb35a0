//! Keeps an actor alive: one that panicked is built again, since an actor holds no truth.
//!
//! Invariant: at any moment at most one actor runs behind a [`Kept`]. What lay in the mailbox of one that panicked is
//! lost; whoever waits for an answer sees that nobody will give it. Absent on purpose: any limit on how often.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How long a panicked actor stays down.
const PAUSE: Duration = Duration::from_millis(100);

/// Part of a kept actor: it is noticed when the actor that holds it is dropped.
#[derive(Debug)]
pub(crate) struct Lifeline {
    _end: oneshot::Sender<()>,
}

/// The address of an actor that is built again when it dies.
pub(crate) struct Kept<A: Actor<Context = Context<A>>> {
    address: Arc<Mutex<Addr<A>>>,
}

impl<A: Actor<Context = Context<A>>> Clone for Kept<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Kept<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Kept")
    }
}

impl<A: Actor<Context = Context<A>>> Kept<A> {
    /// Starts an actor, and another one like it whenever it dies. Ends with the `LocalSet` around it.
    pub(crate) fn start(name: &'static str, build: impl Fn(Lifeline) -> A + 'static) -> Self {
        let (first, mut ended) = lifeline();
        let address = Arc::new(Mutex::new(build(first).start()));
        let place = Arc::downgrade(&address);
        tokio::task::spawn_local(async move {
            loop {
                // The sender is never used: this resolves when the actor was dropped.
                let _ = ended.await;
                if place.strong_count() == 0 {
                    break;
                }
                tracing::error!(actor = name, "an actor died; it is built again from the state");
                tokio::time::sleep(PAUSE).await;
                let Some(place) = place.upgrade() else { break };
                let (next, next_ended) = lifeline();
                *place.lock() = build(next).start();
                ended = next_ended;
            }
        });
        Self { address }
    }

    /// The address of the actor that runs now.
    pub(crate) fn address(&self) -> Addr<A> {
        self.address.lock().clone()
    }
}

fn lifeline() -> (Lifeline, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    (Lifeline { _end: sender }, receiver)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use actix::{Handler, Message};

    use super::*;

    struct Fragile {
        number: u32,
        _lifeline: Lifeline,
    }

    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    struct Break;

    impl Message for Break {
        type Result = ();
    }

    impl Handler<Break> for Fragile {
        type Result = ();

        fn handle(&mut self, _: Break, _: &mut Self::Context) {
            panic!("told to");
        }
    }

    struct Number;

    impl Message for Number {
        type Result = u32;
    }

    impl Handler<Number> for Fragile {
        type Result = u32;

        fn handle(&mut self, _: Number, _: &mut Self::Context) -> u32 {
            self.number
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_that_panicked_is_built_again() {
        let all = async {
            let built = AtomicU32::new(0);
            let kept = Kept::start("fragile", move |lifeline| Fragile {
                number: built.fetch_add(1, Ordering::Relaxed),
                _lifeline: lifeline,
            });
            for number in 0..3 {
                assert_eq!(kept.address().send(Number).await.ok(), Some(number));
                assert!(kept.address().send(Break).await.is_err(), "whoever waits sees that nobody answers");
                tokio::time::sleep(PAUSE * 2).await;
            }
        };
        tokio::task::LocalSet::new().run_until(all).await;
    }
}
