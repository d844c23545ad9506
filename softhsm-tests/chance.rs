//! Chance that can be repeated.

use std::{fs::File, io::Read as _};

use crate::failure::{Doing, Failure};

/// SplitMix64; its `Debug` is what it goes on from.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins anywhere.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn new() -> Result<Self, Failure> {
        let mut bytes = [0; 8];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .doing("read /dev/urandom")?;
        Ok(Self(u64::from_ne_bytes(bytes)))
    }

    /// A number from 0 on, less than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
