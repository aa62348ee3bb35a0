//! What the machine allows, measured beside every run: a synced write, and a round trip over loopback.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::statistics::{Samples, rounded};
use crate::command_line::failure::Failure;
use crate::command_line::system::Stopwatch;

/// Bytes of one synced write: about one small command.
const WRITE_BYTES: usize = 256;
/// Synced writes at most.
const WRITES_MAX: usize = 500;
/// For how long to write at most.
const WRITING_MAX: Duration = Duration::from_secs(3);
/// Round trips.
const ROUND_TRIPS: usize = 2_000;
/// Round trips before it counts.
const WARM_UP: usize = 200;

/// What the machine allows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Limit {
    /// A write of [`WRITE_BYTES`] and its fdatasync, in milliseconds.
    pub(super) fsync_p50_ms: f64,
    pub(super) fsync_p99_ms: f64,
    /// One byte there and back, in microseconds.
    pub(super) loopback_round_trip_us: f64,
}

impl Limit {
    /// Measures the disk under a directory, and loopback.
    pub(super) async fn measure(directory: &Path) -> Result<Self, Failure> {
        let file = directory.join("bench-limit.probe");
        let mut syncs =
            synced_writes(&file).map_err(|error| Failure::file("measure the disk with", &file, &error))?;
        let mut trips = round_trips()
            .await
            .map_err(|error| Failure::stopped(format!("cannot measure loopback: {error}")))?;
        let nothing = || Failure::stopped("nothing was measured");
        let (fsync_p50_ms, fsync_p99_ms) = syncs.p50_p99().ok_or_else(nothing)?;
        let (trip_ms, _) = trips.p50_p99().ok_or_else(nothing)?;
        Ok(Self {
            fsync_p50_ms: rounded(fsync_p50_ms),
            fsync_p99_ms: rounded(fsync_p99_ms),
            loopback_round_trip_us: rounded(trip_ms * 1_000.0),
        })
    }
}

/// Appends and syncs, as a log does that nobody shares.
fn synced_writes(path: &Path) -> io::Result<Samples> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let mut samples = Samples::default();
    let whole = Stopwatch::start();
    for _ in 0..WRITES_MAX {
        let one = Stopwatch::start();
        file.write_all(&[0x5a; WRITE_BYTES])?;
        file.sync_data()?;
        samples.add(one.elapsed_ms());
        if whole.elapsed() > WRITING_MAX {
            break;
        }
    }
    fs::remove_file(path)?;
    Ok(samples)
}

async fn round_trips() -> io::Result<Samples> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let echo = async {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        for _ in 0..WARM_UP + ROUND_TRIPS {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
        }
        Ok::<_, io::Error>(())
    };
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut samples = Samples::default();
        for trip in 0..WARM_UP + ROUND_TRIPS {
            let one = Stopwatch::start();
            stream.write_u8(1).await?;
            stream.read_u8().await?;
            if trip >= WARM_UP {
                samples.add(one.elapsed_ms());
            }
        }
        Ok(samples)
    };
    let ((), samples) = tokio::try_join!(echo, ask)?;
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_is_measured_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let limit = Limit::measure(directory.path()).await.expect("measured");
        assert!(limit.fsync_p50_ms <= limit.fsync_p99_ms && limit.loopback_round_trip_us > 0.0, "{limit:?}");
        assert_eq!(fs::read_dir(directory.path()).expect("directory").count(), 0);
    }
}
