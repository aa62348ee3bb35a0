//! Stored blocks of events on their way from a node to whoever audits it: a row of them in one body.
//!
//! For each the sequence that it is stored under (8 bytes, big endian), its length (4 bytes, big endian), its bytes.

/// Packs blocks, each with the sequence that it is stored under.
#[must_use]
pub fn frame_blocks(blocks: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(blocks.iter().map(|(_, bytes)| 12 + bytes.len()).sum());
    for (first, bytes) in blocks {
        framed.extend_from_slice(&first.to_be_bytes());
        // A block is far below 4 GiB; one that were not would be found cut off.
        framed.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        framed.extend_from_slice(bytes);
    }
    framed
}

/// Unpacks blocks; `None` if the row is cut off.
#[must_use]
pub fn unframe_blocks(mut framed: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    let mut blocks = Vec::new();
    while !framed.is_empty() {
        let (first, rest) = framed.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        blocks.push((u64::from_be_bytes(*first), bytes.to_vec()));
        framed = rest;
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_blocks_arrives_as_it_was_sent_or_not_at_all() {
        let blocks = vec![(1, b"one".to_vec()), (7, Vec::new()), (9, vec![0; 300])];
        let framed = frame_blocks(&blocks);
        assert_eq!(unframe_blocks(&framed), Some(blocks));
        assert_eq!(unframe_blocks(&framed[..framed.len() - 1]), None);
        assert_eq!(unframe_blocks(&[]), Some(Vec::new()));
    }
}
