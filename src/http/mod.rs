//! HTTP.
use crate::{security::Keys, service::Service, telemetry::Metrics};
/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
#[error("not served")]
pub struct ServeError;
/// A running server.
pub struct ServerHandle;
impl ServerHandle {
    /// Stops.
    pub async fn stop(&self, _graceful: bool) {}
}
/// Serves.
pub async fn serve(_: &[std::net::SocketAddr], _: Service, _: Keys, _: Metrics) -> Result<ServerHandle, ServeError> {
    Ok(ServerHandle)
}
