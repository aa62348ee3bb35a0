//! Whether a majority of the members was well and connected: then nothing excuses a scheduler from going on soon.
//!
//! Looked at every so often. Absent on purpose: who leads; a leader outside the majority has to be replaced by it.

use std::rc::Rc;

use super::World;
use super::host::Host;
use crate::profile::RECOVERY_MS;

/// How often it is looked, in ms.
const LOOK_MS: u64 = 100;

/// Notes every span without such a majority, until the world has ended.
pub(super) async fn watch(world: Rc<World>) {
    while !world.over.get() {
        if !world.has_quorum() {
            let now = world.nature.now();
            let (from, to) = (now.saturating_sub(LOOK_MS), now + LOOK_MS + RECOVERY_MS);
            let mut spans = world.without_quorum.borrow_mut();
            match spans.last_mut() {
                Some(last) if from <= last.1 => last.1 = to,
                _ => spans.push((from, to)),
            }
        }
        world.pause(LOOK_MS).await;
    }
}

impl World {
    /// Whether most members run, are ready, have a good clock and disk, and reach each other.
    fn has_quorum(&self) -> bool {
        // While members come and go, who is the majority of whom is not for us to say.
        if self.changing.get() || !self.weather.is_fair() {
            return false;
        }
        let (now, hosts, clocks) = (self.nature.now(), self.hosts.borrow(), self.wrong_clocks.borrow());
        let is_well = |host: &&Host| {
            host.is_awake()
                && host.ready().is_some()
                && host.has_a_good_disk(now)
                && clocks.get(&host.id).is_none_or(|until| *until <= now)
        };
        let members = || hosts.values().filter(|host| !host.retired);
        let well: Vec<u64> = members().filter(is_well).map(|host| host.id.0).collect();
        let connected = |some: &[u64]| {
            let pairs = some.iter().flat_map(|one| some.iter().map(move |other| (*one, *other)));
            pairs.filter(|(one, other)| one < other).all(|(one, other)| self.weather.connects(one, other))
        };
        let subsets = (0..1_u32 << well.len().min(16)).map(|chosen| {
            let taken = well.iter().enumerate().filter(|(place, _)| chosen >> place & 1 == 1);
            taken.map(|(_, id)| *id).collect::<Vec<_>>()
        });
        let most = members().count() / 2 + 1;
        subsets.filter(|some| some.len() >= most).any(|some| connected(&some))
    }
}
