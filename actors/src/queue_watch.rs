//! Wakes whoever waits for something to come into a queue.
//!
//! Ten thousand may wait and cost a place in a row each, under the worker's name: an applied entry wakes no more of them than
//! there is to take, and one where gates hold something up and nobody is known to wait for it. It looks at no other row. Being
//! woken is a hint, not a grant; who takes what is decided in the log. Absent on purpose: the log, clocks, time-outs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};

use escapement_domain::replica::Replica;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::machine::Machine;

/// A queue: the tenant's name, and its own.
pub type QueueKey = (Arc<str>, Arc<str>);

/// Those who wait at one queue, by the numbers in whose order they came.
type Row = BTreeMap<u64, Waiter>;

struct Waiter {
    worker: Arc<str>,
    waker: oneshot::Sender<()>,
}

#[derive(Default)]
struct Rows(Mutex<Waiting>);

/// Invariant: whoever has left is in no row, and no row is empty.
#[derive(Default)]
struct Waiting {
    rows: BTreeMap<QueueKey, Row>,
    came: u64,
}

/// Those who wait for something to come into a queue, on one node. Cheap to clone.
#[derive(Clone)]
pub struct QueueWatch(Arc<Rows>);

impl fmt::Debug for QueueWatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("QueueWatch").field("queues", &self.0.0.lock().rows.len()).finish()
    }
}

impl QueueWatch {
    /// Watches the state in the `LocalSet` around the caller.
    #[must_use]
    pub fn start(machine: &Arc<Machine>) -> Self {
        let watch = Self(Arc::default());
        let (rows, machine_of_task) = (Arc::downgrade(&watch.0), Arc::downgrade(machine));
        let ((), mut applied) = machine.subscribe(|_, _| ());
        tokio::task::spawn_local(async move {
            while let Some(entry) = applied.recv().await {
                if entry.restored || !entry.records.is_empty() {
                    let Some(()) = look(&rows, &machine_of_task) else { return };
                }
            }
        });
        watch
    }

    /// Joins the row of a queue. Ask what there is only afterwards, or it may come unseen.
    #[must_use]
    pub fn join(&self, tenant: &str, queue: &Arc<str>, worker: &Arc<str>) -> Ticket {
        let key: QueueKey = (tenant.into(), queue.clone());
        let (waker, woken) = oneshot::channel();
        let waiter = Waiter { worker: worker.clone(), waker };
        let mut waiting = self.0.0.lock();
        waiting.came += 1;
        let number = waiting.came;
        waiting.rows.entry(key.clone()).or_default().insert(number, waiter);
        Ticket { key, number, woken, owes: false, rows: self.0.clone() }
    }

    /// The workers of a tenant that wait on this node, at whatever queue.
    #[must_use]
    pub fn waiting(&self, tenant: &str) -> BTreeSet<Arc<str>> {
        let waiting = self.0.0.lock();
        let rows = waiting.rows.iter().filter(|((of, _), _)| **of == *tenant);
        rows.flat_map(|(_, row)| row.values().map(|waiter| waiter.worker.clone())).collect()
    }
}

/// Wakes as many as there is to take; `None` when nobody watches any more.
fn look(rows: &Weak<Rows>, machine: &Weak<Machine>) -> Option<()> {
    let (rows, machine) = (rows.upgrade()?, machine.upgrade()?);
    if !rows.0.lock().rows.is_empty() {
        machine.read(|replica| rows.wake(replica));
    }
    Some(())
}

impl Rows {
    fn wake(&self, replica: &Replica) {
        let rows = &mut self.0.lock().rows;
        let queues = replica.queue();
        // There may be thousands of queues with workers and nothing to do, and thousands the other way round.
        let mut looked_at: Vec<QueueKey> = if queues.going().len() + queues.held_up().len() < rows.len() {
            let key =
                |(tenant, queue): (_, &Arc<str>)| Some((replica.tenant_name(tenant)?.clone(), queue.clone()));
            queues.going().chain(queues.held_up()).filter_map(key).collect()
        } else {
            rows.keys().cloned().collect()
        };
        looked_at.sort_unstable();
        looked_at.dedup();
        for key in looked_at {
            let Some(row) = rows.get_mut(&key) else { continue };
            let (tenant, queue) = &key;
            let Some(number) = replica.tenant_number(tenant) else { continue };
            // Where gates hold everything up, one says that somebody waits.
            let most = queues.waiting_in(number, queue).max(usize::from(queues.is_unattended(number, queue)));
            wake_first(row, most);
            if row.is_empty() {
                rows.remove(&key);
            }
        }
    }

    /// Looks at one row, if there is one, and lets it be only while somebody waits there.
    fn change(&self, key: &QueueKey, change: impl FnOnce(&mut Row)) {
        let mut waiting = self.0.lock();
        let Some(row) = waiting.rows.get_mut(key) else { return };
        change(row);
        if row.is_empty() {
            waiting.rows.remove(key);
        }
    }
}

fn wake_first(row: &mut Row, mut most: usize) {
    while most > 0
        && let Some((_, waiter)) = row.pop_first()
    {
        most -= usize::from(waiter.waker.send(()).is_ok());
    }
}

/// A place in the row of a queue. Whoever leaves after being woken and before taking anything lets the next one know.
pub struct Ticket {
    key: QueueKey,
    number: u64,
    woken: oneshot::Receiver<()>,
    /// Woken, and not yet known to have taken what there was.
    owes: bool,
    rows: Arc<Rows>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ticket").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Ticket {
    /// Resolves when there is something to take.
    pub async fn woken(&mut self) {
        // An error means that the watch is gone, with the node: asking again will tell.
        let _ = (&mut self.woken).await;
        self.owes = true;
    }

    /// Whoever was woken has asked and was answered.
    pub fn served(&mut self) {
        self.owes = false;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Self { key, number, woken, owes, rows } = self;
        rows.change(key, |row| {
            row.remove(number);
            if *owes || woken.try_recv().is_ok() {
                wake_first(row, 1);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn watch() -> (QueueWatch, QueueKey) {
        (QueueWatch(Arc::default()), ("acme".into(), "suites".into()))
    }

    fn join(watch: &QueueWatch, queue: &Arc<str>) -> Ticket {
        watch.join("acme", queue, &"w".into())
    }

    #[test]
    fn no_more_are_woken_than_there_is_to_take() {
        let (watch, key) = watch();
        let mut tickets: Vec<Ticket> = (0..3).map(|_| join(&watch, &key.1)).collect();
        watch.0.change(&key, |row| wake_first(row, 1));
        let woken = tickets.iter_mut().map(|ticket| ticket.woken().now_or_never().is_some());
        assert_eq!(woken.collect::<Vec<_>>(), [true, false, false], "in the order in which they came");
    }

    #[test]
    fn whoever_leaves_after_being_woken_lets_the_next_one_know() {
        let (watch, key) = watch();
        let (first, mut second) = (join(&watch, &key.1), join(&watch, &key.1));
        watch.0.change(&key, |row| wake_first(row, 1));
        assert!(second.woken().now_or_never().is_none());
        drop(first);
        assert!(second.woken().now_or_never().is_some());
    }

    #[test]
    fn those_who_leave_are_forgotten_whatever_they_waited_at() {
        let (watch, key) = watch();
        for number in 0..1_000 {
            drop(join(&watch, &format!("queue-{number}").into()));
            drop(join(&watch, &key.1));
        }
        let (first, _second) = (join(&watch, &key.1), join(&watch, &key.1));
        drop(first);
        let rows: Vec<(QueueKey, usize)> =
            watch.0.0.lock().rows.iter().map(|(key, row)| (key.clone(), row.len())).collect();
        assert_eq!(rows, [(key, 1)]);
    }

    #[test]
    fn who_waits_is_known_to_the_tenant_whose_queue_it_is() {
        let (watch, key) = watch();
        let first = watch.join("acme", &key.1, &"w1".into());
        let _same = watch.join("acme", &"other".into(), &"w1".into());
        let _second = watch.join("acme", &key.1, &"w2".into());
        let _stranger = watch.join("globex", &key.1, &"w3".into());
        drop(first);
        let waiting: Vec<Arc<str>> = watch.waiting("acme").into_iter().collect();
        assert_eq!(waiting, ["w1".into(), "w2".into()]);
    }
}
