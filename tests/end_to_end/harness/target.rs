//! A real HTTP target that writes down every call.
//!
//! The path says how it answers: `/ok` at once; `/fail/N` with 500 to the first N calls under one `Idempotency-Key`, then
//! at once; `/slow/MS` after so many milliseconds; `/held/MS` so long after the test lets go; `/status/CODE` always so;
//! `/busy/SECONDS` with 429 and `Retry-After` to the first call under a key, then at once; `/items` with 422 and what
//! failed to the first, then at once. A number is the last part of its path, and names may stand before it:
//! `/held/label/50`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::wait::now_ms;

/// How often a call that is held looks whether it may go on, and whether its caller is still there.
const PERIOD: Duration = Duration::from_millis(20);

/// One call, written down when its last byte had come.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at_ms: i64,
    /// Whether it was answered.
    pub(crate) answered: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Call {
    /// Returns a header that must be there.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(&name.to_lowercase());
        value.unwrap_or_else(|| panic!("the header {name} in {self:?}"))
    }

    /// The key that is the same for every attempt.
    #[track_caller]
    pub(crate) fn key(&self) -> String {
        self.header("Idempotency-Key").to_owned()
    }

    /// The fencing token.
    #[track_caller]
    pub(crate) fn fencing(&self) -> u64 {
        self.header("Escapement-Fencing-Token").parse().expect("a number")
    }

    /// The attempt's number.
    #[track_caller]
    pub(crate) fn attempt(&self) -> u32 {
        self.header("Escapement-Attempt").parse().expect("a number")
    }
}

/// The target; it listens until the test process ends.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
}

/// What is written down.
#[derive(Debug, Default)]
struct Book {
    calls: Vec<Call>,
    open: BTreeMap<String, Open>,
    let_go: bool,
}

/// The calls to one path that have come and are not over, by their places in the book, and the most that were so at
/// once.
#[derive(Debug, Default)]
struct Open {
    places: BTreeSet<usize>,
    most: usize,
}

impl Target {
    /// Starts a target.
    pub(crate) fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// Starts a target at an address of this host.
    pub(crate) fn start_at(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let target = Self { address: listener.local_addr().expect("bound"), book: Arc::default() };
        let serving = target.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(&stream));
            }
        });
        target
    }

    /// The URL of a path of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The calls so far to one path.
    pub(crate) fn calls_to(&self, path: &str) -> Vec<Call> {
        self.lock().calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    /// The keys of the calls to a path that have come and are not over: neither answered nor given up by their callers.
    pub(crate) fn open(&self, path: &str) -> BTreeSet<String> {
        let book = self.lock();
        let places = book.open.get(path).into_iter().flat_map(|open| &open.places);
        places.map(|place| book.calls[*place].key()).collect()
    }

    /// The most calls to a path that were there at once so far.
    pub(crate) fn most_at_once(&self, path: &str) -> usize {
        self.lock().open.get(path).map_or(0, |open| open.most)
    }

    /// Lets go all calls that are held, and holds none from now on.
    pub(crate) fn let_go(&self) {
        self.lock().let_go = true;
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) {
        let Ok(mut writer) = stream.try_clone() else { return };
        let mut reader = BufReader::new(stream);
        while let Some(call) = read(&mut reader) {
            let (path, key) = (call.path.clone(), call.headers.get("idempotency-key").cloned());
            let (place, earlier) = {
                let mut book = self.lock();
                let same = |other: &&Call| {
                    other.path == path && other.headers.get("idempotency-key") == key.as_ref()
                };
                let earlier = book.calls.iter().filter(same).count();
                book.calls.push(call);
                let place = book.calls.len() - 1;
                let open = book.open.entry(path.clone()).or_default();
                open.places.insert(place);
                open.most = open.most.max(open.places.len());
                (place, earlier)
            };
            let answer = self.answer(stream, &path, earlier);
            // Whoever hears the answer may let the next one call before this thread goes on.
            if let Some(open) = self.lock().open.get_mut(&path) {
                open.places.remove(&place);
            }
            let Some((status, headers)) = answer else { return };
            let body = match status {
                422 => r#"{"passed":["a"],"failed_items":["b",{"case":3}]}"#.to_owned(),
                _ => format!("{{\"calls\":{}}}", earlier + 1),
            };
            let head = format!("HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\n{headers}");
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
            self.lock().calls[place].answered = true;
        }
    }

    /// Waits as the path says, and returns the status and further headers; none if the caller gave up what was held.
    fn answer(&self, stream: &TcpStream, path: &str, earlier: usize) -> Option<(u16, String)> {
        let number = path.rsplit('/').next().and_then(|last| last.parse().ok()).unwrap_or(0);
        let status = match path.split('/').nth(1) {
            Some("fail") if (earlier as u64) < number => 500,
            Some("held") if !self.hold(stream) => return None,
            Some("slow" | "held") => {
                std::thread::sleep(Duration::from_millis(number));
                200
            }
            Some("status") => u16::try_from(number).unwrap_or(500),
            Some("busy") if earlier == 0 => return Some((429, format!("Retry-After: {number}\r\n"))),
            Some("items") if earlier == 0 => 422,
            _ => 200,
        };
        Some((status, String::new()))
    }

    /// Waits until the test lets go; says whether the caller is still there.
    fn hold(&self, stream: &TcpStream) -> bool {
        if stream.set_read_timeout(Some(PERIOD)).is_err() {
            return false;
        }
        while !self.lock().let_go {
            // A caller that waits for its answer sends nothing more: what can be read is that it is gone.
            match stream.peek(&mut [0]) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                _ => return false,
            }
        }
        stream.set_read_timeout(None).is_ok()
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
    let mut parts = line.split_whitespace();
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Call { at_ms: now_ms(), answered: false, method, path, headers, body })
}
