//! The sections and keys that are there, before anybody asks what they mean.
//!
//! The table of all keys is here: what is not in it is a fault, with the nearest name that is.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::VARIABLE_PREFIX;
use super::fault::{Faults, Place, nearest};
use super::value::Entry;

/// The section that is a list: one for each node.
pub(super) const NODE: &str = "node";

/// Every section with its keys.
const KEYS: [(&str, &[&str]); 7] = [
    ("cluster", &["name"]),
    (NODE, &["id", "api", "peer", "data", "public_url"]),
    (
        "raft",
        &[
            "heartbeat",
            "election",
            "snapshot_entries",
            "snapshot_bytes",
            "log_entries_kept",
            "log_cache_bytes",
        ],
    ),
    ("security", &["jwt_key_file", "jwks_file"]),
    (
        "execution",
        &[
            "slots",
            "http",
            "builtin",
            "process_allow",
            "process_user",
            "egress_allow",
            "output_bytes",
            "keep_output",
            "keep_executions",
        ],
    ),
    ("storage", &["cache_bytes"]),
    ("telemetry", &["log_format", "level"]),
];

/// One section, or one node.
#[derive(Debug)]
pub(super) struct Section {
    /// Its name, before the dot of its keys.
    pub(super) name: &'static str,
    /// Where it begins.
    pub(super) place: Place,
    entries: BTreeMap<&'static str, Entry>,
}

impl Section {
    fn new(name: &'static str, place: Place) -> Self {
        Self { name, place, entries: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Returns the full name of a key.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }
}

/// A whole file.
#[derive(Debug)]
pub(super) struct Document {
    sections: BTreeMap<&'static str, Section>,
    pub(super) nodes: Vec<Section>,
}

/// Finds the line of a position.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn at(&self, position: usize) -> usize {
        let before = &self.0.as_bytes()[..position.min(self.0.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

fn keys_of(section: &str) -> Option<(&'static str, &'static [&'static str])> {
    KEYS.into_iter().find(|(name, _)| *name == section)
}

fn names() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().map(|(name, _)| name)
}

/// A section that has the key, for a key that was put into the wrong one.
fn section_with(key: &str) -> Option<&'static str> {
    KEYS.into_iter().find(|(_, keys)| keys.contains(&key)).map(|(name, _)| name)
}

fn unknown_section(name: &str) -> String {
    match nearest(name, names()) {
        Some(meant) => format!("there is no such section; did you mean [{meant}]?"),
        None => format!("there is no such section; there are {}", names().collect::<Vec<_>>().join(", ")),
    }
}

fn unknown_key(section: &str, keys: &[&'static str], key: &str) -> String {
    match (nearest(key, keys.iter().copied()), section_with(key)) {
        (Some(meant), _) => format!("there is no such key; did you mean {section}.{meant}?"),
        (None, Some(other)) => format!("there is no such key; did you mean {other}.{key}?"),
        (None, None) => format!("there is no such key; [{section}] has {}", keys.join(", ")),
    }
}

impl Document {
    /// Takes a text apart. What is not known goes to the faults; `None` if it is not TOML, for then all else is guesswork.
    pub(super) fn parse(text: &str, faults: &mut Faults) -> Option<Self> {
        let lines = Lines(text);
        let mut document = Self { sections: BTreeMap::new(), nodes: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let place = error.span().map_or(Place::File, |span| Place::Line(lines.at(span.start)));
            faults.add(&place, "", format!("this is not TOML: {}", error.message().replace('\n', ", ")));
        }
        if !errors.is_empty() {
            return None;
        }
        for (name, value) in table.get_ref() {
            let place = Place::Line(lines.at(name.span().start));
            let Some((section, keys)) = keys_of(name.get_ref()) else {
                document.unknown_name(name.get_ref(), &place, value, faults);
                continue;
            };
            match value.get_ref() {
                DeValue::Table(table) if section != NODE => {
                    let read = section_of(section, keys, place, table, text, faults);
                    document.sections.insert(section, read);
                }
                DeValue::Array(items) if section == NODE => {
                    for item in items.iter() {
                        let place = Place::Line(lines.at(item.span().start));
                        match item.get_ref() {
                            DeValue::Table(table) => {
                                document.nodes.push(section_of(section, keys, place, table, text, faults));
                            }
                            _ => faults.add(&place, NODE, "must be one section [[node]] for each node"),
                        }
                    }
                }
                _ if section == NODE => {
                    faults.add(&place, NODE, "must be one section [[node]] for each node, in double brackets")
                }
                _ => faults.add(&place, section, format!("must be a section, [{section}]")),
            }
        }
        Some(document)
    }

    fn unknown_name(&self, name: &str, place: &Place, value: &Spanned<DeValue<'_>>, faults: &mut Faults) {
        let problem = match (value.get_ref().is_table(), section_with(name)) {
            (false, Some(section)) => {
                format!("there is no such key outside of a section; did you mean {section}.{name}?")
            }
            _ => unknown_section(name),
        };
        faults.add(place, name, problem);
    }

    /// Puts the values of variables in the place of the file's. What is not known goes to the faults.
    pub(super) fn override_with(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
        faults: &mut Faults,
    ) {
        for (variable, text) in variables {
            let Some(path) = variable.strip_prefix(VARIABLE_PREFIX) else { continue };
            let path = path.to_lowercase();
            let place = Place::Variable(variable.clone());
            let parts: Vec<&str> = path.split("__").collect();
            let (name, key) = match parts[..] {
                [NODE, _, key] => (NODE, key),
                [name, key] if name != NODE => (name, key),
                [NODE, ..] => {
                    faults.add(
                        &place,
                        "",
                        format!("a node's key is overridden by {VARIABLE_PREFIX}NODE__ID__KEY"),
                    );
                    continue;
                }
                _ => {
                    faults.add(&place, "", format!("a key is overridden by {VARIABLE_PREFIX}SECTION__KEY"));
                    continue;
                }
            };
            let Some((section, keys)) = keys_of(name) else {
                faults.add(&place, "", unknown_section(name));
                continue;
            };
            let Some(key) = keys.iter().copied().find(|known| *known == key) else {
                faults.add(&place, "", unknown_key(section, keys, key));
                continue;
            };
            let entry = Entry::in_variable(&variable, &text);
            if section != NODE {
                self.section_mut(section).entries.insert(key, entry);
                continue;
            }
            let id = parts[1].parse::<u64>().ok();
            match self
                .nodes
                .iter_mut()
                .find(|node| id.is_some() && node.get("id").and_then(Entry::number) == id)
            {
                Some(node) => drop(node.entries.insert(key, entry)),
                None => faults.add(&place, "", format!("the file has no node {}", parts[1])),
            }
        }
    }

    fn section_mut(&mut self, name: &'static str) -> &mut Section {
        self.sections.entry(name).or_insert_with(|| Section::new(name, Place::File))
    }

    /// Takes a section out; an empty one if it is not there.
    pub(super) fn take(&mut self, name: &'static str) -> Section {
        self.sections.remove(name).unwrap_or_else(|| Section::new(name, Place::File))
    }
}

fn section_of(
    name: &'static str,
    keys: &'static [&'static str],
    place: Place,
    table: &DeTable<'_>,
    text: &str,
    faults: &mut Faults,
) -> Section {
    let mut section = Section::new(name, place);
    for (key, value) in table {
        let line = Lines(text).at(key.span().start);
        let found: &DeString<'_> = key.get_ref();
        match keys.iter().copied().find(|known| *known == found.as_ref()) {
            Some(key) => drop(section.entries.insert(key, Entry::in_file(value, text, line))),
            None => faults.add(&Place::Line(line), section.key(found), unknown_key(name, keys, found)),
        }
    }
    section
}
