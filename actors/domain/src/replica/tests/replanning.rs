//! Newer zone data plans tasks anew through the log, and changes nothing of what is due.

use super::*;
use crate::command::Replanned;

fn replan(world: &mut World, task: TaskId, before: i64, next: Option<i64>) -> Option<i64> {
    let (slot, revision) = (world.task(task).slot, world.task(task).revision);
    let item = Replanned { slot, revision, before: Timestamp(before), next: next.map(Timestamp) };
    world.scheduler(Request::Replan(vec![item])).expect("always carried out");
    world.task(task).next.map(|next| next.0)
}

#[test]
fn the_next_instant_is_the_one_by_newer_zone_data() {
    let mut world = World::new();
    let task = world.create(1, &definition(), Some(1_010_000));
    assert_eq!(replan(&mut world, task, 1_010_000, Some(1_006_400)), Some(1_006_400));
    assert_eq!(world.names(), ["TaskReplanned"]);
    world.now = 1_010_000;
    assert_eq!(world.fire(task, 1_010_000, None), (0, 0, 1), "what it was planned for before is nothing");
    assert_eq!(world.fire(task, 1_006_400, Some(1_020_000)), (1, 0, 0));
}

#[test]
fn what_is_due_or_was_planned_by_another_definition_stays() {
    let mut world = World::new();
    let task = world.create(1, &definition(), Some(1_010_000));
    assert_eq!(replan(&mut world, task, 1_009_000, Some(1_020_000)), Some(1_010_000));
    assert_eq!(replan(&mut world, task, 1_010_000, Some(900_000)), Some(1_010_000), "settled already");
    world.now = 1_010_000;
    assert_eq!(replan(&mut world, task, 1_010_000, Some(1_020_000)), Some(1_010_000), "due");
    assert!(world.names().is_empty());
}

#[test]
fn the_version_is_adopted_once() {
    let mut world = World::new();
    for names in [&["ZoneDataAdopted"][..], &[]] {
        world.scheduler(Request::AdoptZoneData { version: "2026f".into() }).expect("always carried out");
        assert_eq!(world.names(), names);
    }
    assert_eq!(&**world.replica.zone_data(), "2026f");
}
