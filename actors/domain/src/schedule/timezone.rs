//! Names of zones, and what was probably meant by a name that is none.
//!
//! Absent on purpose: offsets such as `+02:00` and abbreviations such as `CEST`; neither says when clocks change.

use chrono_tz::{TZ_VARIANTS, Tz};

use crate::spelling::distance;

/// How many letters may be wrong before a guess is no help.
const GUESS_DISTANCE_MAX: usize = 3;
/// Longer names are not compared with every zone's.
const NAME_BYTES_MAX: usize = 64;

/// Reads the name of an IANA zone, as the database spells it.
pub(super) fn parse(name: &str) -> Result<Tz, String> {
    if name.is_empty() {
        return Err("a timezone is an IANA name such as Europe/Berlin or UTC, and not empty".into());
    }
    name.parse().map_err(|_| {
        let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
        let guess = guess(name)
            .map_or_else(|| "Europe/Berlin or UTC".into(), |tz| format!("{}; did you mean it?", tz.name()));
        format!("`{shown}` is not a timezone; it may be an IANA name such as {guess}")
    })
}

fn guess(name: &str) -> Option<Tz> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase().replace(' ', "_");
    let city = |tz: &Tz| tz.name().rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&name));
    if let Some(tz) = TZ_VARIANTS.iter().find(|tz| tz.name().eq_ignore_ascii_case(&name) || city(tz)) {
        return Some(*tz);
    }
    let distances = TZ_VARIANTS.iter().map(|tz| (distance(&name, &tz.name().to_ascii_lowercase()), *tz));
    let (wrong, tz) = distances.min_by_key(|(wrong, _)| *wrong)?;
    (wrong <= GUESS_DISTANCE_MAX && wrong * 2 < name.len()).then_some(tz)
}

/// Returns a zone's name as people say it: `Berlin time`, `New York time`, `UTC`.
pub(super) fn spoken(tz: Tz) -> String {
    let name = tz.name();
    match name.split_once('/') {
        None => name.into(),
        Some(("Etc", place)) => place.into(),
        Some(_) => format!("{} time", name.rsplit('/').next().unwrap_or(name).replace('_', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_zone_is_answered_with_the_one_that_was_meant() {
        for (wrong, meant) in [
            ("Europe/Berln", "Europe/Berlin"),
            ("europe/berlin", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("America/New York", "America/New_York"),
        ] {
            let refusal = parse(wrong).expect_err("is wrong");
            assert!(refusal.contains(meant), "{refusal}");
        }
        assert!(!parse("somewhere else entirely").expect_err("is wrong").contains("mean"));
    }

    #[test]
    fn a_zone_is_spoken_by_its_place() {
        assert_eq!(spoken(Tz::America__New_York), "New York time");
        assert_eq!(spoken(Tz::UTC), "UTC");
        assert_eq!(spoken(Tz::Etc__UTC), "UTC");
    }
}
