//! A target that speaks no more HTTP than a test wants: what it does with a connection is up to the test.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use super::wait::now_ms;

/// The target; it listens until the test process ends.
#[derive(Clone, Debug)]
pub(crate) struct RawTarget {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl RawTarget {
    /// Starts a target on every address of this host; each connection gets a thread, and is closed when `treat` returns.
    pub(crate) fn start(treat: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let address = (Ipv4Addr::LOCALHOST, listener.local_addr().expect("bound").port()).into();
        let (treat, connections) = (Arc::new(treat), Arc::new(AtomicUsize::new(0)));
        let target = Self { address, connections: connections.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let treat = treat.clone();
                std::thread::spawn(move || treat(stream));
            }
        });
        target
    }

    /// A target that never answers. Tells when it is called, and when that connection is closed, in ms since 1970.
    pub(crate) fn silent() -> (Self, Receiver<i64>) {
        let (tell, told) = channel();
        let target = Self::start(move |mut stream| {
            read(&mut stream);
            // The test may be over.
            let _ = tell.send(now_ms());
            while read(&mut stream) {}
            let _ = tell.send(now_ms());
        });
        (target, told)
    }

    /// A target that reads a request and sends these bytes.
    pub(crate) fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream| {
            read(&mut stream);
            // The node may have hung up on it.
            let _ = stream.write_all(&answer);
        })
    }

    /// The URL of this target by a name or address.
    pub(crate) fn url_by(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.address.port())
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        self.url_by("127.0.0.1")
    }

    /// How often it was connected to.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads a request with a short body to its end; `false` if there comes none any more.
pub(crate) fn read(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..bytes]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return true;
        }
    }
    false
}
