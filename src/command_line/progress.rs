//! A progress bar on standard error: one line that moves on a terminal, a line each tenth elsewhere.

use std::io::{IsTerminal as _, Write as _, stderr};

/// Characters of a full bar.
const WIDTH: u64 = 30;
/// Where nobody watches, a line is written when so many percent were gained.
const STEP_PERCENT: u64 = 10;

/// Shows how far something has come.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    moving: bool,
    shown: Option<u64>,
}

impl Progress {
    /// Starts at nothing.
    pub(crate) fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), moving: stderr().is_terminal(), shown: None }
    }

    /// Shows that `done` of `total` are done.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        let line = format!("{} {}", self.label, bar(done, total));
        let step = percent(done, total) / STEP_PERCENT;
        // Where standard error cannot be written there is nobody to show it to.
        if self.moving {
            let _ = write!(stderr(), "\r{line}\u{1b}[K");
        } else if self.shown != Some(step) {
            let _ = writeln!(stderr(), "{line}");
        }
        self.shown = Some(step);
    }

    /// Leaves the line, so that what follows starts on its own.
    pub(crate) fn finish(&mut self) {
        if self.moving && self.shown.take().is_some() {
            let _ = writeln!(stderr());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn percent(done: u64, total: u64) -> u64 {
    match total {
        0 => 100,
        total => u64::try_from(u128::from(done.min(total)) * 100 / u128::from(total)).unwrap_or(100),
    }
}

fn bar(done: u64, total: u64) -> String {
    let percent = percent(done, total);
    let full = usize::try_from(percent * WIDTH / 100).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(full);
    format!("[{}{}] {percent:>3} % {done}/{total}", "#".repeat(full), ".".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_never_before() {
        assert_eq!(bar(0, 3), format!("[{}]   0 % 0/3", ".".repeat(30)));
        assert_eq!(bar(2, 3), format!("[{}{}]  66 % 2/3", "#".repeat(19), ".".repeat(11)));
        assert_eq!(bar(3, 3), format!("[{}] 100 % 3/3", "#".repeat(30)));
        assert_eq!(percent(999_999, 1_000_000), 99);
        assert_eq!(percent(0, 0), 100);
    }
}
