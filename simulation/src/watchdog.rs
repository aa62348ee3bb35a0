//! Tells of a seed that does not end: who turns in a circle stops virtual time, and nothing within it can notice.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Watches one thing after the other, from outside of its thread.
#[derive(Debug)]
pub struct Watchdog(Sender<Option<String>>);

impl Watchdog {
    /// Watches from now on. `bark` is given the name of the first thing that takes longer than `limit`, and nothing is watched
    /// after that.
    #[expect(clippy::disallowed_methods, reason = "it is outside of every world")]
    #[must_use]
    pub fn start(limit: Duration, bark: impl FnOnce(&str) + Send + 'static) -> Self {
        let (sender, watched) = channel();
        thread::spawn(move || {
            let mut now: Option<String> = None;
            loop {
                match (watched.recv_timeout(limit), &now) {
                    (Ok(next), _) => now = next,
                    (Err(RecvTimeoutError::Timeout), None) => {}
                    (Err(RecvTimeoutError::Timeout), Some(name)) => return bark(name),
                    (Err(RecvTimeoutError::Disconnected), _) => return,
                }
            }
        });
        Self(sender)
    }

    /// Something of this name begins.
    pub fn begin(&self, name: &str) {
        // One that has barked is gone.
        let _ = self.0.send(Some(name.to_owned()));
    }

    /// It has ended.
    pub fn end(&self) {
        let _ = self.0.send(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_end_is_told() {
        let (told, names) = channel();
        let bark = move |name: &str| told.send(name.to_owned()).expect("somebody hears it");
        let watchdog = Watchdog::start(Duration::from_millis(500), bark);
        watchdog.begin("a quick one");
        watchdog.end();
        watchdog.begin("an endless one");
        assert_eq!(names.recv().expect("it barks"), "an endless one");
        assert!(names.recv().is_err(), "it barks once");
    }
}
