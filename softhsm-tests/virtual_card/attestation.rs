//! Attestations: certificates that say of a key that the card made it.

use aws_lc_rs::{
    rand,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};

use super::{
    Status,
    key::{Key, P256, integer},
    management_key::NEVER,
    tlv::tlv,
};

/// The attestation key (F9) with its certificate, and the root that it leads to.
#[derive(Debug)]
pub(super) struct Attestation {
    key: Key,
    pub(super) certificate: Vec<u8>,
    pub(super) root: Vec<u8>,
}

impl Attestation {
    pub(super) fn new() -> Result<Self, Status> {
        let root_key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| Status::WRONG_DATA)?;
        let point = [&[0], root_key.public_key().as_ref()].concat();
        let info = tlv(0x30, &[ALGORITHM_P256.to_vec(), tlv(0x03, &point)].concat());
        let sign = |text: &[u8]| {
            let signature = root_key.sign(&rand::SystemRandom::new(), text);
            Ok(signature.map_err(|_| Status::WRONG_DATA)?.as_ref().to_vec())
        };
        let root = certificate(ROOT, ROOT, &info, &[authority()], sign)?;
        let key = Key::generate(P256, NEVER, NEVER)?;
        let info = key.public_key_info()?;
        let intermediate = certificate(ROOT, INTERMEDIATE, &info, &[authority()], sign)?;
        Ok(Self { key, certificate: intermediate, root })
    }

    /// The certificate of a key that the card made, with Yubico's extensions.
    pub(super) fn attest(
        &self,
        slot: u8,
        key: &Key,
        version: [u8; 3],
        serial: u32,
    ) -> Result<Vec<u8>, Status> {
        let extensions = [
            extension(&yubico(3), &version),
            extension(&yubico(7), &integer(&serial.to_be_bytes())),
            extension(&yubico(8), &key.policies()),
            extension(&yubico(9), &[USB_A_KEYCHAIN]),
        ];
        let subject = format!("YubiKey PIV Attestation {slot:02x}");
        certificate(INTERMEDIATE, &subject, &key.public_key_info()?, &extensions, |text| {
            self.key.sign(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text).as_ref())
        })
    }
}

/// A certificate (RFC 5280 section 4.1) by ECDSA with SHA-256.
fn certificate(
    issuer: &str,
    subject: &str,
    public_key_info: &[u8],
    extensions: &[Vec<u8>],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Status>,
) -> Result<Vec<u8>, Status> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| Status::WRONG_DATA)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let text = tlv(
        0x30,
        &[
            tlv(0xa0, &integer(&[2])),
            integer(&serial),
            ECDSA_WITH_SHA256.to_vec(),
            name(issuer),
            tlv(0x30, &[tlv(0x17, NOT_BEFORE), tlv(0x18, NOT_AFTER)].concat()),
            name(subject),
            public_key_info.to_vec(),
            tlv(0xa3, &tlv(0x30, &extensions.concat())),
        ]
        .concat(),
    );
    let signature = [&[0], sign(&text)?.as_slice()].concat();
    Ok(tlv(0x30, &[text, ECDSA_WITH_SHA256.to_vec(), tlv(0x03, &signature)].concat()))
}

fn name(common_name: &str) -> Vec<u8> {
    let attribute = [OID_COMMON_NAME.to_vec(), tlv(0x0c, common_name.as_bytes())].concat();
    tlv(0x30, &tlv(0x31, &tlv(0x30, &attribute)))
}

/// BasicConstraints: a CA.
fn authority() -> Vec<u8> {
    extension(OID_BASIC_CONSTRAINTS, &tlv(0x30, &[0x01, 0x01, 0xff]))
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x06, oid), tlv(0x04, value)].concat())
}

/// 1.3.6.1.4.1.41482.3.N: Yubico's extensions of attestations.
fn yubico(number: u8) -> Vec<u8> {
    [OID_YUBICO_PIV, &[number]].concat()
}

const ROOT: &str = "Virtual PIV Root CA";
const INTERMEDIATE: &str = "Virtual PIV Attestation";
const NOT_BEFORE: &[u8] = b"160314000000Z";
const NOT_AFTER: &[u8] = b"20520417000000Z";
const USB_A_KEYCHAIN: u8 = 1;
const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const ALGORITHM_P256: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const OID_BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
const OID_COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
const OID_YUBICO_PIV: &[u8] = b"\x2b\x06\x01\x04\x01\x82\xc4\x0a\x03";
