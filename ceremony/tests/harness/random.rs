//! Chance that can be repeated.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each story takes what it needs")]

/// SplitMix64: the same numbers for the same seed, for ever.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut next = self.0;
        next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((next ^ (next >> 31)) % end as u64).unwrap()
    }

    /// A bit flipped, a byte left out, a byte more, or the end cut off; and where.
    pub(crate) fn change(&mut self, mut content: Vec<u8>) -> (Vec<u8>, usize) {
        let at = self.below(content.len());
        match self.below(4) {
            0 => content[at] ^= 1 << self.below(8),
            1 => drop(content.remove(at)),
            2 => content.insert(at, content[at] ^ 1),
            _ => content.truncate(at),
        }
        (content, at)
    }
}
