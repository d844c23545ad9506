//! The keys in the slots.

use aws_lc_rs::{
    agreement::{self, ECDH_P256, ECDH_P384, PrivateKey, UnparsedPublicKey},
    digest::{Digest, SHA256, SHA384},
    encoding::{AsBigEndian, EcPrivateKeyBin},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair},
};
use num_bigint::BigUint;

use super::{
    Status,
    tlv::{find, tlv},
};
use crate::{openssl::openssl, process::run};

/// A private key, and how it may be used.
#[derive(Debug)]
pub(super) struct Key {
    /// What identifies its algorithm (SP 800-78-5 table 6-2; Yubico's 05, 16).
    pub(super) algorithm: u8,
    private: Private,
    pub(super) pin_policy: u8,
    touch_policy: u8,
    pub(super) generated: bool,
}

#[derive(Debug)]
enum Private {
    /// The agreement key and the signing key are the same scalar.
    Ec {
        agreement: PrivateKey,
        signing: EcdsaKeyPair,
        curve: Curve,
    },
    Rsa {
        modulus: BigUint,
        exponent: BigUint,
        length: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Curve {
    P256,
    P384,
}

impl Key {
    pub(super) fn generate(
        algorithm: u8,
        pin_policy: u8,
        touch_policy: u8,
    ) -> Result<Self, Status> {
        let private = match algorithm {
            P256 => Private::ec(Curve::P256, PrivateKey::generate(&ECDH_P256))?,
            P384 => Private::ec(Curve::P384, PrivateKey::generate(&ECDH_P384))?,
            _ => generate_rsa(rsa_length(algorithm)?)?,
        };
        Ok(Self { algorithm, private, pin_policy, touch_policy, generated: true })
    }

    /// Takes the numbers of Yubico's IMPORT KEY: the primes 01 and 02, or the scalar 06.
    pub(super) fn import(
        algorithm: u8,
        data: &[u8],
        pin_policy: u8,
        touch_policy: u8,
    ) -> Result<Self, Status> {
        let number = |tag| find(data, tag).ok_or(Status::WRONG_DATA);
        let private = match algorithm {
            P256 => Private::ec(Curve::P256, PrivateKey::from_private_key(&ECDH_P256, number(6)?))?,
            P384 => Private::ec(Curve::P384, PrivateKey::from_private_key(&ECDH_P384, number(6)?))?,
            _ => {
                let primes = [number(1)?, number(2)?].map(BigUint::from_bytes_be);
                rsa_of(primes, rsa_length(algorithm)?)?
            }
        };
        Ok(Self { algorithm, private, pin_policy, touch_policy, generated: false })
    }

    /// The public key as GENERATE ASYMMETRIC KEY PAIR answers it, without the tag 7F49.
    pub(super) fn public(&self) -> Result<Vec<u8>, Status> {
        Ok(match &self.private {
            Private::Ec { agreement, .. } => tlv(0x86, &point(agreement)?),
            Private::Rsa { modulus, .. } => {
                [tlv(0x81, &modulus.to_bytes_be()), tlv(0x82, &EXPONENT)].concat()
            }
        })
    }

    /// The SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), DER.
    pub(super) fn public_key_info(&self) -> Result<Vec<u8>, Status> {
        let (algorithm, key) = match &self.private {
            Private::Ec { agreement, curve, .. } => {
                let curve = match curve {
                    Curve::P256 => OID_P256,
                    Curve::P384 => OID_P384,
                };
                ([OID_EC_PUBLIC_KEY, curve].concat(), point(agreement)?)
            }
            Private::Rsa { modulus, .. } => {
                let numbers = [integer(&modulus.to_bytes_be()), integer(&EXPONENT)].concat();
                ([OID_RSA_ENCRYPTION, &[0x05, 0x00]].concat(), tlv(0x30, &numbers))
            }
        };
        let bits = [&[0], key.as_slice()].concat();
        Ok(tlv(0x30, &[tlv(0x30, &algorithm), tlv(0x03, &bits)].concat()))
    }

    /// The private operation: of RSA on a padded block, of ECDSA on a digest.
    pub(super) fn sign(&self, input: &[u8]) -> Result<Vec<u8>, Status> {
        match &self.private {
            Private::Ec { signing, curve, .. } => {
                let (algorithm, length) = match curve {
                    Curve::P256 => (&SHA256, 32),
                    Curve::P384 => (&SHA384, 48),
                };
                let digest = Digest::import_less_safe(&aligned(input, length), algorithm);
                let digest = digest.map_err(|_| Status::WRONG_DATA)?;
                let signature = signing.sign_digest(&digest).map_err(|_| Status::WRONG_DATA)?;
                Ok(signature.as_ref().to_vec())
            }
            Private::Rsa { modulus, exponent, length } => {
                let block = BigUint::from_bytes_be(input);
                if input.len() != *length || block >= *modulus {
                    return Err(Status::WRONG_DATA);
                }
                Ok(aligned(&block.modpow(exponent, modulus).to_bytes_be(), *length))
            }
        }
    }

    /// The shared secret with the other side's point.
    pub(super) fn agree(&self, point: &[u8]) -> Result<Vec<u8>, Status> {
        let Private::Ec { agreement, .. } = &self.private else { return Err(Status::WRONG_DATA) };
        let other = UnparsedPublicKey::new(agreement.algorithm(), point);
        agreement::agree(agreement, other, Status::WRONG_DATA, |secret| Ok(secret.to_vec()))
    }

    pub(super) fn metadata(&self) -> Result<Vec<u8>, Status> {
        let origin = if self.generated { 1 } else { 2 };
        let policies = [2, 2, self.pin_policy, self.touch_policy];
        Ok([
            &[1, 1, self.algorithm],
            policies.as_slice(),
            &[3, 1, origin],
            &tlv(4, &self.public()?),
        ]
        .concat())
    }

    /// PIN and touch policy, as an attestation has them.
    pub(super) fn policies(&self) -> [u8; 2] {
        [self.pin_policy, self.touch_policy]
    }
}

impl Private {
    fn ec<E>(curve: Curve, agreement: Result<PrivateKey, E>) -> Result<Self, Status> {
        let agreement = agreement.map_err(|_| Status::WRONG_DATA)?;
        let scalar: EcPrivateKeyBin = agreement.as_be_bytes().map_err(|_| Status::WRONG_DATA)?;
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        };
        let point = point(&agreement)?;
        let signing =
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar.as_ref(), &point)
                .map_err(|_| Status::WRONG_DATA)?;
        Ok(Self::Ec { agreement, signing, curve })
    }
}

fn point(key: &PrivateKey) -> Result<Vec<u8>, Status> {
    Ok(key.compute_public_key().map_err(|_| Status::WRONG_DATA)?.as_ref().to_vec())
}

/// The length of the modulus in bytes.
fn rsa_length(algorithm: u8) -> Result<usize, Status> {
    match algorithm {
        RSA_1024 => Ok(128),
        RSA_2048 => Ok(256),
        RSA_3072 => Ok(384),
        RSA_4096 => Ok(512),
        _ => Err(Status::WRONG_DATA),
    }
}

/// OpenSSL finds primes many times faster than unoptimised code.
fn generate_rsa(length: usize) -> Result<Private, Status> {
    let primes = || {
        let mut command = openssl().ok()?;
        command.args(["prime", "-generate", "-hex", "-bits", &(length * 4).to_string()]);
        let text = run(&mut command).ok()?.success().ok()?.stdout;
        BigUint::parse_bytes(text.trim().as_bytes(), 16)
    };
    loop {
        let primes = [primes().ok_or(Status::FULL)?, primes().ok_or(Status::FULL)?];
        // A modulus that is a bit too short is one of another pair.
        match rsa_of(primes, length) {
            Err(Status::WRONG_DATA) => {}
            made => return made,
        }
    }
}

fn rsa_of([p, q]: [BigUint; 2], length: usize) -> Result<Private, Status> {
    let modulus = &p * &q;
    if modulus.bits() != 8 * length as u64 {
        return Err(Status::WRONG_DATA);
    }
    let one = BigUint::from(1_u8);
    let order = (&p - &one) * (&q - &one);
    let exponent = BigUint::from_bytes_be(&EXPONENT).modinv(&order).ok_or(Status::WRONG_DATA)?;
    Ok(Private::Rsa { modulus, exponent, length })
}

/// A number of this length: with zeros before it, or its first bytes (FIPS 186-5 section 6.4.1).
fn aligned(number: &[u8], length: usize) -> Vec<u8> {
    let number = &number[..number.len().min(length)];
    [vec![0; length - number.len()], number.to_vec()].concat()
}

/// A positive INTEGER, DER.
pub(super) fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros.min(number.len() - 1)..];
    let sign: &[u8] = if number.first().is_some_and(|byte| *byte >= 0x80) { &[0] } else { &[] };
    tlv(0x02, &[sign, number].concat())
}

pub(super) const P256: u8 = 0x11;
pub(super) const RSA_3072: u8 = 0x05;
pub(super) const RSA_4096: u8 = 0x16;
const P384: u8 = 0x14;
const RSA_1024: u8 = 0x06;
const RSA_2048: u8 = 0x07;
const EXPONENT: [u8; 3] = [1, 0, 1];
const OID_EC_PUBLIC_KEY: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
const OID_P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const OID_P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";
const OID_RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
