//! Disks that fill up, and disks that fail: the node stops with a word, the others go on, and it comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::campaign::{Campaign, skip};
use crate::harness::cluster::{Cluster, Settings};
use crate::network::run;

/// The size of the small file system.
const BYTES: u64 = 64 << 20;
/// What is left of it for the node.
const LEFT_BYTES: u64 = 96 << 10;

/// A small file system; unmounted when dropped.
#[derive(Debug)]
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let place = directory.path().display();
        run(&format!("mount -t tmpfs -o size={BYTES} escapement-faults {place}"))?;
        Ok(Self(directory))
    }

    /// Moves a stopped node's data here.
    fn take(&self, data: &Path) {
        let goal = self.data();
        run(&format!("cp -a {} {}", data.display(), goal.display())).expect("copied");
        fs::remove_dir_all(data).expect("removed");
        std::os::unix::fs::symlink(goal, data).expect("linked");
    }

    /// Leaves so many bytes free.
    fn fill(&self) {
        let used: u64 = sizes(self.0.path());
        fs::write(self.ballast(), vec![1; usize::try_from(BYTES - used - LEFT_BYTES).expect("fits")])
            .expect("there was room");
    }

    fn empty(&self) {
        fs::remove_file(self.ballast()).expect("it was there");
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing is left to do about one that is gone.
        drop(run(&format!("umount --lazy {}", self.0.path().display())));
    }
}

/// Bytes on disk of everything below a place, in whole pages.
fn sizes(place: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(place).expect("a directory").map(|entry| entry.expect("readable"));
    entries
        .map(|entry| {
            let metadata = entry.metadata().expect("readable");
            if metadata.is_dir() { sizes(&entry.path()) } else { metadata.blocks() * 512 }
        })
        .sum()
}

/// `strace` on a running node, so that every sync of it fails; ended when dropped.
#[derive(Debug)]
struct FailingSyncs(Child);

impl FailingSyncs {
    fn start(cluster: &Cluster, id: u64) -> Self {
        let process = cluster.node(id).pid().as_raw_nonzero().to_string();
        let inject = "inject=fsync,fdatasync,sync_file_range,syncfs:error=EIO";
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", inject, "-p", &process])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("it was tried"))
    }
}

impl Drop for FailingSyncs {
    fn drop(&mut self) {
        // It ends with the process that it traces, unless a test failed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Demands that a node ended by itself, with a word of why; starts it again.
#[track_caller]
fn check_stops(cluster: &mut Cluster, id: u64, words: &[&str]) {
    let code = cluster.await_end(id);
    let printed = cluster.node(id).printed().to_lowercase();
    assert_eq!(code, Some(1), "{printed}");
    assert!(words.iter().any(|word| printed.contains(word)), "{words:?} in {printed}");
}

#[test]
fn a_disk_fills_up_under_a_follower_and_under_the_leader() {
    const NAME: &str = "a disk that fills";
    // Dropped after the nodes.
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => return skip(NAME, &reason),
    };
    let mut campaign = Campaign::start(NAME, Settings::default(), 25);
    let id = campaign.cluster.follower();
    campaign.disturb(|cluster, _| {
        cluster.kill(id);
        disk.take(&cluster.data(id));
        cluster.start_again(id);
        cluster.await_ready();
        cluster.await_caught_up(id);
    });
    for leads in [false, true] {
        campaign.disturb(|cluster, _| {
            if leads {
                cluster.lead(id);
            }
            disk.fill();
            check_stops(cluster, id, &["no space left"]);
            disk.empty();
            cluster.start_again(id);
            cluster.await_ready();
            cluster.await_caught_up(id);
        });
    }
    campaign.finish();
}

#[test]
fn a_sync_fails_on_a_follower_and_on_the_leader() {
    const NAME: &str = "a sync that fails";
    if let Err(reason) = run("strace -qq -o /dev/null -e inject=fsync,fdatasync:error=EIO true") {
        return skip(NAME, &reason);
    }
    let mut campaign = Campaign::start(NAME, Settings::default(), 25);
    for leads in [false, true] {
        campaign.disturb(|cluster, _| {
            let id = if leads { cluster.leader() } else { cluster.follower() };
            let failing = FailingSyncs::start(cluster, id);
            check_stops(cluster, id, &["input/output error", "os error 5"]);
            drop(failing);
            cluster.start_again(id);
            cluster.await_ready();
            cluster.await_caught_up(id);
        });
    }
    campaign.finish();
}
