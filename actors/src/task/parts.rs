//! Cuts a list of tasks into parts, each of which fits into one command.
//!
//! Where the cuts fall depends on the drafts alone, so that a list that is sent again is cut in the same places.

use escapement_domain::codec;
use escapement_domain::limits::{COMMAND_BYTES_MAX, CREATES_PER_COMMAND_MAX, DEFINITION_BYTES_MAX};
use escapement_domain::task::rules::Rules;

use crate::intent::Draft;

/// Bytes of drafts in one command: room is left for its header.
const PART_BYTES_MAX: usize = COMMAND_BYTES_MAX - 16 * 1024;
/// What a draft takes beside its definition and its rules, at most.
const DRAFT_BYTES: usize = 64;

const _: () = assert!(DEFINITION_BYTES_MAX < PART_BYTES_MAX, "every definition fits into a part of its own");

/// Cuts drafts into parts, in order; none is empty.
#[must_use]
pub fn split(drafts: Vec<Draft>) -> Vec<Vec<Draft>> {
    let mut parts: Vec<Vec<Draft>> = Vec::new();
    let mut filled = 0;
    for draft in drafts {
        let bytes = bytes_of(&draft);
        match parts.last_mut() {
            Some(part) if part.len() < CREATES_PER_COMMAND_MAX && filled + bytes <= PART_BYTES_MAX => {
                filled += bytes;
                part.push(draft);
            }
            _ => {
                filled = bytes;
                parts.push(vec![draft]);
            }
        }
    }
    parts
}

fn bytes_of(draft: &Draft) -> usize {
    codec::encode(&draft.definition).len() + codec::encode(&Rules::of(&draft.definition)).len() + DRAFT_BYTES
}
