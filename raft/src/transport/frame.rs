//! One message on a TCP connection.
//!
//! ```text
//! length u32 LE | version u8 | crc32c u32 LE | kind u8 | id u64 LE | group u64 LE | body …
//! ```
//!
//! The length counts everything after itself, the checksum covers everything after itself. Invariants:
//! another version is refused by name before anything else of a frame is looked at; no frame makes
//! its reader allocate more than [`FRAME_BYTES_MAX`]. Absent on purpose: what a body means.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::codec::{CodecError, Record};
use crate::limits::FRAME_BYTES_MAX;
use crate::member::GroupId;

const LENGTH: usize = 4;
const BEFORE_CHECKSUM: usize = 1;
const CHECKSUM: usize = 4;
const HEAD: usize = 1 + 8 + 8;
/// What a frame adds to its body.
pub(super) const OVERHEAD: usize = LENGTH + BEFORE_CHECKSUM + CHECKSUM + HEAD;

/// What a frame is. New kinds are only appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Handshake = 0,
    Welcome = 1,
    Refused = 2,
    GroupRequest = 3,
    ApplicationRequest = 4,
    HelloRequest = 5,
    Answer = 6,
    Failed = 7,
    Ping = 8,
    Pong = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::{
            Answer, ApplicationRequest, Failed, GroupRequest, Handshake, HelloRequest, Ping, Pong, Refused,
            Welcome,
        };
        let kinds = [
            Handshake,
            Welcome,
            Refused,
            GroupRequest,
            ApplicationRequest,
            HelloRequest,
            Answer,
            Failed,
            Ping,
            Pong,
        ];
        kinds.get(usize::from(byte)).copied()
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Pairs an answer with its request.
    pub(super) id: u64,
    pub(super) group: GroupId,
    pub(super) body: Bytes,
}

impl Frame {
    pub(super) fn new(kind: Kind, id: u64, body: impl Into<Bytes>) -> Self {
        Self { kind, id, group: GroupId(0), body: body.into() }
    }

    pub(super) fn refused(reason: &str) -> Self {
        Self::new(Kind::Refused, 0, reason.as_bytes().to_vec())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why no frame came of a connection's bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error(transparent)]
    Version(CodecError),
    #[error("a frame of {0} bytes; at most {FRAME_BYTES_MAX} are read")]
    TooLarge(usize),
    #[error("a frame of {0} bytes is too short")]
    TooShort(usize),
    #[error("a frame's checksum does not match")]
    Checksum,
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    #[error(transparent)]
    Connection(#[from] std::io::Error),
}

/// Writes a frame; the caller flushes.
pub(super) async fn write<W: AsyncWrite + Unpin>(to: &mut W, frame: &Frame) -> std::io::Result<()> {
    let Ok(length) = u32::try_from(OVERHEAD - LENGTH + frame.body.len()) else {
        return Err(std::io::Error::other("a frame is too large"));
    };
    let mut head = [0; HEAD];
    head[0] = frame.kind as u8;
    head[1..9].copy_from_slice(&frame.id.to_le_bytes());
    head[9..].copy_from_slice(&frame.group.0.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), &frame.body);
    let mut front = [0; OVERHEAD];
    front[..4].copy_from_slice(&length.to_le_bytes());
    front[4] = Record::Frame.version();
    front[5..9].copy_from_slice(&checksum.to_le_bytes());
    front[9..].copy_from_slice(&head);
    to.write_all(&front).await?;
    to.write_all(&frame.body).await
}

/// Reads a frame; `None` when the connection was closed between two.
pub(super) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> Result<Option<Frame>, FrameError> {
    let mut front = [0; LENGTH + BEFORE_CHECKSUM];
    if from.read(&mut front[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut front[1..]).await?;
    Record::Frame.check_version(front[4]).map_err(FrameError::Version)?;
    let length = u32::from_le_bytes([front[0], front[1], front[2], front[3]]) as usize;
    if length + LENGTH > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    if length < OVERHEAD - LENGTH {
        return Err(FrameError::TooShort(length));
    }
    let mut bytes = vec![0; length - BEFORE_CHECKSUM];
    from.read_exact(&mut bytes).await?;
    let bytes = Bytes::from(bytes);
    if bytes[..CHECKSUM] != crc32c::crc32c(&bytes[CHECKSUM..]).to_le_bytes() {
        return Err(FrameError::Checksum);
    }
    let head = &bytes[CHECKSUM..CHECKSUM + HEAD];
    let kind = Kind::from_byte(head[0]).ok_or(FrameError::Kind(head[0]))?;
    let (id, group) = (number(&head[1..9]), GroupId(number(&head[9..])));
    Ok(Some(Frame { kind, id, group, body: bytes.slice(CHECKSUM + HEAD..) }))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(damage: impl Fn(&mut Vec<u8>)) -> Result<Option<Frame>, FrameError> {
        let mut bytes = Vec::new();
        let frame =
            Frame { kind: Kind::Answer, id: 1 << 40, group: GroupId(7), body: Bytes::from_static(b"body") };
        write(&mut bytes, &frame).await.unwrap();
        damage(&mut bytes);
        let read = read(&mut &bytes[..]).await?;
        if let Some(read) = &read {
            assert_eq!(*read, frame);
        }
        Ok(read)
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        assert!(check(|_| ()).await.unwrap().is_some());
        assert!(check(Vec::clear).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_unknown_version_is_refused_by_name() {
        let error = check(|bytes| bytes[4] = 2).await.unwrap_err();
        assert_eq!(error.to_string(), "this node speaks frame version 1; peer sent 2");
    }

    #[tokio::test]
    async fn damage_is_found() {
        for at in 5..OVERHEAD + 4 {
            assert!(check(|bytes| bytes[at] ^= 1).await.is_err(), "byte {at}");
        }
        assert!(matches!(check(|bytes| bytes[3] = 0xff).await, Err(FrameError::TooLarge(_))));
        assert!(check(|bytes| bytes.truncate(9)).await.is_err());
    }
}
