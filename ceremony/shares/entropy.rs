//! Random bytes for what is split: the operating system's and the token's together, so that neither
//! alone can weaken them.

use std::convert::Infallible;

use rand::{TryRngCore as _, rand_core::OsError, rngs::OsRng};
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// `SHA-256("chancery-ceremony-entropy-v1\0" || seed || n)` for n = 0, 1, …: no block tells of another,
/// or of the seed (a counter-mode hash generator, as NIST SP 800-90A section 10.1.1 has it).
pub struct Entropy {
    seed: Zeroizing<Vec<u8>>,
    block: Zeroizing<[u8; 32]>,
    taken: usize,
    next: u64,
}

impl Entropy {
    /// Seeds with 32 bytes of the operating system, and these of the token.
    ///
    /// # Errors
    ///
    /// The operating system gives none.
    pub fn gather(of_token: &[u8]) -> Result<Self, OsError> {
        let mut seed = Zeroizing::new(vec![0; 32]);
        OsRng.try_fill_bytes(&mut seed)?;
        seed.extend_from_slice(of_token);
        Ok(Self::seeded(seed))
    }

    pub(super) fn seeded(seed: Zeroizing<Vec<u8>>) -> Self {
        Self { seed, block: Zeroizing::new([0; 32]), taken: 32, next: 0 }
    }

    /// The next bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    fn byte(&mut self) -> u8 {
        if self.taken == self.block.len() {
            let mut hash = Sha256::new_with_prefix("chancery-ceremony-entropy-v1\0");
            hash.update(&self.seed[..]);
            hash.update(self.next.to_be_bytes());
            self.block.copy_from_slice(&hash.finalize());
            (self.taken, self.next) = (0, self.next + 1);
        }
        self.taken += 1;
        self.block[self.taken - 1]
    }
}

impl TryRng for Entropy {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill_with(|| self.byte());
        Ok(())
    }
}

impl TryCryptoRng for Entropy {}
