//! Signature algorithms and signature values as X.509 writes them.

use der::{Decode, Sequence, asn1::UintRef};

use crate::keys::{KeyAlgorithm, Signature, SignatureScheme};

/// The DER AlgorithmIdentifier of a scheme, with the parameters that RFC 4055 (RSA), RFC 5758
/// (ECDSA) and RFC 8410 (Ed25519) demand.
pub(crate) fn identifier(scheme: SignatureScheme) -> &'static [u8] {
    match scheme {
        SignatureScheme::EcdsaP256Sha256 => &ECDSA_SHA256,
        SignatureScheme::EcdsaP384Sha384 => &ECDSA_SHA384,
        SignatureScheme::Ed25519 => &ED25519,
        SignatureScheme::RsaPkcs1Sha256 => const { &rsa_pkcs1(0x0b) },
        SignatureScheme::RsaPkcs1Sha384 => const { &rsa_pkcs1(0x0c) },
        SignatureScheme::RsaPkcs1Sha512 => const { &rsa_pkcs1(0x0d) },
        SignatureScheme::RsaPssSha256 => const { &rsa_pss(0x01, 32) },
        SignatureScheme::RsaPssSha384 => const { &rsa_pss(0x02, 48) },
        SignatureScheme::RsaPssSha512 => const { &rsa_pss(0x03, 64) },
    }
}

/// The scheme that a DER AlgorithmIdentifier names; `None` for any that is not made or verified
/// here, SHA-1 and PSS with odd parameters among them.
pub(crate) fn scheme(identifier_der: &[u8]) -> Option<SignatureScheme> {
    SCHEMES.into_iter().find(|&scheme| identifier(scheme) == identifier_der)
}

/// A signature value as it stands in the BIT STRING: ECDSA as `SEQUENCE { r, s }` (RFC 5758
/// section 3.2), the others as they are.
pub fn encode_signature(scheme: SignatureScheme, signature: &Signature) -> Vec<u8> {
    match scheme {
        SignatureScheme::EcdsaP256Sha256 | SignatureScheme::EcdsaP384Sha384 => {
            let (r, s) = signature.0.split_at(signature.0.len() / 2);
            tlv(SEQUENCE, &[unsigned_integer(r), unsigned_integer(s)].concat())
        }
        _ => signature.0.clone(),
    }
}

/// The reverse of [`encode_signature`]; `None` when it is not DER or its numbers are too long for
/// the key.
pub fn decode_signature(algorithm: KeyAlgorithm, value: &[u8]) -> Option<Signature> {
    let width = match algorithm {
        KeyAlgorithm::EcP256 => 32,
        KeyAlgorithm::EcP384 => 48,
        _ => return Some(Signature(value.to_vec())),
    };
    let EcdsaSignature { r, s } = EcdsaSignature::from_der(value).ok()?;
    let mut fixed = vec![0; 2 * width];
    for (number, end) in [(r, width), (s, 2 * width)] {
        let bytes = number.as_bytes();
        let room = fixed.get_mut(end - width..end)?;
        room.get_mut(width.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    }
    Some(Signature(fixed))
}

/// One DER element with a definite length.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    let mut element = Vec::with_capacity(content.len() + 10);
    element.push(tag);
    match significant {
        [] => element.push(0),
        [short @ ..=0x7f] => element.push(*short),
        long => {
            // At most 8 bytes, so that the count fits the low bits (X.690 section 8.1.3.5).
            element.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            element.extend_from_slice(long);
        }
    }
    element.extend_from_slice(content);
    element
}

pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// A DER INTEGER out of big-endian bytes: shortest form, positive (X.690 section 8.3).
fn unsigned_integer(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|&&byte| byte == 0).count();
    let mut content = vec![0];
    content.extend_from_slice(&big_endian[zeros..]);
    if content.get(1).is_some_and(|&first| first < 0x80) {
        content.remove(0);
    }
    tlv(INTEGER, &content)
}

const SCHEMES: [SignatureScheme; 9] = [
    SignatureScheme::EcdsaP256Sha256,
    SignatureScheme::EcdsaP384Sha384,
    SignatureScheme::Ed25519,
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPkcs1Sha512,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::RsaPssSha384,
    SignatureScheme::RsaPssSha512,
];

/// ecdsa-with-SHA256 and its like take no parameters (RFC 5758 section 3.2).
pub(crate) const ECDSA_SHA256: [u8; 12] = ecdsa(0x02);
const ECDSA_SHA384: [u8; 12] = ecdsa(0x03);
/// id-Ed25519 takes none either (RFC 8410 section 3).
const ED25519: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

const fn ecdsa(last_arc: u8) -> [u8; 12] {
    [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last_arc]
}

/// The parameters are NULL (RFC 4055 section 5).
const fn rsa_pkcs1(last_arc: u8) -> [u8; 15] {
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last_arc, 0x05, 0x00]
}

/// id-RSASSA-PSS with hash, MGF1 of the same hash and the salt's length (RFC 4055 section 3.1).
const fn rsa_pss(hash: u8, salt_len: u8) -> [u8; 67] {
    [
        0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34,
        // hashAlgorithm [0]
        0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, hash,
        0x05, 0x00, // maskGenAlgorithm [1]
        0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08,
        0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, hash, 0x05, 0x00,
        // saltLength [2]
        0xa2, 0x03, 0x02, 0x01, salt_len,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (len, header) in [
            (0, vec![4, 0]),
            (127, vec![4, 127]),
            (128, vec![4, 0x81, 128]),
            (256, vec![4, 0x82, 1, 0]),
            (65_536, vec![4, 0x83, 1, 0, 0]),
        ] {
            let element = tlv(4, &vec![7; len]);
            assert_eq!(element[..header.len()], header);
            assert_eq!(element.len(), header.len() + len);
        }
    }

    #[test]
    fn ecdsa_signatures_survive_the_way_there_and_back() {
        let mut short = vec![0; 64];
        short[31] = 1;
        short[63] = 0x80;
        for raw in [vec![0xff; 64], vec![0x7f; 64], short] {
            let raw = Signature(raw);
            let der = encode_signature(SignatureScheme::EcdsaP256Sha256, &raw);
            assert_eq!(decode_signature(KeyAlgorithm::EcP256, &der), Some(raw));
        }
        let long = encode_signature(SignatureScheme::EcdsaP384Sha384, &Signature(vec![0xff; 96]));
        assert_eq!(decode_signature(KeyAlgorithm::EcP256, &long), None);
        assert_eq!(decode_signature(KeyAlgorithm::EcP256, &[0x30, 0]), None);
    }

    #[test]
    fn every_scheme_is_read_back_from_its_identifier() {
        for known in SCHEMES {
            assert_eq!(scheme(identifier(known)), Some(known));
        }
    }
}
