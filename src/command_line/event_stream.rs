//! Server-sent events of a node, one after the other.
//!
//! Absent on purpose: coming back after a stream broke off, which its reader decides.

use std::time::Duration;

use reqwest::Response;

/// How long a node may be silent: it says at least every 15 s that there is nothing.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name.
    pub(super) name: String,
    /// Where to go on after it.
    pub(super) id: Option<String>,
    /// What it says.
    pub(super) data: String,
}

/// Events as they come.
pub(super) struct EventStream {
    response: Response,
    received: Vec<u8>,
}

impl EventStream {
    pub(super) fn new(response: Response) -> Self {
        Self { response, received: Vec::new() }
    }

    /// Waits for the next event; `None` when the stream has ended, or broke off.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(block) = take_block(&mut self.received) {
                let event = read(&block);
                if !event.name.is_empty() {
                    return Some(event);
                }
            }
            let chunk = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await.ok()?.ok()??;
            self.received.extend_from_slice(&chunk);
        }
    }
}

/// Takes everything before the first empty line.
fn take_block(received: &mut Vec<u8>) -> Option<String> {
    let end = received.windows(2).position(|pair| pair == b"\n\n")?;
    let block = received.drain(..end + 2).collect::<Vec<u8>>();
    Some(String::from_utf8_lossy(&block).into_owned())
}

/// Reads an event; a comment is one without a name.
fn read(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = Some(value.to_owned()),
            "data" => event.data = value.to_owned(),
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_however_they_arrive() {
        let mut received =
            b"id: 7\nevent: line\ndata: {\"text\":\"a: b\"}\n\n: nothing yet\n\nevent: e".to_vec();
        let first = take_block(&mut received).expect("whole");
        let event = Event { name: "line".into(), id: Some("7".into()), data: r#"{"text":"a: b"}"#.into() };
        assert_eq!(read(&first), event);
        assert_eq!(read(&take_block(&mut received).expect("a comment")).name, "");
        assert_eq!(take_block(&mut received), None);
        received.extend_from_slice(b"nd\ndata: {}\n\n");
        let event = Event { name: "end".into(), id: None, data: "{}".into() };
        assert_eq!(read(&take_block(&mut received).expect("whole")), event);
    }
}
