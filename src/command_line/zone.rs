//! Instants as people read them: in the local zone if it is known, else in UTC; a table's header says which.
//!
//! The local zone is the one that `TZ` names, else the one that `/etc/localtime` points to. Absent on purpose: zones
//! without an IANA name; a `TZ` such as `CET-1CEST` shows UTC rather than a guess.

use std::path::Path;

use chrono::{DateTime, TimeZone as _};
use chrono_tz::Tz;
use escapement_domain::timestamp::Timestamp;

/// The zone in which a command shows instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zone(pub(crate) Tz);

impl Zone {
    /// The zone of whoever sits at the terminal.
    pub(crate) fn of_terminal() -> Self {
        let named = std::env::var("TZ").ok().filter(|name| !name.is_empty());
        let found = match named {
            Some(name) => parse(&name),
            None => std::fs::read_link("/etc/localtime").ok().and_then(|link| of_link(&link)),
        };
        // UTC has many names; people know one.
        Self(
            found
                .filter(|zone| {
                    !matches!(zone, Tz::Etc__UTC | Tz::Etc__UCT | Tz::Etc__Universal | Tz::Etc__Zulu)
                })
                .unwrap_or(Tz::UTC),
        )
    }

    /// The zone's name, for headers.
    pub(crate) fn name(self) -> &'static str {
        self.0.name()
    }

    /// Writes an instant as `2026-03-01 02:00:00`.
    pub(crate) fn show(self, instant: Timestamp) -> String {
        self.local(instant)
            .map_or_else(|| instant.to_string(), |local| local.format("%Y-%m-%d %H:%M:%S").to_string())
    }

    /// Writes an instant as `2026-03-01 02:00:00.000 +01:00`.
    pub(crate) fn show_exactly(self, instant: Timestamp) -> String {
        self.local(instant).map_or_else(
            || instant.to_string(),
            |local| local.format("%Y-%m-%d %H:%M:%S%.3f %:z").to_string(),
        )
    }

    /// Writes the time of day as `02:00:00.000`.
    pub(crate) fn show_time(self, instant: Timestamp) -> String {
        self.local(instant)
            .map_or_else(|| instant.to_string(), |local| local.format("%H:%M:%S%.3f").to_string())
    }

    /// Returns the instant on this zone's clock.
    fn local(self, instant: Timestamp) -> Option<DateTime<Tz>> {
        self.0.timestamp_millis_opt(instant.0).single()
    }
}

fn parse(name: &str) -> Option<Tz> {
    let name = name.strip_prefix(':').unwrap_or(name);
    name.parse().ok().or_else(|| of_link(Path::new(name)))
}

/// `/usr/share/zoneinfo/Europe/Berlin` is Europe/Berlin.
fn of_link(link: &Path) -> Option<Tz> {
    let (_, name) = link.to_str()?.split_once("zoneinfo/")?;
    name.trim_start_matches("posix/").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_named_directly_or_by_its_file() {
        for name in [
            "Europe/Berlin",
            ":Europe/Berlin",
            "/usr/share/zoneinfo/Europe/Berlin",
            "../usr/share/zoneinfo/Europe/Berlin",
        ] {
            assert_eq!(parse(name), Some(Tz::Europe__Berlin), "{name}");
        }
        assert_eq!(parse("CET-1CEST"), None);
    }

    #[test]
    fn an_instant_is_shown_on_the_zones_clock() {
        let instant = Timestamp::parse("2026-07-01T12:00:00.250Z").expect("valid");
        let berlin = Zone(Tz::Europe__Berlin);
        assert_eq!(berlin.show(instant), "2026-07-01 14:00:00");
        assert_eq!(berlin.show_exactly(instant), "2026-07-01 14:00:00.250 +02:00");
        assert_eq!(berlin.show_time(instant), "14:00:00.250");
    }
}
