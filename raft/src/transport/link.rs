//! The calling half of one TCP connection: many requests at once, answers paired by number.
//!
//! A link connects when it is first used and again after a failure, with growing pauses; while it
//! pauses, requests fail at once. Invariants: requests are written in the order in which they were
//! queued; a connection that is silent while answers are due is given up, so that a healed network is
//! used at once instead of when TCP next tries. Absent on purpose: repeating a request.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use super::frame::{self, Frame, FrameError, Kind};
use super::switchboard::{Destination, Handshake, disk_lost};
use super::{Lane, Local, TransportError};
use crate::limits::LINK_QUEUE;
use crate::runtime::{self, Instant};
use crate::wire;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a connection is looked at while answers are due.
const LOOK: Duration = Duration::from_millis(250);

/// A connection is given up after so much silence while answers are due.
pub(super) const fn silence(lane: Lane) -> Duration {
    match lane {
        Lane::Control => Duration::from_secs(1),
        Lane::Append | Lane::Snapshot | Lane::Application => Duration::from_secs(5),
    }
}

pub(super) type Reply = oneshot::Sender<Result<Bytes, TransportError>>;

/// A request on its way.
pub(super) struct Outgoing {
    pub(super) destination: Destination,
    pub(super) body: Bytes,
    pub(super) reply: Reply,
}

/// Where a link leads.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) handshake: Handshake,
    /// The disk that the membership knows; another one is refused. `None` when asking.
    pub(super) disk: Option<u128>,
    pub(super) label: String,
}

impl Target {
    fn unreachable(&self, reason: impl std::fmt::Display) -> TransportError {
        TransportError::Unreachable { to: self.label.clone(), reason: reason.to_string() }
    }

    /// For what was sent and has no answer.
    fn interrupted(&self, reason: impl std::fmt::Display) -> TransportError {
        TransportError::Interrupted { to: self.label.clone(), reason: reason.to_string() }
    }

    fn refused(&self, reason: impl std::fmt::Display) -> TransportError {
        TransportError::Refused { to: self.label.clone(), reason: reason.to_string() }
    }
}

/// The handle of a link; its task ends when the last handle is dropped.
pub(super) struct Link {
    queue: mpsc::Sender<Outgoing>,
}

impl Link {
    pub(super) fn start(target: Target) -> Self {
        let (queue, requests) = mpsc::channel(LINK_QUEUE);
        runtime::spawn(run(target, requests));
        Self { queue }
    }

    /// Queues a request; gives it back when too many wait.
    pub(super) fn send(&self, request: Outgoing) -> Result<(), Outgoing> {
        self.queue.try_send(request).map_err(mpsc::error::TrySendError::into_inner)
    }
}

async fn run(target: Target, mut requests: mpsc::Receiver<Outgoing>) {
    let mut pause = PAUSE_MIN;
    while let Some(first) = requests.recv().await {
        match timeout(CONNECT_TIMEOUT, connect(&target)).await {
            Ok(Ok(stream)) => {
                pause = PAUSE_MIN;
                Connection::run(&target, stream, first, &mut requests).await;
            }
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => target.unreachable(format!("no connection within {CONNECT_TIMEOUT:?}")),
                };
                // The caller may be gone; there is nobody else to tell.
                let _ = first.reply.send(Err(error.clone()));
                refuse_for(&mut requests, pause, &error).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Answers every request with the error until the pause, a little randomised, is over.
async fn refuse_for(requests: &mut mpsc::Receiver<Outgoing>, pause: Duration, error: &TransportError) {
    let until = runtime::now() + pause.mul_f64(0.75 + (runtime::random() % 512) as f64 / 1_024.0);
    loop {
        tokio::select! {
            biased;
            () = sleep_until(until) => return,
            request = requests.recv() => match request {
                Some(request) => drop(request.reply.send(Err(error.clone()))),
                None => return,
            },
        }
    }
}

async fn connect(target: &Target) -> Result<TcpStream, TransportError> {
    let mut stream = TcpStream::connect(&target.address).await.map_err(|error| target.unreachable(error))?;
    stream.set_nodelay(true).map_err(|error| target.unreachable(error))?;
    let body = wire::encode(&target.handshake).map_err(|error| target.refused(error))?;
    let lost = |error: std::io::Error| target.unreachable(error);
    frame::write(&mut stream, &Frame::new(Kind::Handshake, 0, body)).await.map_err(lost)?;
    let answer = match frame::read(&mut stream).await {
        Ok(Some(answer)) => answer,
        Ok(None) => return Err(target.unreachable("it closed the connection")),
        Err(error @ FrameError::Version(_)) => return Err(target.refused(error)),
        Err(error) => return Err(target.unreachable(error)),
    };
    match answer.kind {
        Kind::Welcome => {
            let local: Local = wire::decode(&answer.body).map_err(|error| target.refused(error))?;
            match target.disk {
                Some(disk) if disk != local.disk => Err(target.refused(disk_lost(local.node))),
                _ => Ok(stream),
            }
        }
        Kind::Refused => Err(target.refused(answer.text())),
        other => Err(target.refused(format!("it answered the handshake with {other:?}"))),
    }
}

/// What the writing and the reading half share.
struct Connection {
    waiting: Mutex<BTreeMap<u64, Reply>>,
    /// Milliseconds after `since` at which something was last read.
    heard: AtomicU64,
    since: Instant,
}

impl Connection {
    async fn run(
        target: &Target,
        stream: TcpStream,
        first: Outgoing,
        requests: &mut mpsc::Receiver<Outgoing>,
    ) {
        let connection = Arc::new(Self {
            waiting: Mutex::new(BTreeMap::new()),
            heard: AtomicU64::new(0),
            since: runtime::now(),
        });
        let (read, write) = stream.into_split();
        let reading = connection.clone().read(target.label.clone(), read);
        let reason = tokio::select! {
            biased;
            reason = reading => reason,
            reason = connection.write(target, BufWriter::new(write), first, requests) => reason,
        };
        let Some(reason) = reason else { return };
        for (_, reply) in std::mem::take(&mut *connection.waiting.lock()) {
            drop(reply.send(Err(target.interrupted(&reason))));
        }
    }

    /// Writes requests until the connection fails; `None` when nobody can send any more.
    async fn write(
        &self,
        target: &Target,
        mut to: BufWriter<OwnedWriteHalf>,
        first: Outgoing,
        requests: &mut mpsc::Receiver<Outgoing>,
    ) -> Option<String> {
        let mut number = 0;
        let mut next = Some(first);
        let mut look = tokio::time::interval(LOOK);
        loop {
            while let Some(request) = next.take() {
                number += 1;
                if let Err(error) = self.put(&mut to, number, request).await {
                    return Some(error.to_string());
                }
                next = requests.try_recv().ok();
            }
            if let Err(error) = to.flush().await {
                return Some(error.to_string());
            }
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => next = Some(request),
                    None => return None,
                },
                _ = look.tick() => match self.silent() {
                    Some(silent) if silent > silence(target.handshake.lane) => {
                        return Some(format!("silent for {} ms", silent.as_millis()));
                    }
                    Some(silent) if silent > LOOK => {
                        let ping = Frame::new(Kind::Ping, 0, Bytes::new());
                        if let Err(error) = frame::write(&mut to, &ping).await {
                            return Some(error.to_string());
                        }
                    }
                    _ => {}
                },
            }
        }
    }

    async fn put(
        &self,
        to: &mut BufWriter<OwnedWriteHalf>,
        id: u64,
        request: Outgoing,
    ) -> std::io::Result<()> {
        if request.reply.is_closed() {
            return Ok(());
        }
        let (kind, group) = match request.destination {
            Destination::Group(group) => (Kind::GroupRequest, Some(group)),
            Destination::Application => (Kind::ApplicationRequest, None),
            Destination::Hello(group) => (Kind::HelloRequest, Some(group)),
        };
        {
            let mut waiting = self.waiting.lock();
            if waiting.is_empty() {
                self.hear();
            }
            if waiting.len() >= LINK_QUEUE {
                waiting.retain(|_, reply| !reply.is_closed());
            }
            waiting.insert(id, request.reply);
        }
        frame::write(to, &Frame { kind, id, group: group.unwrap_or_default(), body: request.body }).await
    }

    /// Pairs answers until the connection fails.
    async fn read(self: Arc<Self>, label: String, from: OwnedReadHalf) -> Option<String> {
        let mut from = BufReader::with_capacity(64 * 1_024, Heard { from, connection: self.clone() });
        loop {
            let answer = match frame::read(&mut from).await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Some("it closed the connection".to_owned()),
                Err(error) => return Some(error.to_string()),
            };
            let result = match answer.kind {
                Kind::Answer => Ok(answer.body),
                Kind::Failed => Err(TransportError::Remote { to: label.clone(), reason: answer.text() }),
                _ => continue,
            };
            if let Some(reply) = self.waiting.lock().remove(&answer.id) {
                // Whoever asked may have given up.
                drop(reply.send(result));
            }
        }
    }

    fn hear(&self) {
        let elapsed = runtime::now().saturating_duration_since(self.since);
        self.heard.store(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// For how long nothing was heard while answers were due.
    fn silent(&self) -> Option<Duration> {
        if self.waiting.lock().is_empty() {
            return None;
        }
        let heard = self.since + Duration::from_millis(self.heard.load(Ordering::Relaxed));
        Some(runtime::now().saturating_duration_since(heard))
    }
}

/// Notes whenever bytes arrive.
struct Heard {
    from: OwnedReadHalf,
    connection: Arc<Connection>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.from).poll_read(cx, to);
        if polled.is_ready() {
            self.connection.hear();
        }
        polled
    }
}
