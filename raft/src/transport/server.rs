//! The answering half of TCP connections.
//!
//! Invariants: nothing is answered before the handshake was accepted; each request is begun in the
//! order in which it was read, and none waits for the answer to an earlier one; the requests that are
//! being answered are bounded, behind which the connection is simply not read. Absent on purpose:
//! knowing what a request means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::frame::{self, Frame, FrameError, Kind, OVERHEAD};
use super::switchboard::{Destination, Handshake, Switchboard};
use crate::limits::{FRAME_BYTES_MAX, REQUESTS_PER_CONNECTION};
use crate::member::NodeId;
use crate::runtime;
use crate::wire;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until it is cancelled.
pub(super) async fn accept(listener: TcpListener, switchboard: Arc<Switchboard>, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, from)) => {
                let (switchboard, stop) = (switchboard.clone(), stop.clone());
                runtime::spawn(async move {
                    let served = stop.run_until_cancelled(serve(stream, switchboard)).await;
                    if let Some(Err(error)) = served {
                        tracing::debug!(%from, %error, "a peer's connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(mut stream: TcpStream, switchboard: Arc<Switchboard>) -> Result<(), FrameError> {
    stream.set_nodelay(true)?;
    let Ok(greeted) = timeout(HANDSHAKE_TIMEOUT, greet(&mut stream, &switchboard)).await else {
        return Ok(());
    };
    let Some(from) = greeted? else { return Ok(()) };
    let (read, write) = stream.into_split();
    let (answers, queue) = mpsc::channel(REQUESTS_PER_CONNECTION);
    tokio::select! {
        biased;
        ended = answer(BufReader::with_capacity(64 * 1_024, read), from, &switchboard, answers) => ended,
        ended = write_answers(BufWriter::new(write), queue) => ended.map_err(FrameError::from),
    }
}

/// The handshake; `None` when the caller was sent away.
async fn greet(stream: &mut TcpStream, switchboard: &Switchboard) -> Result<Option<NodeId>, FrameError> {
    let admitted = match frame::read(stream).await {
        Ok(Some(Frame { kind: Kind::Handshake, body, .. })) => match wire::decode::<Handshake>(&body) {
            Ok(caller) => switchboard.admit(&caller).map(|()| caller.node),
            Err(error) => Err(error.to_string()),
        },
        Ok(Some(_)) => Err("a connection begins with a handshake".to_owned()),
        Ok(None) => return Ok(None),
        Err(FrameError::Version(error)) => Err(error.to_string()),
        Err(error) => return Err(error),
    };
    match admitted
        .and_then(|from| Ok((from, wire::encode(&switchboard.local).map_err(|error| error.to_string())?)))
    {
        Ok((from, welcome)) => {
            frame::write(stream, &Frame::new(Kind::Welcome, 0, welcome)).await?;
            Ok(Some(from))
        }
        Err(reason) => {
            tracing::warn!(%reason, "a peer was refused");
            frame::write(stream, &Frame::refused(&reason)).await?;
            // Closing with unread bytes would reset the connection and take the reason with it.
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(FRAME_BYTES_MAX as u64), &mut tokio::io::sink()).await?;
            Ok(None)
        }
    }
}

/// Begins every request that is read.
async fn answer<R: tokio::io::AsyncRead + Unpin>(
    mut from: R,
    node: NodeId,
    switchboard: &Switchboard,
    answers: mpsc::Sender<Frame>,
) -> Result<(), FrameError> {
    let permits = Arc::new(Semaphore::new(REQUESTS_PER_CONNECTION));
    while let Some(request) = frame::read(&mut from).await? {
        let destination = match request.kind {
            Kind::GroupRequest => Destination::Group(request.group),
            Kind::ApplicationRequest => Destination::Application,
            Kind::HelloRequest => Destination::Hello(request.group),
            Kind::Ping => {
                // The writer is gone only when this is about to end too.
                let _ = answers.send(Frame::new(Kind::Pong, request.id, Bytes::new())).await;
                continue;
            }
            _ => continue,
        };
        let Ok(permit) = permits.clone().acquire_owned().await else { return Ok(()) };
        let mut work = switchboard.dispatch(node, destination, request.body);
        let begun = futures::poll!(&mut work);
        let answers = answers.clone();
        let finish = async move {
            let result = match begun {
                std::task::Poll::Ready(result) => result,
                std::task::Poll::Pending => work.await,
            };
            // A caller that hung up needs no answer.
            let _ = answers.send(reply(request.id, result)).await;
            drop(permit);
        };
        runtime::spawn(finish);
    }
    Ok(())
}

fn reply(id: u64, result: Result<Bytes, String>) -> Frame {
    match result {
        Ok(body) if body.len() + OVERHEAD > FRAME_BYTES_MAX => {
            let reason =
                format!("the answer has {} bytes; at most {FRAME_BYTES_MAX} are carried", body.len());
            Frame::new(Kind::Failed, id, reason.into_bytes())
        }
        Ok(body) => Frame::new(Kind::Answer, id, body),
        Err(reason) => Frame::new(Kind::Failed, id, reason.into_bytes()),
    }
}

async fn write_answers(
    mut to: BufWriter<OwnedWriteHalf>,
    mut queue: mpsc::Receiver<Frame>,
) -> std::io::Result<()> {
    while let Some(answer) = queue.recv().await {
        frame::write(&mut to, &answer).await?;
        while let Ok(answer) = queue.try_recv() {
            frame::write(&mut to, &answer).await?;
        }
        to.flush().await?;
    }
    Ok(())
}
