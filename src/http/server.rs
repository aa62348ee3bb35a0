//! The HTTP server: where it listens, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};

use super::elsewhere::Elsewhere;
use super::front::{Shared, front_door};
use super::routes;
use crate::security::Keys;
use crate::service::Service;
use crate::telemetry::Metrics;

/// Seconds that requests may take to their end when the server stops.
const GRACE_SECONDS: u64 = 10;
/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Connections of one worker at once.
const CONNECTIONS_MAX: usize = 10_000;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// There is no client for questions to other nodes.
    #[error("cannot ask other nodes: {0}")]
    Client(#[from] reqwest::Error),
    /// No address was given.
    #[error("there is no address to listen on")]
    NoAddress,
}

/// A server that runs.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    addresses: Arc<[SocketAddr]>,
    server: actix_web::dev::ServerHandle,
    ended: tokio::sync::watch::Receiver<bool>,
}

impl ServerHandle {
    /// Where it listens: with the port that the system chose, where none was given.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no new connections, lets requests come to their end for a while, and ends the server.
    pub async fn stop(&self) {
        self.server.stop(true).await;
        self.ended().await;
    }

    /// Resolves when the server has ended, for whatever reason.
    pub async fn ended(&self) {
        // An error means that the server's task is gone, which is an end too.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Starts the server on its own threads. Must be called in a tokio runtime, which watches over it.
///
/// # Errors
/// [`ServeError`], which names the address that cannot be listened on.
pub fn serve(
    addresses: &[SocketAddr],
    service: Service,
    keys: Keys,
    metrics: Metrics,
    workers: usize,
) -> Result<ServerHandle, ServeError> {
    if addresses.is_empty() {
        return Err(ServeError::NoAddress);
    }
    let shared = web::Data::new(Shared { service, keys, metrics, elsewhere: Elsewhere::new()? });
    let mut server = HttpServer::new(move || {
        App::new().app_data(shared.clone()).configure(routes::configure).wrap(from_fn(front_door))
    })
    .workers(workers.max(1))
    .worker_max_blocking_threads(1)
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(HEAD_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(GRACE_SECONDS)
    .disable_signals();
    for address in addresses {
        server =
            server.bind_auto_h2c(address).map_err(|source| ServeError::Bind { address: *address, source })?;
    }
    let addresses = server.addrs().into();
    let server = server.run();
    let (told, ended) = tokio::sync::watch::channel(false);
    let handle = server.handle();
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the HTTP server ended");
        }
        told.send_replace(true);
    });
    Ok(ServerHandle { addresses, server: handle, ended })
}
