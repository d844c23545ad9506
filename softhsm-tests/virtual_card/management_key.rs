//! The card management key (9B) and its challenges.

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use des::TdesEde3;

use super::{DEFAULT_MANAGEMENT_KEY, Status};

/// The key, and what identifies its algorithm (SP 800-78-5 table 6-2).
#[derive(Debug)]
pub(super) struct ManagementKey {
    pub(super) algorithm: u8,
    key: Vec<u8>,
    touch: u8,
}

impl ManagementKey {
    /// A key of this algorithm, if its length is right.
    pub(super) fn new(algorithm: u8, key: &[u8], touch: u8) -> Result<Self, Status> {
        let length = match algorithm {
            AES_128 => 16,
            TRIPLE_DES | AES_192 => 24,
            AES_256 => 32,
            _ => return Err(Status::WRONG_DATA),
        };
        if key.len() != length {
            return Err(Status::WRONG_DATA);
        }
        Ok(Self { algorithm, key: key.to_vec(), touch })
    }

    pub(super) fn default_of(algorithm: u8) -> Self {
        Self { algorithm, key: default_key(), touch: NEVER }
    }

    /// The length of a challenge.
    pub(super) fn block(&self) -> usize {
        if self.algorithm == TRIPLE_DES { 8 } else { 16 }
    }

    /// One block, encrypted.
    pub(super) fn encrypt(&self, block: &[u8]) -> Result<Vec<u8>, Status> {
        match self.algorithm {
            TRIPLE_DES => encrypt::<TdesEde3>(&self.key, block),
            AES_128 => encrypt::<Aes128>(&self.key, block),
            AES_192 => encrypt::<Aes192>(&self.key, block),
            _ => encrypt::<Aes256>(&self.key, block),
        }
    }

    pub(super) fn metadata(&self) -> Vec<u8> {
        let is_default = self.key == default_key();
        vec![1, 1, self.algorithm, 2, 2, 0, self.touch, 5, 1, is_default.into()]
    }
}

fn encrypt<C: BlockCipherEncrypt + KeyInit>(key: &[u8], block: &[u8]) -> Result<Vec<u8>, Status> {
    let cipher = C::new_from_slice(key).map_err(|_| Status::WRONG_DATA)?;
    let mut block = block.to_vec();
    let bytes = block.as_mut_slice().try_into().map_err(|_| Status::WRONG_DATA)?;
    cipher.encrypt_block(bytes);
    Ok(block)
}

fn default_key() -> Vec<u8> {
    let digits = DEFAULT_MANAGEMENT_KEY.as_bytes().chunks(2);
    digits.filter_map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

pub(super) const TRIPLE_DES: u8 = 0x03;
pub(super) const AES_192: u8 = 0x0a;
pub(super) const NEVER: u8 = 1;
const AES_128: u8 = 0x08;
const AES_256: u8 = 0x0c;
