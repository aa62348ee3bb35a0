//! The read models and the event log, one claim a test.

mod catching_up;
mod folding;
mod listing;
mod output;
mod replaying;
mod tampering;
mod world;

use std::sync::Arc;

use escapement_domain::identifier::TenantId;

use super::*;
use crate::ports::{Storage, Tree};
use world::{FakeStorage, World, local};

/// Folds everything that a world's machine publishes while `act` plays, and returns the storage when all is written.
pub(super) fn folded(act: impl FnOnce(&mut World)) -> (World, Arc<FakeStorage>) {
    let storage = Arc::new(FakeStorage::default());
    let world = local(async {
        let mut world = World::default();
        let projections = Projections::start(world.machine.clone(), storage.clone()).expect("empty");
        act(&mut world);
        projections.stop().await.expect("written");
        world
    });
    (world, storage)
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What the read models and the event log have in a storage.
fn everything(storage: &dyn Storage) -> Vec<(Tree, Pairs)> {
    Tree::ALL.iter().map(|tree| (*tree, dump(storage, *tree).expect("memory"))).collect()
}

#[track_caller]
fn assert_same(one: &dyn Storage, other: &dyn Storage) {
    for ((tree, one), (_, other)) in everything(one).into_iter().zip(everything(other)) {
        assert_eq!(one.len(), other.len(), "{tree:?} has as many rows");
        for ((key, value), (other_key, other_value)) in one.into_iter().zip(other) {
            assert_eq!(key, other_key, "{tree:?}");
            assert_eq!(value, other_value, "{tree:?} {key:?}");
        }
    }
}

/// The first tenant that is not the cluster.
const ACME: TenantId = TenantId(1);
