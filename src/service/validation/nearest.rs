//! What was probably meant by a word that is none of the allowed ones.

use escapement_domain::spelling::distance;

/// How many letters may be wrong before a guess is no help.
const DISTANCE_MAX: usize = 3;
/// Bytes of the longest word that is compared, or shown in full.
const WORD_BYTES_MAX: usize = 64;

/// Returns the allowed word that is nearest to `found`, if one is near.
pub(super) fn nearest<'w>(found: &str, allowed: &[&'w str]) -> Option<&'w str> {
    if found.len() > WORD_BYTES_MAX {
        return None;
    }
    let found = found.to_ascii_lowercase();
    let (wrong, word) = allowed
        .iter()
        .map(|word| (distance(&found, &word.to_ascii_lowercase()), *word))
        .min_by_key(|(wrong, _)| *wrong)?;
    (wrong <= DISTANCE_MAX && wrong * 2 <= word.len().max(found.len())).then_some(word)
}

/// Says what is allowed in place of a word that is not, with a guess of what was meant.
#[must_use]
pub fn guess(found: &str, allowed: &[&str]) -> String {
    format!("`{}` is not known; {}", shown(found), instead(found, allowed))
}

/// Says what is allowed in place of `found`, with a guess of what was meant.
pub(super) fn instead(found: &str, allowed: &[&str]) -> String {
    match nearest(found, allowed) {
        Some(word) => format!("did you mean `{word}`? Allowed: {}", allowed.join(", ")),
        None => format!("allowed: {}", allowed.join(", ")),
    }
}

/// Shortens a client's word for a message.
pub(super) fn shown(found: &str) -> String {
    let mut text: String = found.chars().take(WORD_BYTES_MAX).flat_map(char::escape_debug).collect();
    if found.chars().nth(WORD_BYTES_MAX).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_is_recognised_and_a_strange_one_is_not() {
        let allowed = ["max_attempts", "jitter", "multiplier"];
        assert_eq!(nearest("max_atempts", &allowed), Some("max_attempts"));
        assert_eq!(nearest("Jitter", &allowed), Some("jitter"));
        assert_eq!(nearest("colour", &allowed), None);
        assert_eq!(nearest(&"x".repeat(10_000), &allowed), None);
    }
}
