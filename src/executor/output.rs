//! What an attempt wrote, cut into lines and bounded.
//!
//! Invariant: the lines of one attempt never add up to more than its bound, and where lines were left out a system line
//! says so, once. A program that writes more is still read, so that it never waits for a full pipe.

use std::sync::Arc;

use escapement_actors::ports::{Clock, OutputChunk, OutputSink, OutputStream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of the longest line; longer ones are broken.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a line costs besides its text, so that a million empty lines are bounded too.
const LINE_OVERHEAD_BYTES: usize = 16;

/// Takes the lines of one attempt. Cloning is cheap, and clones share the bound.
#[derive(Clone)]
pub(super) struct Transcript {
    sink: Arc<dyn OutputSink>,
    clock: Arc<dyn Clock>,
    bound: usize,
    room: Arc<Mutex<Option<usize>>>,
}

impl Transcript {
    pub(super) fn new(sink: Arc<dyn OutputSink>, clock: Arc<dyn Clock>, bound: usize) -> Self {
        Self { sink, clock, bound, room: Arc::new(Mutex::new(Some(bound))) }
    }

    /// Takes what the scheduler itself says; not bounded, since it says little.
    pub(super) fn system(&self, text: impl Into<String>) {
        self.write(OutputStream::System, text.into());
    }

    /// Takes a line of the attempt, unless there was too much.
    fn line(&self, stream: OutputStream, bytes: &[u8]) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let cost = text.len() + LINE_OVERHEAD_BYTES;
        let mut room = self.room.lock();
        match *room {
            None => {}
            Some(left) if left >= cost => {
                *room = Some(left - cost);
                self.write(stream, text.into_owned());
            }
            Some(_) => {
                *room = None;
                self.system(format!("the output was cut off here: it is longer than {} bytes", self.bound));
            }
        }
    }

    fn write(&self, stream: OutputStream, text: String) {
        self.sink.write(OutputChunk { at: self.clock.now(), stream, text });
    }

    /// Reads a pipe to its end, line by line.
    pub(super) async fn copy(&self, stream: OutputStream, mut pipe: impl AsyncRead + Unpin) {
        let mut pending = Vec::new();
        let mut buffer = [0_u8; 8 * 1024];
        loop {
            let read = match pipe.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    self.system(format!("the output could not be read: {error}"));
                    break;
                }
            };
            for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                pending.extend_from_slice(piece);
                if let Some(line) = pending.strip_suffix(b"\n") {
                    self.line(stream, line);
                    pending.clear();
                } else if pending.len() >= LINE_BYTES_MAX {
                    let broken = broken_at(&pending);
                    self.line(stream, &pending[..broken]);
                    pending.drain(..broken);
                }
            }
        }
        if !pending.is_empty() {
            self.line(stream, &pending);
        }
    }
}

/// Where to break a line that is too long: not inside a character.
fn broken_at(bytes: &[u8]) -> usize {
    let is_inside = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    let end = bytes.len() - 1;
    (end.saturating_sub(3)..=end).rev().find(|at| !is_inside(at)).filter(|at| *at > 0).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Lines, clock};
    use super::*;

    /// What the lines of this text come to under a bound.
    async fn check(text: &[u8], bound: usize) -> Vec<String> {
        let lines = Lines::new();
        Transcript::new(lines.clone(), clock(), bound).copy(OutputStream::Stdout, text).await;
        lines.all().into_iter().map(|(_, text)| text).collect()
    }

    #[tokio::test]
    async fn lines_are_cut_at_their_ends() {
        assert_eq!(check(b"a\nb\r\n\nc", 1_000).await, ["a", "b", "", "c"]);
        assert_eq!(check(b"", 1_000).await, [] as [&str; 0]);
        assert_eq!(check(b"\xff!\n", 1_000).await, ["\u{fffd}!"]);
    }

    #[tokio::test]
    async fn too_much_is_cut_off_with_one_word() {
        let lines = check("0123456789\n".repeat(1_000).as_bytes(), 100).await;
        assert_eq!(lines[..3], ["0123456789"; 3]);
        assert_eq!(lines[3..], ["the output was cut off here: it is longer than 100 bytes"]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_broken_between_characters() {
        let text = "ä".repeat(20_000);
        let lines = check(text.as_bytes(), 1_000_000).await;
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= LINE_BYTES_MAX + 8 * 1024));
        assert_eq!(lines.concat(), text);
    }
}
