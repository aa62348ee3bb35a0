//! Asks the voters for their clocks while this node leads, and lets another one lead when this one stands alone with its
//! clock: one wild clock must poison nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::{Clock, Leadership};
use escapement_actors::worker::clocks::ClockWatch;
use escapement_domain::identifier::NodeId;
use escapement_domain::schedule::zone_data_version;
use escapement_raft::{Group, Transport};
use tokio::sync::watch;
use tokio::time::timeout;

use super::membership::zone_data;
use super::peer::{Question, Reply};

/// How often the voters are asked.
const EVERY: Duration = Duration::from_secs(2);
/// How soon they are asked again while too few have answered.
const AGAIN: Duration = Duration::from_millis(100);
/// An answer that took longer says too little of the clock behind it: it may be off by half as long.
const PATIENCE: Duration = Duration::from_millis(800);

/// What it takes to compare clocks.
pub(super) struct Timekeeper {
    pub(super) node: NodeId,
    pub(super) group: Group,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) clocks: Arc<ClockWatch>,
    pub(super) leadership: watch::Receiver<Leadership>,
}

impl Timekeeper {
    /// Goes on for as long as the node lives.
    pub(super) async fn run(mut self) {
        let mut jumps = self.clocks.jumps();
        let mut warned_in = None;
        while let Ok(term) = self.leadership.wait_for(|now| now.leading).await.map(|now| now.term) {
            self.compare().await;
            if warned_in.replace(term) != Some(term) {
                self.warn_of_other_zone_data().await;
            }
            let pause = if self.clocks.is_agreed() { EVERY } else { AGAIN };
            // A jump, and a change of who leads, are heard at once.
            let news = async {
                tokio::select! {
                    biased;
                    _ = jumps.changed() => true,
                    changed = self.leadership.changed() => changed.is_ok(),
                }
            };
            if timeout(pause, news).await == Ok(false) {
                return;
            }
        }
    }

    /// Hears every voter that answers soon.
    async fn compare(&self) {
        let members = self.group.status().members;
        let voters: BTreeSet<NodeId> =
            members.iter().filter(|(_, member)| member.voter).map(|(id, _)| NodeId(*id)).collect();
        let others = voters.iter().copied().filter(|voter| *voter != self.node).collect::<Vec<_>>();
        self.clocks.count(voters);
        futures::future::join_all(others.into_iter().map(|voter| self.ask(voter))).await;
    }

    /// Says aloud which nodes would plan other instants if they led.
    async fn warn_of_other_zone_data(&self) {
        let others = self.group.status().members.into_keys().map(NodeId).filter(|node| *node != self.node);
        let asked =
            others.map(|node| async move { (node, zone_data(&*self.transport, self.node, node).await) });
        for (node, version) in futures::future::join_all(asked).await {
            if let Some(version) = version.filter(|version| version != zone_data_version()) {
                tracing::warn!(
                    %node,
                    theirs = version,
                    ours = zone_data_version(),
                    "the nodes' zone data differ: run the same version of the program everywhere"
                );
            }
        }
    }

    async fn ask(&self, voter: NodeId) {
        let asked = self.clock.monotonic();
        let reply = Question::Clock.ask(&*self.transport, voter, PATIENCE).await;
        let took = self.clock.monotonic().saturating_sub(asked);
        if let Some(Reply::Clock(shown)) = reply
            && took <= PATIENCE
        {
            self.clocks.heard(voter, shown, took / 2);
        }
    }
}

/// Lets another node lead when no majority can agree with this one's clock, also if it was known to be off before it led.
pub(super) async fn step_down_with_a_bad_clock(group: Group, clocks: Arc<ClockWatch>) {
    let (mut trouble, mut leadership) = (clocks.trouble(), group.leadership());
    loop {
        // What was heard when it led the last time may be too long ago to count.
        clocks.is_agreed();
        let (found, leading) = (*trouble.borrow_and_update(), leadership.borrow_and_update().leading);
        let mut pause = Duration::MAX;
        if let Some(found) = found.filter(|_| leading && group.status().members.len() > 1) {
            tracing::error!(trouble = %found, "this node's clock is off: it stops leading");
            if let Err(error) = group.transfer_leadership(None).await {
                tracing::warn!(%error, "no other node takes the lead");
                pause = EVERY;
            }
        }
        let news = async {
            tokio::select! {
                biased;
                changed = trouble.changed() => changed.is_ok(),
                changed = leadership.changed() => changed.is_ok(),
            }
        };
        if timeout(pause, news).await == Ok(false) {
            return;
        }
    }
}
