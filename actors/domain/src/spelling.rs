//! How far a word is from another one, to guess what was meant.
//!
//! The distance of V. I. Levenshtein ("Binary codes capable of correcting deletions, insertions and reversals", 1966), over bytes.

/// Returns how many letters must be changed, added or dropped to make one text of the other.
#[must_use]
pub fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left_byte) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (index, right_byte) in right.bytes().enumerate() {
            let changed = diagonal + usize::from(left_byte != right_byte);
            diagonal = row[index + 1];
            row[index + 1] = changed.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_that_is_changed_added_or_dropped_counts_once() {
        for (left, right, expected) in [
            ("", "", 0),
            ("berlin", "berlin", 0),
            ("berln", "berlin", 1),
            ("perlin", "berlin", 1),
            ("rome", "", 4),
        ] {
            assert_eq!(
                (distance(left, right), distance(right, left)),
                (expected, expected),
                "{left} {right}"
            );
        }
    }
}
