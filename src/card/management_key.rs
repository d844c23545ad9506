//! The management key (9B): whoever has it may write to the card.

use std::fmt;

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};
use aws_lc_rs::rand;
use des::TdesEde3;
use pki::secret::Secret;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::CardError;

/// How challenges are encrypted (SP 800-78-5 table 6-2).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum ManagementKeyAlgorithm {
    /// 3DES with three keys: all that firmware before 5.4.2 knows.
    #[serde(rename = "3des")]
    TripleDes,
    /// AES with 128 bits.
    #[serde(rename = "aes128")]
    Aes128,
    /// AES with 192 bits: of new YubiKeys since firmware 5.7.
    #[serde(rename = "aes192")]
    Aes192,
    /// AES with 256 bits.
    #[serde(rename = "aes256")]
    Aes256,
}

/// A management key. It cannot be printed.
#[derive(Clone)]
pub struct ManagementKey {
    algorithm: ManagementKeyAlgorithm,
    key: Zeroizing<Vec<u8>>,
}

impl ManagementKeyAlgorithm {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::TripleDes, Self::Aes128, Self::Aes192, Self::Aes256]
            .into_iter()
            .find(|algorithm| algorithm.number() == number)
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::TripleDes => 0x03,
            Self::Aes128 => 0x08,
            Self::Aes192 => 0x0a,
            Self::Aes256 => 0x0c,
        }
    }

    fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::TripleDes => 24,
            Self::Aes256 => 32,
        }
    }

    /// The length of a challenge.
    pub(crate) fn block_length(self) -> usize {
        if self == Self::TripleDes { 8 } else { 16 }
    }
}

impl fmt::Display for ManagementKeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TripleDes => "3DES",
            Self::Aes128 => "AES-128",
            Self::Aes192 => "AES-192",
            Self::Aes256 => "AES-256",
        })
    }
}

impl ManagementKey {
    /// Takes a key; `None` if it is not as long as its algorithm has it.
    pub fn new(algorithm: ManagementKeyAlgorithm, key: &[u8]) -> Option<Self> {
        (key.len() == algorithm.key_length())
            .then(|| Self { algorithm, key: Zeroizing::new(key.to_vec()) })
    }

    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`CardError::Random`].
    pub fn generate(algorithm: ManagementKeyAlgorithm) -> Result<Self, CardError> {
        let key = random(algorithm.key_length())?;
        Ok(Self { algorithm, key })
    }

    /// The key that YubiKeys come with; `None` of an algorithm that none comes with.
    pub fn factory_default(algorithm: ManagementKeyAlgorithm) -> Option<Self> {
        Self::new(algorithm, &[[1, 2, 3, 4, 5, 6, 7, 8]; 3].concat())
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> ManagementKeyAlgorithm {
        self.algorithm
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.key
    }

    /// In hexadecimal, as programs take it from files.
    pub(crate) fn to_hex(&self) -> Secret {
        Secret::new(hex::encode(&self.key))
    }

    /// One block, encrypted; `None` if it is not one.
    pub(crate) fn encrypt(&self, block: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self.algorithm {
            ManagementKeyAlgorithm::TripleDes => encrypt::<TdesEde3>(&self.key, block),
            ManagementKeyAlgorithm::Aes128 => encrypt::<Aes128>(&self.key, block),
            ManagementKeyAlgorithm::Aes192 => encrypt::<Aes192>(&self.key, block),
            ManagementKeyAlgorithm::Aes256 => encrypt::<Aes256>(&self.key, block),
        }
    }

    /// One block, decrypted; `None` if it is not one.
    pub(crate) fn decrypt(&self, block: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self.algorithm {
            ManagementKeyAlgorithm::TripleDes => decrypt::<TdesEde3>(&self.key, block),
            ManagementKeyAlgorithm::Aes128 => decrypt::<Aes128>(&self.key, block),
            ManagementKeyAlgorithm::Aes192 => decrypt::<Aes192>(&self.key, block),
            ManagementKeyAlgorithm::Aes256 => decrypt::<Aes256>(&self.key, block),
        }
    }
}

impl fmt::Debug for ManagementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManagementKey({}, …)", self.algorithm)
    }
}

/// So many random bytes.
pub(crate) fn random(length: usize) -> Result<Zeroizing<Vec<u8>>, CardError> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    rand::fill(&mut bytes).map_err(|_| CardError::Random)?;
    Ok(bytes)
}

fn encrypt<C: BlockCipherEncrypt + KeyInit>(
    key: &[u8],
    block: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = C::new_from_slice(key).ok()?;
    let mut block = Zeroizing::new(block.to_vec());
    cipher.encrypt_block(block.as_mut_slice().try_into().ok()?);
    Some(block)
}

fn decrypt<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    block: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = C::new_from_slice(key).ok()?;
    let mut block = Zeroizing::new(block.to_vec());
    cipher.decrypt_block(block.as_mut_slice().try_into().ok()?);
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_there_and_back_by_every_algorithm() {
        for number in [0x03, 0x08, 0x0a, 0x0c] {
            let algorithm = ManagementKeyAlgorithm::from_number(number).unwrap();
            let key = ManagementKey::generate(algorithm).unwrap();
            let block = vec![7; algorithm.block_length()];
            let encrypted = key.encrypt(&block).unwrap();
            assert_ne!(*encrypted, block);
            assert_eq!(*key.decrypt(&encrypted).unwrap(), block);
            assert_eq!(key.encrypt(&[7; 5]), None);
        }
    }

    #[test]
    fn a_key_is_of_its_length_and_is_not_printed() {
        assert!(ManagementKey::new(ManagementKeyAlgorithm::Aes256, &[1; 24]).is_none());
        assert!(ManagementKey::factory_default(ManagementKeyAlgorithm::Aes256).is_none());
        let key = ManagementKey::factory_default(ManagementKeyAlgorithm::Aes192).unwrap();
        assert_eq!(format!("{key:?}"), "ManagementKey(AES-192, …)");
    }
}
