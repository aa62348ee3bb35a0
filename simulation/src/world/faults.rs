//! What breaks: one fault after the other, of the kinds that a profile asks for.
//!
//! Invariants: every span in which something is broken is noted before it begins; disks whose contents are lost or damaged
//! are few enough that a majority of whole ones is always there, since nobody can be helped otherwise; the same goes for
//! clocks. Absent on purpose: mending what needs an operator, see `steward`.

use std::rc::Rc;
use std::time::Duration;

use escapement_actors::ports::Tree;
use escapement_domain::identifier::NodeId;

use super::World;
use super::host::{Call, Host, QUICK_SYNC};
use super::weather::Roughness;
use crate::profile::{Profile, RECOVERY_MS};

/// The first fault, in ms: the cluster forms undisturbed.
const FIRST_MS: u64 = 4_000;
/// How long nodes remember, in ms, what a clock showed.
const CLOCK_REMEMBERED_MS: u64 = 10_000;
/// So many entries may be in the logs of a node and not yet in its history for good: nobody purges them before.
const ENTRIES_ON_THEIR_WAY: u64 = 50;
/// How often it is looked for a leader that can die, in ms.
const NEXT_LEADER_MS: u64 = 200;

/// What a sync of a slow disk takes, in ms: the longest outlasts every lease.
const SLOW_SYNCS_MS: [u64; 4] = [30, 250, 1_500, 10_000];

/// What breaks something about one of the machines.
type Fault = fn(&Rc<World>, NodeId);

/// Has the leader die three times, so that no run is too quiet to say anything.
pub(super) async fn insist(world: Rc<World>) {
    for _ in 0..3 {
        world.pause(world.settings.active_ms / 4).await;
        // Between two leaders, the next one.
        while world.healed().is_none() {
            if let Some(leader) = world.leader().filter(|leader| world.is_member_awake(*leader)) {
                world.crash_for_a_while(leader);
                break;
            }
            world.pause(NEXT_LEADER_MS).await;
        }
    }
}

/// Breaks things until the world heals.
pub(super) async fn rage(world: Rc<World>) {
    world.pause(FIRST_MS).await;
    while world.healed().is_none() {
        world.fault();
        let gap = world.settings.fault_gap_ms;
        let pause = world.nature.draw(|chance| chance.between(gap / 4, gap * 7 / 4));
        world.pause(pause).await;
    }
}

impl World {
    /// Notes that something is broken from now on, and until the world is quiet again.
    pub(super) fn disturb(&self, span_ms: u64) {
        let now = self.nature.now();
        self.disturbances.borrow_mut().push((now, now + span_ms + RECOVERY_MS));
    }

    fn fault(self: &Rc<Self>) {
        let kinds = self.settings.faults;
        let weights: [(u64, Fault); 9] = [
            (kinds.crash, Self::crash_for_a_while),
            (kinds.stop, Self::stop_for_a_while),
            (kinds.freeze, Self::freeze_for_a_while),
            (kinds.cut, Self::cut_for_a_while),
            (kinds.weather, Self::bad_weather),
            (kinds.clock, Self::jump),
            (kinds.disk, Self::break_disk),
            (kinds.members, Self::change_members),
            (kinds.power, Self::cut_power),
        ];
        let Some(host) = self.some_host() else { return };
        let total: u64 = weights.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.nature.draw(|chance| chance.below(total.max(1)));
        for (weight, fault) in weights {
            if drawn < weight {
                return fault(self, host);
            }
            drawn -= weight;
        }
    }

    /// Some member whose node runs; the leader more often than others.
    fn some_host(&self) -> Option<NodeId> {
        let hosts = self.hosts.borrow();
        let awake: Vec<NodeId> =
            hosts.values().filter(|host| host.is_member_awake()).map(|host| host.id).collect();
        let leader = self.leader().filter(|leader| awake.contains(leader));
        self.nature.draw(|chance| match leader {
            Some(leader) if chance.per_mille(450) => Some(leader),
            _ => awake.get(chance.index(awake.len())).copied(),
        })
    }

    fn crash_for_a_while(self: &Rc<Self>, host: NodeId) {
        let back = self.nature.draw(|chance| chance.pick(&[100, 800, 4_000, 12_000]));
        self.disturb(back);
        self.crash(host, back);
    }

    /// The power of the whole room fails: every node dies in the same instant.
    fn cut_power(self: &Rc<Self>, _: NodeId) {
        let hosts: Vec<NodeId> = self.hosts.borrow().keys().copied().collect();
        self.nature.note(&[33], || "the power fails".into());
        self.counts.borrow_mut().outages += 1;
        for host in hosts {
            let back = self.nature.draw(|chance| chance.between(100, 3_000));
            self.disturb(back);
            self.crash(host, back);
        }
    }

    /// A node dies in the middle of what it does, and comes back later.
    pub(super) fn crash(self: &Rc<Self>, host: NodeId, back_ms: u64) {
        self.counts.borrow_mut().crashes += u64::from(self.kill(host, back_ms));
    }

    /// Ends a node's process, to start it again later; says whether it ran.
    pub(super) fn kill(self: &Rc<Self>, host: NodeId, back_ms: u64) -> bool {
        let now = self.nature.now();
        let running = self.with_host(host, |host| {
            let running = host.running.take()?;
            host.restart_at = (!host.retired && !host.lost).then_some(now + back_ms);
            Some(running)
        });
        let Some(Some(running)) = running else { return false };
        self.nature.note(&[6, host.0, back_ms], || format!("node {host} crashes for {back_ms} ms"));
        self.target.set_dying(host, true);
        if let Some(since) = running.frozen_since {
            self.frozen.borrow_mut().push((host, since, now));
        }
        let world = self.clone();
        // Nothing of it runs any more from here on; what is dropped is dropped before anybody looks at the disk.
        tokio::task::spawn_local(async move {
            running.process.kill().await;
            world.lose_unsynced(host);
        });
        true
    }

    /// What a crash leaves on a disk: all that was synced, and a part of the rest.
    pub(super) fn lose_unsynced(&self, host: NodeId) {
        self.with_host(host, |host| {
            let (bytes, batches) = (host.log.unsynced_bytes(), host.read_models.unsynced());
            let (kept, kept_batches) = self.nature.draw(|chance| {
                let kept = if chance.per_mille(500) { 0 } else { chance.index(bytes + 1) };
                (kept, chance.index(batches + 1))
            });
            let failed = host.sync_failed();
            host.log.crash(kept);
            host.read_models.crash(kept_batches);
            let mut counts = self.counts.borrow_mut();
            counts.torn += u64::from(kept > 0 && kept < bytes);
            counts.failed_syncs += u64::from(failed);
        });
    }

    fn stop_for_a_while(self: &Rc<Self>, host: NodeId) {
        self.disturb(8_000);
        self.counts.borrow_mut().stops += 1;
        self.nature.note(&[7, host.0], || format!("node {host} is told to stop"));
        self.with_host(host, |host| {
            if let Some(running) = &host.running {
                // It may be gone already.
                let _ = running.door.send(Call::Stop);
            }
        });
    }

    fn freeze_for_a_while(self: &Rc<Self>, host: NodeId) {
        let span = self.nature.draw(|chance| chance.pick(&[300, 1_500, 5_000, 12_000]));
        self.disturb(span);
        self.nature.note(&[8, host.0, span], || format!("node {host} freezes for {span} ms"));
        let now = self.nature.now();
        self.with_host(host, |host| {
            if let Some(running) = &mut host.running {
                running.process.freeze();
                running.frozen_since = Some(now);
            }
        });
        self.later(span, move |world| world.thaw(host));
    }

    /// A frozen node goes on.
    pub(super) fn thaw(self: &Rc<Self>, host: NodeId) {
        let now = self.nature.now();
        let thawed = self.with_host(host, |host| {
            let running = host.running.as_mut()?;
            let since = running.frozen_since.take()?;
            running.process.thaw();
            Some(since)
        });
        if let Some(Some(since)) = thawed {
            self.nature.note(&[9, host.0], || format!("node {host} thaws"));
            self.frozen.borrow_mut().push((host, since, now));
        }
    }

    fn cut_for_a_while(self: &Rc<Self>, host: NodeId) {
        let (span, way, half) = self.nature.draw(|chance| {
            (chance.pick(&[400, 2_000, 6_000, 14_000]), chance.below(5), chance.below(1 << 16))
        });
        self.disturb(span);
        let all: Vec<u64> = self.hosts.borrow().keys().map(|id| id.0).collect();
        let others: Vec<u64> = all.iter().copied().filter(|other| *other != host.0).collect();
        let mut cut = Vec::new();
        match way {
            // It hears nobody, or nobody hears it, or both.
            0 => cut.extend(others.iter().map(|other| (*other, host.0))),
            1 => cut.extend(others.iter().map(|other| (host.0, *other))),
            2 => cut.extend(others.iter().flat_map(|other| [(*other, host.0), (host.0, *other)])),
            // One link only.
            3 => cut.extend(others.get(half as usize % others.len().max(1)).map(|other| (host.0, *other))),
            // Two halves, with somebody in each.
            _ => {
                let alone = others.iter().all(|other| (half >> (other % 16)) & 1 == 1);
                let side = |id: u64| id == host.0 || (!alone && (half >> (id % 16)) & 1 == 1);
                let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
                cut.extend(pairs.filter(|(from, to)| side(*from) != side(*to)));
            }
        }
        self.count_cut(&cut);
        self.nature.note(&[10, host.0, way, span], || format!("cut for {span} ms: {cut:?}"));
        self.weather.cut(&cut);
        self.later(span, move |world| {
            world.nature.note(&[11], || format!("these links are mended: {cut:?}"));
            world.weather.mend(&cut);
        });
    }

    /// Counts a cut between members that run: nobody misses another link.
    fn count_cut(&self, cut: &[(u64, u64)]) {
        let felt = |(from, to): &&(u64, u64)| [from, to].iter().all(|id| self.is_member_awake(NodeId(**id)));
        let one_way = cut.iter().filter(felt).any(|(from, to)| !cut.contains(&(*to, *from)));
        let is_felt = cut.iter().any(|link| felt(&link));
        let mut counts = self.counts.borrow_mut();
        let kind = if one_way { &mut counts.cuts_one_way } else { &mut counts.cuts_both_ways };
        *kind += u64::from(is_felt);
    }

    fn bad_weather(self: &Rc<Self>, _: NodeId) {
        let (span, roughness) = self.nature.draw(|chance| {
            let most = chance.pick(&[5_000, 40_000, 200_000]);
            let roughness = Roughness {
                delay_us: (200, most),
                lost: chance.pick(&[0, 20, 80]),
                twice: chance.pick(&[0, 20, 100]),
                slow: chance.pick(&[0, 20]),
            };
            (chance.pick(&[2_000, 6_000, 15_000]), roughness)
        });
        self.disturb(span);
        self.counts.borrow_mut().storms += 1;
        self.nature.note(&[12, span], || format!("bad weather for {span} ms: {roughness:?}"));
        self.weather.set(roughness);
        // Worse weather may have come meanwhile, and has a time of its own.
        let spell = self.counts.borrow().storms;
        self.later(span, move |world| {
            if world.counts.borrow().storms == spell {
                world.weather.set(Roughness::FAIR);
            }
        });
    }

    fn jump(self: &Rc<Self>, host: NodeId) {
        let wild = self.settings.profile == Profile::Clock;
        let (by, span) = self.nature.draw(|chance| {
            let reach =
                chance.pick(if wild { &[900, 1_500, 20_000, 3_600_000] } else { &[300, 900, 5_000, 60_000] });
            (chance.around(reach), chance.pick(&[1_000, 6_000, 20_000]))
        });
        // Who cannot be told from a majority of wrong clocks cannot be helped.
        let now = self.nature.now();
        if self.wrong_clocks.borrow().iter().any(|(wrong, until)| *wrong != host && *until > now) {
            return;
        }
        // What it says while it is wrong is remembered for a while.
        let until = now + span + CLOCK_REMEMBERED_MS;
        self.wrong_clocks
            .borrow_mut()
            .entry(host)
            .and_modify(|last| *last = until.max(*last))
            .or_insert(until);
        self.disturb(span);
        self.counts.borrow_mut().jumps += 1;
        self.nature.note(&[13, host.0, by.cast_unsigned()], || {
            format!("the clock of node {host} jumps by {by} ms, for {span} ms")
        });
        self.with_host(host, |host| host.clock.jump(by));
        self.later(span, move |world| {
            world.nature.note(&[14, host.0], || format!("the clock of node {host} is set right"));
            world.with_host(host, |host| host.clock.set_right());
        });
    }

    fn break_disk(self: &Rc<Self>, host: NodeId) {
        match self.nature.draw(|chance| chance.below(10)) {
            0..=2 => self.stall(host),
            3 | 4 => self.fail_sync(host),
            5 => self.fill(host),
            6..=8 => self.flip(host),
            _ => self.lose_disk(host),
        }
    }

    fn stall(self: &Rc<Self>, host: NodeId) {
        let (sync, span) =
            self.nature.draw(|chance| (chance.pick(&SLOW_SYNCS_MS), chance.pick(&[1_000, 4_000, 10_000])));
        self.disturb(span + sync);
        self.counts.borrow_mut().stalls += 1;
        self.nature.note(&[15, host.0, sync], || {
            format!("the disk of node {host} takes {sync} ms for a sync, for {span} ms")
        });
        let until = self.nature.now() + span;
        self.with_host(host, |host| {
            host.set_sync(Duration::from_millis(sync));
            host.stalled_until = until.max(host.stalled_until);
            // What is begun in the last moment takes its time.
            host.slow_until = (until + sync).max(host.slow_until);
        });
        self.later(span, move |world| {
            world.with_host(host, |host| {
                if host.stalled_until <= until {
                    host.set_sync(QUICK_SYNC);
                }
            });
        });
    }

    fn fail_sync(self: &Rc<Self>, host: NodeId) {
        self.disturb(6_000);
        let which = self.nature.draw(|chance| chance.below(4));
        self.nature.note(&[16, host.0, which], || format!("the disk of node {host} fails its next sync"));
        self.with_host(host, |host| {
            // A snapshot is synced some time, and until then the disk is well.
            host.excused |= which != 3;
            // Alone or together: what fails first ends the node.
            if matches!(which, 1 | 2) {
                host.log.fail_syncs();
            }
            if matches!(which, 0 | 2) {
                host.read_models.fail_syncs();
            }
            if which == 3 {
                host.log.fail_snapshot_syncs();
            }
        });
    }

    fn fill(self: &Rc<Self>, host: NodeId) {
        self.disturb(8_000);
        self.counts.borrow_mut().full += 1;
        self.nature.note(&[17, host.0], || format!("the disk of node {host} is full"));
        self.with_host(host, |host| host.set_full(true));
        self.later(3_000, move |world| {
            world.with_host(host, |host| host.set_full(false));
        });
    }

    /// Whether one more disk may be lost: most of the members have all of the history. Whichever of them is lost, another one
    /// keeps it until its successor has fetched it, since none other is lost before.
    fn may_lose_a_disk(&self) -> bool {
        let (hosts, end) = (self.hosts.borrow(), self.ledger.borrow().end());
        let members = || hosts.values().filter(|host| !host.retired);
        let holds = |host: &&Host| {
            host.ready().is_some_and(|ready| {
                ready.projections.complete() && ready.projections.on_disk() + ENTRIES_ON_THEIR_WAY >= end
            })
        };
        let most = members().count() / 2 + 1;
        !self.changing.get()
            && !members().any(|host| host.lost || host.damaged)
            && members().filter(holds).count() >= most
    }

    fn flip(self: &Rc<Self>, host: NodeId) {
        if !self.may_lose_a_disk() {
            return;
        }
        let (which, tree, some, (back, after)) = self.nature.draw(|chance| {
            let tree = chance.pick(&Tree::ALL);
            let times = (chance.pick(&[100, 3_000]), chance.pick(&[0, 0, 10_000]));
            (chance.below(4), tree, chance.below(u64::MAX), times)
        });
        // Of the read models the event log is what cannot be made again, and what peers are given.
        let tree = if which == 0 { Tree::EventBlocks } else { tree };
        let flipped = self.with_host(host, |host| {
            let bits = host.log.bits().max(1);
            let flipped = match which {
                0 | 1 => host.read_models.flip_bit(tree, some >> 32, some & 0xffff_ffff),
                _ => host.log.flip_bit(some % bits),
            };
            host.damaged |= flipped;
            flipped
        });
        if flipped != Some(true) {
            return;
        }
        self.disturb(after + back + 10_000);
        self.counts.borrow_mut().flips += 1;
        self.nature.note(&[18, host.0, which, some], || {
            let place = if which < 2 { tree.name() } else { "log" };
            format!("a bit of the disk of node {host} flips, in its {place}")
        });
        // Whatever it reads until then it must not believe.
        if after == 0 {
            self.crash(host, back);
        } else {
            self.later(after, move |world| {
                if world.healed().is_none() {
                    world.crash(host, back);
                }
            });
        }
    }

    fn lose_disk(self: &Rc<Self>, host: NodeId) {
        if !self.may_lose_a_disk() {
            return;
        }
        self.disturb(15_000);
        self.counts.borrow_mut().lost_disks += 1;
        self.nature.note(&[19, host.0], || format!("node {host} loses its disk"));
        self.with_host(host, |host| host.lost = true);
        self.crash(host, 0);
    }

    fn change_members(self: &Rc<Self>, host: NodeId) {
        let way = self.nature.draw(|chance| chance.below(3));
        self.disturb(4_000);
        self.wanted_change.set(Some((way, host)));
    }
}
