//! What a snapshot skipped is fetched from a peer, verified, and folded as if it had been seen.

use std::io;

use bytes::Bytes;
use escapement_domain::identifier::TaskId;
use futures::future::BoxFuture;

use super::*;
use crate::machine::Machine;
use crate::ports::History;

/// What becomes of a peer's answer.
type Spoil = fn(Vec<Bytes>) -> io::Result<Vec<Bytes>>;

/// A peer that answers from its own storage, at first with what `spoil` makes of it.
struct Peer {
    log: EventLog,
    spoil: parking_lot::Mutex<Vec<Spoil>>,
}

impl Peer {
    fn of(storage: &Arc<FakeStorage>, spoil: Vec<Spoil>) -> Arc<Self> {
        Arc::new(Self {
            log: EventLog::open(storage.clone()).expect("opens"),
            spoil: parking_lot::Mutex::new(spoil),
        })
    }
}

impl History for Peer {
    fn fetch(&self, tenant: TenantId, after: u64) -> BoxFuture<'static, io::Result<Vec<Bytes>>> {
        let blocks = self.log.blocks_after(tenant, after, 100_000).expect("intact");
        let answer = match self.spoil.lock().pop() {
            Some(spoil) => spoil(blocks),
            None => Ok(blocks),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn busy(world: &mut World) {
    world.join(8);
    world.create("acme", 1, &world::definition());
    world.create("globex", 101, &world::definition());
    more(world);
}

fn more(world: &mut World) {
    for round in 0..300 {
        world.fire(TenantId(1 + round % 2), u128::from(1 + 100 * (round % 2)), 3);
        world.complete_all();
    }
}

/// A node that saw the first entries, then a snapshot, then the rest.
async fn behind(world: &World, storage: &Arc<FakeStorage>, seen: usize) -> (Arc<Machine>, Projections) {
    let machine = Arc::new(Machine::default());
    let projections = Projections::start(machine.clone(), storage.clone()).expect("empty");
    for (index, commands) in world.entries.iter().take(seen) {
        machine.apply(*index, commands).expect("of this version");
    }
    projections.wait_folded(machine.applied()).await.expect("folded");
    let mut snapshot = Vec::new();
    let (index, frozen) = world.machine.freeze();
    frozen.write_to(&mut snapshot).expect("memory");
    machine.restore(index, &mut snapshot.as_slice()).expect("a snapshot");
    (machine, projections)
}

#[test]
fn a_gap_is_fetched_and_the_models_are_as_if_there_had_been_none() {
    let (world, full) = folded(busy);
    let storage = Arc::new(FakeStorage::default());
    local(async {
        let (machine, projections) = behind(&world, &storage, 40).await;
        tokio::time::sleep(std::time::Duration::from_millis(120)).await;
        assert!(!projections.complete(), "history reads go elsewhere");
        assert!(projections.folded() < machine.applied());
        let heads = machine.read(|replica| {
            (0..).map(TenantId).zip(replica.tenants().iter().map(|t| t.head)).collect::<Vec<_>>()
        });
        let missing = projections.log().missing(heads);
        assert!(missing.iter().any(|missing| missing.tenant == ACME && missing.replica == world.head(ACME)));
        projections.fetch_from(Peer::of(&full, Vec::new()));
        projections.wait_complete().await.expect("fetched");
        projections.wait_folded(machine.applied()).await.expect("folded");
        projections.stop().await.expect("written");
    });
    assert_same(&*full, &*storage);
}

#[test]
fn records_that_come_while_others_are_missing_are_there_in_the_end() {
    let (mut world, storage) = (World::default(), Arc::new(FakeStorage::default()));
    let peer_storage = Arc::new(FakeStorage::default());
    local(async {
        let peer = Projections::start(world.machine.clone(), peer_storage.clone()).expect("empty");
        busy(&mut world);
        let (machine, projections) = behind(&world, &storage, 40).await;
        let from = world.machine.applied();
        more(&mut world);
        peer.stop().await.expect("written");
        world.replayed_on(&machine, from);
        projections.fetch_from(Peer::of(&peer_storage, Vec::new()));
        projections.wait_folded(machine.applied()).await.expect("fetched and folded");
        projections.stop().await.expect("written");
    });
    assert_same(&*peer_storage, &*storage);
}

#[test]
fn a_peer_that_sends_nonsense_is_asked_no_further_and_another_one_is() {
    let (world, full) = folded(busy);
    let storage = Arc::new(FakeStorage::default());
    let spoil: Vec<Spoil> = vec![
        |_| Err(io::Error::other("connection reset")),
        |_| Ok(Vec::new()),
        |_| Ok(vec![Bytes::from_static(b"nonsense")]),
        |blocks| Ok(blocks.into_iter().skip(1).collect()),
        |blocks| {
            let mut bytes = blocks[0].to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Ok(vec![bytes.into()])
        },
    ];
    local(async {
        let (machine, projections) = behind(&world, &storage, 40).await;
        projections.fetch_from(Peer::of(&full, spoil));
        projections.wait_folded(machine.applied()).await.expect("fetched in the end");
        projections.stop().await.expect("written");
    });
    assert_same(&*full, &*storage);
}

#[test]
fn another_clusters_history_stops_the_node_where_the_gap_ends() {
    let (world, _) = folded(busy);
    let (_, strangers) = folded(|world| {
        world.now += 1;
        busy(world);
        more(world);
    });
    let storage = Arc::new(FakeStorage::default());
    local(async {
        let (_, projections) = behind(&world, &storage, 0).await;
        projections.fetch_from(Peer::of(&strangers, Vec::new()));
        let failure = projections.failed().await;
        assert!(matches!(&*failure, Failure::Diverged { .. }), "{failure}");
    });
}

#[test]
fn nothing_counts_as_synced_while_records_are_missing() {
    let (world, full) = folded(busy);
    let storage = Arc::new(FakeStorage::default());
    local(async {
        let (machine, projections) = behind(&world, &storage, 40).await;
        let mut synced = projections.synced(machine.applied());
        let early = tokio::time::timeout(std::time::Duration::from_millis(150), &mut synced).await;
        assert!(early.is_err(), "the log must not be purged past what is missing here");
        projections.fetch_from(Peer::of(&full, Vec::new()));
        synced.await.expect("synced in the end");
        let log = EventLog::open(Arc::new(storage.crashed(0))).expect("opens");
        assert_eq!(log.head(ACME), world.head(ACME));
    });
}

#[test]
fn a_restart_from_an_own_snapshot_is_no_gap() {
    let (world, storage) = folded(busy);
    local(async {
        let machine = Arc::new(Machine::default());
        let projections = Projections::start(machine.clone(), storage.clone()).expect("opens");
        let mut snapshot = Vec::new();
        let (index, frozen) = world.machine.freeze();
        frozen.write_to(&mut snapshot).expect("memory");
        machine.restore(index, &mut snapshot.as_slice()).expect("a snapshot");
        projections.wait_folded(index).await.expect("nothing is missing");
        assert!(projections.complete());
        let head = machine.read(|replica| replica.task(ACME, TaskId(1)).expect("there").stream);
        assert_eq!(projections.stream(ACME, TaskId(1), head, 0, 5).expect("threaded").records.len(), 5);
    });
}
