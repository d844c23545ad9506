//! Weak keys.

use thiserror::Error;

/// Why a key is weak.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WeakKey {
    /// Fermat's factorization finds the primes at once.
    #[error("its primes are too close to each other (Fermat)")]
    ClosePrimes,
    /// Made by the library of CVE-2017-15361.
    #[error("it has the fingerprint of the ROCA flaw (CVE-2017-15361)")]
    Roca,
    /// Divisible by a small prime.
    #[error("its modulus has a small factor")]
    SmallFactor,
    /// An exponent below 65537, even, or above 2^32.
    #[error("its public exponent is not an odd number from 65537 to 2^32")]
    Exponent,
}
