//! Prepare, sign, seal: the three steps of everything that is signed.

use jiff::Timestamp;
use thiserror::Error;

use crate::{
    keys::{Signature, SignatureScheme},
    serial::Serial,
    ssh,
    token::SigningKey,
    x509,
};

/// To-be-signed bytes that passed their lints, and the key that is to sign them.
///
/// `S` is what they say: a [`Summary`] of a certificate, or what a list or a statement says of
/// itself. Only the formats of this crate make one. It is used up by [`seal`](Self::seal): one
/// preparation gives one certificate, one list, one statement.
///
/// ```compile_fail
/// # fn twice(prepared: pki::seal::Prepared, a: pki::keys::Signature, b: pki::keys::Signature) {
/// let first = prepared.seal(a);
/// let second = prepared.seal(b); // error: use of moved value
/// # }
/// ```
#[derive(Debug)]
pub struct Prepared<S = Summary> {
    bytes: Vec<u8>,
    envelope: Envelope,
    key: SigningKey,
    scheme: SignatureScheme,
    summary: S,
}

impl<S> Prepared<S> {
    /// Only a format that built and linted the bytes may call this.
    pub(crate) fn new(
        key: impl Into<SigningKey>,
        scheme: SignatureScheme,
        bytes: Vec<u8>,
        envelope: Envelope,
        summary: S,
    ) -> Self {
        Self { bytes, envelope, key: key.into(), scheme, summary }
    }

    /// The key that is to sign.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The scheme to sign with.
    pub fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    /// The to-be-signed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the certificate, list or statement will say.
    pub fn summary(&self) -> &S {
        &self.summary
    }

    /// Verifies the signature under the signer's key and assembles the whole.
    ///
    /// # Errors
    ///
    /// The signature does not verify: the token lied, and nothing may leave.
    pub fn seal(self, signature: Signature) -> Result<Sealed<S>, Rejected<S>> {
        let key = &self.key.key().public_key;
        if key.verify(self.scheme, &self.bytes, &signature).is_err() {
            return Err(Rejected(Box::new(self)));
        }
        let bytes = match self.envelope {
            Envelope::Asn1 => x509::assemble(&self.bytes, self.scheme, &signature),
            Envelope::Detached => x509::encode_signature(self.scheme, &signature),
            Envelope::Ocsp { certificate_der } => {
                x509::ocsp::assemble(&self.bytes, self.scheme, &signature, &certificate_der)
            }
            Envelope::Ssh => ssh::assemble(&self.bytes, self.scheme, &signature),
        };
        Ok(Sealed { bytes, summary: self.summary })
    }
}

/// A signature did not verify; here is the preparation again, to be signed once more or dropped.
#[derive(Debug, Error)]
#[error("the signature does not verify under the public key")]
pub struct Rejected<S = Summary>(pub Box<Prepared<S>>);

/// A signed certificate, list or statement whose signature was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed<S = Summary> {
    bytes: Vec<u8>,
    summary: S,
}

impl<S> Sealed<S> {
    /// The whole: DER of a certificate, list or response, the SSH wire form of a certificate (the
    /// blob that OpenSSH writes in base64), or a statement's signature alone.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the certificate, list or statement says.
    pub fn summary(&self) -> &S {
        &self.summary
    }
}

/// What the ledger and the audit log say of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// What kind of certificate it is.
    pub kind: Kind,
    /// Unique per issuing key.
    pub serial: Serial,
    /// For whom: the subject's distinguished name (RFC 4514), or the SSH key id.
    pub subject: String,
    /// The names in it: SAN entries in their order (`DNS:…`, `IP:…`, `KRB5:…`, `UPN:…`, `URI:…`)
    /// and a smart card's `SID:…`, or SSH principals.
    pub names: Vec<String>,
    /// SHA-256 of the certified key's SubjectPublicKeyInfo, hexadecimal.
    pub key_fingerprint: String,
    /// The first second of its validity.
    pub not_before: Timestamp,
    /// The last second of its validity.
    pub not_after: Timestamp,
}

/// The kinds of certificates, by the name of their profile.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A subordinate CA.
    Issuing,
    /// A domain controller's Kerberos key distribution centre.
    Kdc,
    /// The signer of an issuer's OCSP responses.
    OcspSigner,
    /// A self-signed CA.
    Root,
    /// A Windows smart-card logon.
    SmartcardLogon,
    /// An SSH host.
    SshHost,
    /// An SSH user.
    SshUser,
    /// A TLS client, named by a SPIFFE id.
    TlsClient,
    /// A TLS server.
    TlsServer,
}

/// How the signature joins the to-be-signed bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Envelope {
    /// `SIGNED{…}`: SEQUENCE of the bytes, AlgorithmIdentifier, BIT STRING (RFC 5280 section 4.1).
    Asn1,
    /// The signature alone, as X.509 writes it: the text is carried beside it.
    Detached,
    /// An OCSPResponse of the bytes, the signature and the signer's certificate (RFC 6960 section
    /// 4.2.1).
    Ocsp { certificate_der: Vec<u8> },
    /// The bytes, then the signature as an SSH string (PROTOCOL.certkeys).
    Ssh,
}
