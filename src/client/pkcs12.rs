//! A key with its certificates as PKCS#12 (RFC 7292), for programs that read no PEM.
//!
//! Written only, and in one way: the key under PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC
//! (RFC 8018), certificates as they are, integrity by HMAC-SHA256. That is what OpenSSL 3, GnuTLS
//! and Java 17 read without being asked for old algorithms.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey},
    digest::{self, SHA256},
    hmac, pbkdf2, rand,
};
use der::{
    Encode, EncodeValue, Sequence, Tagged,
    asn1::{Any, BmpString, Null, ObjectIdentifier, OctetString, SetOfVec},
};
use pki::secret::Secret;
use x509_cert::{attr::Attribute, spki::AlgorithmIdentifierOwned};
use zeroize::Zeroizing;

use crate::local_key::LocalKeyError;

/// What protects a file: ASCII, since readers disagree on how other characters become bytes.
#[derive(Clone, Debug)]
pub struct Password(Secret);

impl Password {
    /// Takes it, if every reader takes it for the same.
    ///
    /// # Errors
    ///
    /// It is empty, too long, or not ASCII alone.
    pub fn new(secret: Secret) -> Result<Self, &'static str> {
        let text = secret.expose();
        match matches!(text.len(), 1..=128) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        {
            true => Ok(Self(secret)),
            false => Err("a password of PKCS#12 is 1 to 128 printable ASCII characters"),
        }
    }
}

/// The file: `key` is PKCS#8; of the certificates, the first is the key's own. `name` is what
/// readers call it (Java: the alias; Windows: the friendly name).
///
/// # Errors
///
/// [`LocalKeyError::Generate`] or [`LocalKeyError::Encode`].
pub fn encode(
    key: &[u8],
    certificates: &[Vec<u8>],
    name: &str,
    password: &Password,
) -> Result<Vec<u8>, LocalKeyError> {
    let mut bags = vec![SafeBag {
        kind: SHROUDED_KEY_BAG,
        value: Any::encode_from(&shrouded(key, password)?)?,
        attributes: Some(attributes(name)?),
    }];
    for (place, certificate) in certificates.iter().enumerate() {
        let value = OctetString::new(certificate.as_slice())?;
        bags.push(SafeBag {
            kind: CERTIFICATE_BAG,
            value: Any::encode_from(&CertificateBag { kind: X509_CERTIFICATE, value })?,
            attributes: if place == 0 { Some(attributes(name)?) } else { None },
        });
    }
    let safe = vec![Content::of(bags.to_der()?)?].to_der()?;
    let file = Pfx { version: 3, mac: mac(&safe, password)?, safe: Content::of(safe)? };
    Ok(file.to_der()?)
}

/// Key and certificate have the same: readers find the pair by it.
fn attributes(name: &str) -> Result<SetOfVec<Attribute>, LocalKeyError> {
    let attribute =
        |oid, value: Any| -> der::Result<_> { Ok(Attribute { oid, values: [value].try_into()? }) };
    let id = Any::encode_from(&OctetString::new([1])?)?;
    let name = Any::encode_from(&BmpString::from_utf8(name)?)?;
    Ok([attribute(LOCAL_KEY_ID, id)?, attribute(FRIENDLY_NAME, name)?].try_into()?)
}

/// RFC 5958 section 3, EncryptedPrivateKeyInfo.
fn shrouded(key: &[u8], password: &Password) -> Result<Shrouded, LocalKeyError> {
    let salt: [u8; 16] = random()?;
    let mut secret = Zeroizing::new([0; 32]);
    let bytes = password.0.expose().as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, bytes, secret.as_mut_slice());
    let cipher = UnboundCipherKey::new(&AES_256, secret.as_slice());
    let cipher = cipher.and_then(PaddedBlockEncryptingKey::cbc_pkcs7);
    // With room for the padding, the plain text is not left behind in another place of memory.
    let mut data = Vec::with_capacity(key.len() + 16);
    data.extend_from_slice(key);
    let context = cipher.and_then(|cipher| cipher.encrypt(&mut data));
    let Ok(DecryptionContext::Iv128(iv)) = context else {
        return Err(LocalKeyError::Generate);
    };
    let derivation = Pbkdf2 {
        salt: OctetString::new(salt)?,
        iterations: ITERATIONS.get(),
        function: algorithm(HMAC_SHA256, &Null)?,
    };
    let scheme = Pbes2 {
        derivation: algorithm(PBKDF2, &derivation)?,
        encryption: algorithm(AES_256_CBC, &OctetString::new(*iv.as_ref())?)?,
    };
    Ok(Shrouded { algorithm: algorithm(PBES2, &scheme)?, data: OctetString::new(data)? })
}

fn mac(safe: &[u8], password: &Password) -> Result<Mac, LocalKeyError> {
    let salt: [u8; 16] = random()?;
    let key = mac_key(password, &salt, ITERATIONS);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), safe);
    let digest = DigestInfo {
        algorithm: algorithm(SHA_256, &Null)?,
        digest: OctetString::new(tag.as_ref())?,
    };
    Ok(Mac { digest, salt: OctetString::new(salt)?, iterations: ITERATIONS.get() })
}

/// RFC 7292 appendix B.2 with SHA-256: as many bytes as it gives are wanted, so that one round is
/// all there is.
fn mac_key(password: &Password, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<Vec<u8>> {
    // A BMPString with an end (appendix B.1).
    let text = password.0.expose().bytes().chain([0]);
    let text = Zeroizing::new(text.flat_map(|byte| [0, byte]).collect::<Vec<_>>());
    let mut hash = digest::Context::new(&SHA256);
    hash.update(&[MAC_KEY; BLOCK]);
    for part in [salt, &text] {
        let whole = part.len().next_multiple_of(BLOCK);
        let filled: Vec<_> = part.iter().copied().cycle().take(whole).collect();
        hash.update(&Zeroizing::new(filled));
    }
    let mut key = Zeroizing::new(hash.finish().as_ref().to_vec());
    for _ in 1..iterations.get() {
        key = Zeroizing::new(digest::digest(&SHA256, &key).as_ref().to_vec());
    }
    key
}

fn algorithm(
    oid: ObjectIdentifier,
    parameters: &(impl EncodeValue + Tagged),
) -> der::Result<AlgorithmIdentifierOwned> {
    Ok(AlgorithmIdentifierOwned { oid, parameters: Some(Any::encode_from(parameters)?) })
}

fn random() -> Result<[u8; 16], LocalKeyError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(bytes)
}

/// RFC 7292 section 4, PFX.
#[derive(Sequence)]
struct Pfx {
    version: u8,
    safe: Content,
    mac: Mac,
}

/// RFC 5652 section 3, ContentInfo of type `data`.
#[derive(Sequence)]
struct Content {
    kind: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    data: OctetString,
}

impl Content {
    fn of(data: Vec<u8>) -> der::Result<Self> {
        Ok(Self { kind: DATA, data: OctetString::new(data)? })
    }
}

/// RFC 7292 section 4.2.
#[derive(Sequence)]
struct SafeBag {
    kind: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    value: Any,
    #[asn1(optional = "true")]
    attributes: Option<SetOfVec<Attribute>>,
}

/// RFC 7292 section 4.2.3.
#[derive(Sequence)]
struct CertificateBag {
    kind: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    value: OctetString,
}

/// RFC 5958 section 3, EncryptedPrivateKeyInfo.
#[derive(Sequence)]
struct Shrouded {
    algorithm: AlgorithmIdentifierOwned,
    data: OctetString,
}

/// RFC 8018 appendix A.4, PBES2-params.
#[derive(Sequence)]
struct Pbes2 {
    derivation: AlgorithmIdentifierOwned,
    encryption: AlgorithmIdentifierOwned,
}

/// RFC 8018 appendix A.2, PBKDF2-params.
#[derive(Sequence)]
struct Pbkdf2 {
    salt: OctetString,
    iterations: u32,
    function: AlgorithmIdentifierOwned,
}

/// RFC 7292 section 4, MacData.
#[derive(Sequence)]
struct Mac {
    digest: DigestInfo,
    salt: OctetString,
    iterations: u32,
}

/// RFC 8017 appendix A.2.4.
#[derive(Sequence)]
struct DigestInfo {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

/// Some tens of milliseconds for each reader, and for the agent at each renewal.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// Block length of SHA-256.
const BLOCK: usize = 64;

/// What a derived key is for (RFC 7292 appendix B.3): integrity.
const MAC_KEY: u8 = 3;

const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
const CERTIFICATE_BAG: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const FRIENDLY_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.20");
const HMAC_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");
const LOCAL_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.21");
const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHROUDED_KEY_BAG: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
const X509_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        process::{Command, Output},
    };

    use rustls_pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;
    use crate::local_key::LocalKey;

    /// Longer than a block of SHA-256, once it is a BMPString.
    const PASSWORD: &str = "correct horse, \"battery\" staple: forty characters!";

    #[test]
    fn openssl_and_gnutls_find_the_key_and_its_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let key = LocalKey::generate().unwrap();
        fs::write(at("key"), key.private_pem().unwrap().as_bytes()).unwrap();
        for name in ["own", "issuer"] {
            let subject = format!("/CN={name}");
            let words = ["req", "-x509", "-days", "2", "-subj", &subject, "-key"];
            let made = openssl(&words, &[&at("key"), Path::new("-out"), &at(name)]);
            assert!(made.status.success(), "{made:?}");
        }
        let certificates =
            ["own", "issuer"].map(|name| CertificateDer::from_pem_file(at(name)).unwrap().to_vec());
        let password = Password::new(Secret::new(PASSWORD.to_owned())).unwrap();
        let file = encode(&key.private_der().unwrap(), &certificates, "deploy", &password).unwrap();
        fs::write(at("p12"), file).unwrap();

        let pass = format!("pass:{PASSWORD}");
        let read = openssl(&["pkcs12", "-nodes", "-passin", &pass, "-in"], &[&at("p12")]);
        let text = String::from_utf8(read.stdout).unwrap();
        assert_eq!(text.matches("friendlyName: deploy").count(), 2, "{text}");
        for name in ["key", "own", "issuer"] {
            assert!(text.contains(&fs::read_to_string(at(name)).unwrap()), "{name}: {text}");
        }
        let wrong = openssl(&["pkcs12", "-nodes", "-passin", "pass:other", "-in"], &[&at("p12")]);
        assert!(!wrong.status.success(), "the password is asked for");

        let text = certtool(&["--p12-info", "--inder"], &at("p12"));
        for name in ["own", "issuer"] {
            assert!(text.contains(&fs::read_to_string(at(name)).unwrap()), "{name}: {text}");
        }
        // It shows the key as it lies there, and reads it when it has that alone.
        let start = text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----").unwrap();
        let end = text.find("-----END ENCRYPTED PRIVATE KEY-----").unwrap() + 35;
        fs::write(at("encrypted"), &text[start..end]).unwrap();
        let plain = certtool(&["--key-info"], &at("key"));
        assert!(certtool(&["--key-info", "--pkcs8"], &at("encrypted")).ends_with(&plain));
    }

    #[test]
    fn a_password_is_the_same_to_every_reader() {
        for bad in ["", "pässword", "tab\t", &"a".repeat(129)] {
            assert!(Password::new(Secret::new(bad.to_owned())).is_err(), "{bad}");
        }
    }

    fn certtool(words: &[&str], file: &Path) -> String {
        let mut command = Command::new("certtool");
        command.args(words).args(["--password", PASSWORD, "--infile"]).arg(file);
        let read = command.output().unwrap();
        assert!(read.status.success(), "{read:?}");
        String::from_utf8(read.stdout).unwrap()
    }

    fn openssl(words: &[&str], files: &[&Path]) -> Output {
        Command::new("openssl").args(words).args(files).output().unwrap()
    }
}
