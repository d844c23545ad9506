//! Weak RSA keys: what tells, from the public half alone, that others can find the private half.

use std::sync::LazyLock;

use num_bigint::BigUint;
use thiserror::Error;

/// Why a key is weak.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WeakKey {
    /// Fermat's factorization finds the primes at once.
    #[error("weak key: its primes are too close to each other (Fermat)")]
    ClosePrimes,
    /// Made by the library of CVE-2017-15361.
    #[error("weak key: it has the fingerprint of the ROCA flaw (CVE-2017-15361)")]
    Roca,
    /// Divisible by a small prime.
    #[error("weak key: its modulus has a small factor")]
    SmallFactor,
    /// An exponent below 65537, even, or above 2^32.
    #[error("weak key: its public exponent is not an odd number from 65537 to 2^32")]
    Exponent,
}

/// Checks an RSA key; modulus and exponent are big endian without leading zeros.
pub(super) fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), WeakKey> {
    check_exponent(exponent)?;
    let modulus = BigUint::from_bytes_be(modulus);
    if has_small_factor(&modulus) {
        return Err(WeakKey::SmallFactor);
    }
    if has_roca_fingerprint(&modulus) {
        return Err(WeakKey::Roca);
    }
    if has_close_primes(&modulus) {
        return Err(WeakKey::ClosePrimes);
    }
    Ok(())
}

fn check_exponent(exponent: &[u8]) -> Result<(), WeakKey> {
    let mut bytes = [0; 8];
    let start = bytes.len().checked_sub(exponent.len()).ok_or(WeakKey::Exponent)?;
    bytes[start..].copy_from_slice(exponent);
    match u64::from_be_bytes(bytes) {
        exponent @ 65537..=0x1_0000_0000 if exponent % 2 == 1 => Ok(()),
        _ => Err(WeakKey::Exponent),
    }
}

/// Trial division (SP 800-89 section 5.3.3 asks for primes below 752; these go further).
fn has_small_factor(modulus: &BigUint) -> bool {
    !modulus.bit(0)
        || PRIME_PRODUCTS.iter().any(|(product, primes)| {
            let rest = remainder(modulus, *product);
            primes.iter().any(|prime| rest.is_multiple_of(*prime))
        })
}

/// The primes of the flawed library have the form `k * M + (65537^a mod M)`, where M is the
/// product of the first primes (Nemec, Sys, Svenda, Klinec, Matyas: "The Return of Coppersmith's
/// Attack", CCS 2017, section 2). Then the modulus, too, is a power of 65537 modulo each prime of
/// M. M has at least the first 39 primes for every key size, and a healthy modulus passes this for
/// all of them with a chance of about 2^-28.
fn has_roca_fingerprint(modulus: &BigUint) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        let residue = remainder(modulus, *prime);
        powers_of(65537 % prime, *prime).any(|power| power == residue)
    })
}

/// The multiplicative group that `generator` generates modulo `prime`.
fn powers_of(generator: u64, prime: u64) -> impl Iterator<Item = u64> {
    let first = std::iter::once(1);
    let rest = std::iter::successors(Some(generator), move |power| Some(power * generator % prime));
    first.chain(rest.take_while(|power| *power != 1))
}

/// Fermat's factorization: with `a` from the square root of the modulus upwards, `a² - n = b²`
/// gives the primes `a - b` and `a + b`. (CA/Browser Forum Baseline Requirements 6.1.1.3 asks for
/// 100 rounds; CVE-2022-26320.)
fn has_close_primes(modulus: &BigUint) -> bool {
    let root = modulus.sqrt();
    let a = if &root * &root == *modulus { root } else { root + 1u32 };
    let mut b_squared = &a * &a - modulus;
    // (a + 1)² = a² + 2a + 1, and the next step is two more.
    let mut step = a * 2u32 + 1u32;
    for _ in 0..FERMAT_ROUNDS {
        if is_square(&b_squared) {
            return true;
        }
        b_squared += &step;
        step += 2u32;
    }
    false
}

fn is_square(number: &BigUint) -> bool {
    // A square has few residues modulo 64 and modulo 63 * 65 * 11; square roots are dear.
    let low = remainder(number, 64);
    let rest = remainder(number, 63 * 65 * 11);
    if !is_residue(low, 64)
        || !is_residue(rest, 63)
        || !is_residue(rest, 65)
        || !is_residue(rest, 11)
    {
        return false;
    }
    let root = number.sqrt();
    &root * &root == *number
}

fn is_residue(number: u64, modulus: u64) -> bool {
    let number = number % modulus;
    (0..modulus).any(|root| root * root % modulus == number)
}

fn remainder(number: &BigUint, divisor: u64) -> u64 {
    (number % divisor).iter_u64_digits().next().unwrap_or(0)
}

const FERMAT_ROUNDS: usize = 100;

/// The odd ones of the first 39 primes.
static ROCA_PRIMES: LazyLock<Vec<u64>> = LazyLock::new(|| odd_primes_below(168));

/// The odd primes below 4096, a few at a time with their product: one long division serves all of
/// a group.
static PRIME_PRODUCTS: LazyLock<Vec<(u64, Vec<u64>)>> = LazyLock::new(|| {
    let mut groups: Vec<(u64, Vec<u64>)> = Vec::new();
    for prime in odd_primes_below(4096) {
        match groups.last_mut() {
            Some((product, primes)) if product.checked_mul(prime).is_some() => {
                *product *= prime;
                primes.push(prime);
            }
            _ => groups.push((prime, vec![prime])),
        }
    }
    groups
});

fn odd_primes_below(limit: u64) -> Vec<u64> {
    let is_prime = |number: &u64| {
        (3..).step_by(2).take_while(|d| d * d <= *number).all(|d| !number.is_multiple_of(d))
    };
    (3..limit).step_by(2).filter(is_prime).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::keys::{KeyError, PublicKey};

    #[test]
    fn exponents_from_65537_to_2_pow_32_and_odd_are_taken() {
        for (exponent, sound) in [
            (&[3][..], false),
            (&[0xff, 0xff], false),
            (&[1, 0, 0], false),
            (&[1, 0, 1], true),
            (&[0xff, 0xff, 0xff, 0xff], true),
            (&[1, 0, 0, 0, 1], false),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 1], false),
        ] {
            assert_eq!(check_exponent(exponent).is_ok(), sound, "{exponent:?}");
        }
    }

    #[test]
    fn moduli_of_the_flawed_library_are_found() {
        // The primes of a 2048-bit key: k * M + (65537^a mod M), M of the first 126 primes.
        let product = odd_primes_below(702).into_iter().fold(BigUint::from(2u32), |m, p| m * p);
        let prime_like = |a: u32, k: u64| {
            let tail = BigUint::from(65537u32).modpow(&a.into(), &product);
            next_prime(tail + &product * k, &product)
        };
        let modulus = prime_like(1234, 1 << 40) * prime_like(98765, 3 << 40);
        assert_eq!(check(&modulus), Err(WeakKey::Roca));
    }

    #[test]
    fn close_primes_are_found() {
        let start = (BigUint::from(1u32) << 1023u32) + 12345u32;
        let first = next_prime(start, &BigUint::from(2u32));
        let second = next_prime(&first + 2u32, &BigUint::from(2u32));
        assert_eq!(check(&(&first * &second)), Err(WeakKey::ClosePrimes));
        assert_eq!(check(&(&first * &first)), Err(WeakKey::ClosePrimes));
    }

    #[test]
    fn small_factors_are_found() {
        let start = (BigUint::from(1u32) << 1023u32) + 1u32;
        let prime = next_prime(start, &BigUint::from(2u32));
        for factor in [2u32, 3, 751, 4093] {
            assert_eq!(check(&(&prime * factor)), Err(WeakKey::SmallFactor), "{factor}");
        }
    }

    #[test]
    fn keys_that_openssl_makes_are_taken_unless_their_exponent_is_3() {
        for (exponent, verdict) in
            [("65537", Ok(())), ("3", Err(KeyError::Weak(WeakKey::Exponent)))]
        {
            let pem = openssl_rsa(exponent);
            assert_eq!(PublicKey::from_pem(&pem).unwrap().check_offered(), verdict);
        }
    }

    fn check(modulus: &BigUint) -> Result<(), WeakKey> {
        check_rsa(&modulus.to_bytes_be(), &[1, 0, 1])
    }

    /// The first probable prime (Fermat's test to base 2) of `start`, `start + step`, …
    fn next_prime(start: BigUint, step: &BigUint) -> BigUint {
        let two = BigUint::from(2u32);
        std::iter::successors(Some(start), |number| Some(number + step))
            .filter(|number| number.bit(0) && !has_small_factor(number))
            .find(|number| two.modpow(&(number - 1u32), number) == BigUint::from(1u32))
            .unwrap()
    }

    fn openssl_rsa(exponent: &str) -> String {
        let script = format!(
            "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 \
             -pkeyopt rsa_keygen_pubexp:{exponent} 2>/dev/null | openssl pkey -pubout"
        );
        let output = Command::new("sh").args(["-c", &script]).output().expect("sh runs");
        assert!(output.status.success(), "openssl is needed: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}
