//! What each section's keys mean, their defaults, and what is allowed.

use std::path::Path;
use std::time::Duration;

use escapement_actors::projection::OUTPUT_BYTES_MAX;
use escapement_domain::limits::{SLOTS_MAX, SPAN_MAX};

use super::document::{Document, Section};
use super::fault::Faults;
use super::value::Entry;
use super::{Config, ExecutionConfig, KeySource, RaftConfig, StorageConfig, TelemetryConfig, nodes};
use crate::executor::{Cidr, EgressRule, ProcessPolicy};
use crate::telemetry::{LogFormat, check_filter};

/// Bytes of the longest name of a cluster.
const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// The shortest and the longest heartbeat.
const HEARTBEAT: std::ops::RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(5);
/// The longest silence before an election.
const ELECTION_MAX: Duration = Duration::from_secs(60);
/// How many heartbeats may be lost before an election.
const HEARTBEATS_PER_ELECTION: u32 = 3;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the keys of one section.
pub(super) struct Reader<'a> {
    pub(super) section: &'a Section,
    pub(super) faults: &'a mut Faults,
}

impl Reader<'_> {
    /// Reads a key that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        allowed: &str,
        read: impl FnOnce(&Entry) -> Option<T>,
    ) -> Option<T> {
        if self.section.get(key).is_none() {
            let problem = format!("is missing: must be {allowed}");
            self.faults.add(&self.section.place, self.section.key(key), problem);
        }
        self.given(key, allowed, read)
    }

    /// Reads a key that has a default.
    fn optional<T>(
        &mut self,
        key: &str,
        default: T,
        allowed: &str,
        read: impl FnOnce(&Entry) -> Option<T>,
    ) -> T {
        self.given(key, allowed, read).unwrap_or(default)
    }

    /// Reads a key that may be left out.
    pub(super) fn given<T>(
        &mut self,
        key: &str,
        allowed: &str,
        read: impl FnOnce(&Entry) -> Option<T>,
    ) -> Option<T> {
        let entry = self.section.get(key)?;
        let value = read(entry);
        if value.is_none() {
            self.refuse(key, entry, allowed);
        }
        value
    }

    fn refuse(&mut self, key: &str, entry: &Entry, allowed: &str) {
        let problem = format!("must be {allowed}; found {}", entry.shown);
        self.faults.add(&entry.place, self.section.key(key), problem);
    }

    /// Reads a whole number within bounds.
    fn number(&mut self, key: &str, default: u64, bounds: std::ops::RangeInclusive<u64>) -> u64 {
        let allowed = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        self.optional(key, default, &allowed, |entry| entry.number().filter(|number| bounds.contains(number)))
    }

    /// Reads whether something is on.
    fn flag(&mut self, key: &str, default: bool) -> bool {
        self.optional(key, default, "true or false", Entry::flag)
    }

    /// Reads a list, and refuses each item of it that is not allowed.
    fn list<T>(&mut self, key: &str, allowed: &str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(entry) = self.section.get(key) else { return Vec::new() };
        let Some(texts) = entry.texts() else {
            self.refuse(key, entry, allowed);
            return Vec::new();
        };
        let mut items = Vec::new();
        for text in texts {
            match read(text) {
                Ok(item) => items.push(item),
                Err(problem) => self.faults.add(
                    &entry.place,
                    self.section.key(key),
                    format!("must be {allowed}: {problem}"),
                ),
            }
        }
        items
    }
}

fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Reads every section. `None` only if the faults say why.
pub(super) fn read(mut document: Document, directory: &Path, faults: &mut Faults) -> Option<Config> {
    let nodes = nodes::read(&document.nodes, directory, faults);
    let cluster = cluster(&document.take("cluster"), faults);
    let raft = raft(&document.take("raft"), faults);
    let keys = keys(&document.take("security"), directory, faults);
    let execution = execution(&document.take("execution"), faults);
    let storage = storage(&document.take("storage"), faults);
    let telemetry = telemetry(&document.take("telemetry"), faults);
    Some(Config { cluster: cluster?, nodes, raft, keys: keys?, execution, storage, telemetry })
}

fn cluster(section: &Section, faults: &mut Faults) -> Option<String> {
    let is_name = |text: &&str| {
        (1..=CLUSTER_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let allowed = format!("1 to {CLUSTER_NAME_BYTES_MAX} letters, digits, dashes, dots and underscores");
    Reader { section, faults }
        .required("name", &allowed, |entry| entry.text().filter(is_name).map(str::to_owned))
}

fn raft(section: &Section, faults: &mut Faults) -> RaftConfig {
    let mut reader = Reader { section, faults };
    let heartbeat =
        reader.optional("heartbeat", Duration::from_millis(50), "a duration from 5ms to 5s", |entry| {
            entry.text().and_then(duration).filter(|heartbeat| HEARTBEAT.contains(heartbeat))
        });
    let allowed = format!(
        "two durations, the first at least {} times the heartbeat ({}), the second longer and at most {}",
        match HEARTBEATS_PER_ELECTION {
            3 => "three".to_owned(),
            times => times.to_string(),
        },
        humantime::format_duration(heartbeat),
        humantime::format_duration(ELECTION_MAX),
    );
    // A longer heartbeat alone takes the elections with it.
    let default = (heartbeat * 4, heartbeat * 8);
    let (election_min, election_max) = reader.optional("election", default, &allowed, |entry| {
        let [min, max] = entry.texts()?[..] else { return None };
        let (min, max) = (duration(min)?, duration(max)?);
        (min >= heartbeat * HEARTBEATS_PER_ELECTION && max > min && max <= ELECTION_MAX).then_some((min, max))
    });
    let cache = reader.number("log_cache_bytes", 32 << 20, 1 << 20..=16 << 30);
    RaftConfig {
        heartbeat,
        election_min,
        election_max,
        snapshot_entries: reader.number("snapshot_entries", 20_000, 100..=100_000_000),
        snapshot_bytes: reader.number("snapshot_bytes", 128 << 20, 1 << 20..=16 << 30),
        log_entries_kept: reader.number("log_entries_kept", 5_000, 1_000..=100_000_000),
        log_cache_bytes: usize::try_from(cache).unwrap_or(usize::MAX),
    }
}

fn keys(section: &Section, directory: &Path, faults: &mut Faults) -> Option<KeySource> {
    let mut reader = Reader { section, faults };
    let mut path = |key| {
        reader.given(key, "a file", |entry| {
            entry.text().filter(|path| !path.is_empty()).map(|path| directory.join(path))
        })
    };
    let (key_file, key_set_file) = (path("jwt_key_file"), path("jwks_file"));
    match (section.get("jwt_key_file"), section.get("jwks_file")) {
        (None, None) => {
            let problem = "is missing: must be the file of an HS256 secret or a PEM key; or security.jwks_file that of a key set";
            faults.add(&section.place, section.key("jwt_key_file"), problem);
        }
        (Some(_), Some(second)) => {
            faults.add(
                &second.place,
                section.key("jwks_file"),
                "must not be there beside security.jwt_key_file",
            );
        }
        _ => {}
    }
    key_file.map(KeySource::KeyFile).or(key_set_file.map(KeySource::KeySetFile))
}

fn execution(section: &Section, faults: &mut Faults) -> ExecutionConfig {
    let mut reader = Reader { section, faults };
    let slots = reader.number("slots", 256, 1..=SLOTS_MAX.into());
    let (http, builtin) = (reader.flag("http", true), reader.flag("builtin", true));
    let programs = reader.list("process_allow", "a list of absolute paths of programs", |text| {
        let is_plain =
            text.starts_with('/') && !text.ends_with('/') && !text.split('/').any(|part| part == "..");
        if is_plain { Ok(text.to_owned()) } else { Err(format!("`{text}` is not one")) }
    });
    let user = "a user of this machine that is not root, by name or as `UID:GID`";
    let process_user =
        reader.given("process_user", user, |entry| entry.text().and_then(|text| text.parse().ok()));
    let ranges: Vec<Cidr> = reader.list("egress_allow", "a list of ranges of addresses", |text| text.parse());
    let most = OUTPUT_BYTES_MAX as u64;
    let output_bytes = reader.number("output_bytes", most, 1 << 10..=most);
    let keep = "a duration from 1s to 10 years";
    let within = |kept: &Duration| (Duration::from_secs(1)..=SPAN_MAX.into()).contains(kept);
    let keep_output =
        reader.optional("keep_output", DAY * 7, keep, |entry| entry.text().and_then(duration).filter(within));
    let keep_executions = reader
        .optional("keep_executions", DAY * 30, keep, |entry| entry.text().and_then(duration).filter(within));
    ExecutionConfig {
        slots: u32::try_from(slots).unwrap_or(SLOTS_MAX),
        http,
        builtin,
        process: ProcessPolicy::Listed(programs),
        process_user,
        egress: EgressRule::new(ranges),
        output_bytes: usize::try_from(output_bytes).unwrap_or(OUTPUT_BYTES_MAX),
        keep_output,
        keep_executions,
    }
}

fn storage(section: &Section, faults: &mut Faults) -> StorageConfig {
    let mut reader = Reader { section, faults };
    StorageConfig { cache_bytes: reader.number("cache_bytes", 64 << 20, 8 << 20..=1 << 40) }
}

fn telemetry(section: &Section, faults: &mut Faults) -> TelemetryConfig {
    let mut reader = Reader { section, faults };
    let log_format =
        reader.optional("log_format", LogFormat::Human, "human or json", |entry| match entry.text() {
            Some("human") => Some(LogFormat::Human),
            Some("json") => Some(LogFormat::Json),
            _ => None,
        });
    let allowed = "off, error, warn, info, debug, trace, or directives such as info,escapement=debug";
    let level = reader.optional("level", "info".to_owned(), allowed, |entry| {
        entry.text().filter(|text| check_filter(text)).map(str::to_owned)
    });
    TelemetryConfig { log_format, level }
}
