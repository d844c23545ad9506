//! The numbers of a public key, and their encodings.

use der::{
    Decode, Encode, Sequence,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef},
};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{KeyAlgorithm, KeyError, malformed};

/// Numbers of the right form and size for their algorithm. Whether a point is on its curve is for
/// the verifier to tell.
pub(super) enum Numbers {
    /// 32 bytes, no point of small order (RFC 8032 section 5.1.3).
    Ed25519([u8; 32]),
    /// An uncompressed point (SEC 1 section 2.3.3).
    P256([u8; 65]),
    /// An uncompressed point.
    P384([u8; 97]),
    /// Big endian, without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8>, algorithm: KeyAlgorithm },
}

/// RFC 8017 appendix A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

impl Numbers {
    /// Takes an AlgorithmIdentifier and the bits of a subjectPublicKey apart.
    pub(super) fn from_spki(
        algorithm: &AlgorithmIdentifierRef<'_>,
        bits: &[u8],
    ) -> Result<Self, KeyError> {
        match algorithm.oid {
            RSA_ENCRYPTION => {
                let key = RsaPublicKey::from_der(bits)
                    .map_err(|error| malformed("not a DER RSAPublicKey", error))?;
                Self::rsa(key.modulus.as_bytes(), key.public_exponent.as_bytes())
            }
            EC_PUBLIC_KEY => match algorithm.parameters.map(|any| any.decode_as()) {
                Some(Ok(SECP256R1)) => Self::p256(bits),
                Some(Ok(SECP384R1)) => Self::p384(bits),
                Some(Ok(other)) => Err(KeyError::Unsupported(format!("a key on curve {other}"))),
                Some(Err(_)) | None => {
                    Err(KeyError::Malformed("the key names no curve by its OID".to_owned()))
                }
            },
            ED25519 => Self::ed25519(bits),
            other => Err(KeyError::Unsupported(format!("a key of algorithm {other}"))),
        }
    }

    pub(super) fn p256(point: &[u8]) -> Result<Self, KeyError> {
        uncompressed(point).map(Self::P256)
    }

    pub(super) fn p384(point: &[u8]) -> Result<Self, KeyError> {
        uncompressed(point).map(Self::P384)
    }

    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| {
            KeyError::Malformed(format!("an Ed25519 key has 32 bytes, not {}", bytes.len()))
        })?;
        if !is_canonical_ed25519(&bytes) || is_small_order_ed25519(&bytes) {
            return Err(KeyError::Malformed(
                "the Ed25519 key is not canonical, or of small order".to_owned(),
            ));
        }
        Ok(Self::Ed25519(bytes))
    }

    /// Takes big endian numbers without leading zeros.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let leading = modulus.first().copied().unwrap_or(0).leading_zeros() as usize;
        let bits = (modulus.len() * 8).saturating_sub(leading);
        let algorithm = match bits {
            2048 => KeyAlgorithm::Rsa2048,
            3072 => KeyAlgorithm::Rsa3072,
            4096 => KeyAlgorithm::Rsa4096,
            _ => return Err(KeyError::Unsupported(format!("an RSA key of {bits} bits"))),
        };
        Ok(Self::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec(), algorithm })
    }

    pub(super) fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Ed25519(_) => KeyAlgorithm::Ed25519,
            Self::P256(_) => KeyAlgorithm::EcP256,
            Self::P384(_) => KeyAlgorithm::EcP384,
            Self::Rsa { algorithm, .. } => *algorithm,
        }
    }

    pub(super) fn is_point(&self) -> bool {
        matches!(self, Self::P256(_) | Self::P384(_))
    }

    /// The canonical SubjectPublicKeyInfo, and where the bits of its subjectPublicKey begin.
    pub(super) fn to_spki(&self) -> der::Result<(Vec<u8>, usize)> {
        match self {
            Self::Ed25519(bytes) => encode_spki(ED25519, None, bytes),
            Self::P256(point) => encode_spki(EC_PUBLIC_KEY, Some((&SECP256R1).into()), point),
            Self::P384(point) => encode_spki(EC_PUBLIC_KEY, Some((&SECP384R1).into()), point),
            Self::Rsa { modulus, exponent, .. } => {
                let bits = RsaPublicKey {
                    modulus: UintRef::new(modulus)?,
                    public_exponent: UintRef::new(exponent)?,
                };
                encode_spki(RSA_ENCRYPTION, Some(AnyRef::NULL), &bits.to_der()?)
            }
        }
    }

    /// RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4.
    pub(super) fn to_openssh_blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put_string(&mut blob, self.openssh_name().as_bytes());
        match self {
            Self::Ed25519(bytes) => put_string(&mut blob, bytes),
            Self::P256(point) => {
                put_string(&mut blob, b"nistp256");
                put_string(&mut blob, point);
            }
            Self::P384(point) => {
                put_string(&mut blob, b"nistp384");
                put_string(&mut blob, point);
            }
            Self::Rsa { modulus, exponent, .. } => {
                put_mpint(&mut blob, exponent);
                put_mpint(&mut blob, modulus);
            }
        }
        blob
    }

    /// The name of the key type.
    pub(super) fn openssh_name(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ssh-ed25519",
            Self::P256(_) => "ecdsa-sha2-nistp256",
            Self::P384(_) => "ecdsa-sha2-nistp384",
            Self::Rsa { .. } => "ssh-rsa",
        }
    }
}

fn uncompressed<const LENGTH: usize>(point: &[u8]) -> Result<[u8; LENGTH], KeyError> {
    match <[u8; LENGTH]>::try_from(point) {
        Ok(bytes) if bytes[0] == 0x04 => Ok(bytes),
        _ => Err(KeyError::Malformed(format!(
            "the point is not uncompressed: 04 and {} bytes of coordinates",
            LENGTH - 1
        ))),
    }
}

fn encode_spki(
    oid: ObjectIdentifier,
    parameters: Option<AnyRef<'_>>,
    bits: &[u8],
) -> der::Result<(Vec<u8>, usize)> {
    let spki = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef { oid, parameters },
        subject_public_key: BitStringRef::from_bytes(bits)?,
    }
    .to_der()?;
    let bits_at = spki.len() - bits.len();
    Ok((spki, bits_at))
}

fn put_string(blob: &mut Vec<u8>, bytes: &[u8]) {
    // No key is as long as 2^32 bytes: the longest field is an RSA modulus of 4096 bits.
    blob.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    blob.extend_from_slice(bytes);
}

/// RFC 4251 section 5: a zero byte before a positive number whose first bit is set.
fn put_mpint(blob: &mut Vec<u8>, number: &[u8]) {
    match number.first() {
        Some(first) if first & 0x80 != 0 => put_string(blob, &[&[0], number].concat()),
        _ => put_string(blob, number),
    }
}

/// y < 2^255 - 19 (RFC 8032 section 5.1.3 step 1).
fn is_canonical_ed25519(bytes: &[u8; 32]) -> bool {
    let all_ones = bytes[31] & 0x7f == 0x7f && bytes[1..31].iter().all(|byte| *byte == 0xff);
    !(all_ones && bytes[0] >= 0xed)
}

/// The points of order 1, 2, 4 and 8: under them a signature says nothing of its maker.
fn is_small_order_ed25519(bytes: &[u8; 32]) -> bool {
    let mut y = *bytes;
    y[31] &= 0x7f;
    SMALL_ORDER_Y.contains(&y)
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The canonical y coordinates of the eight points of small order, little endian: 1 (order 1),
/// -1 (order 2), 0 (order 4), and the two of order 8.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    [
        0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];
