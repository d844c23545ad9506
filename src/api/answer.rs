use jiff::Timestamp;
use pki::{keys::SignatureScheme, seal::Kind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CardKey, LogonAccount, Problem, RevocationReason};

/// A certificate that was issued.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Issued {
    /// Of which kind.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// The authority that signed it.
    pub issuer: String,
    /// Decimal for SSH, 32 hexadecimal digits for X.509.
    pub serial: String,
    /// First second of validity.
    #[schema(value_type = String)]
    pub not_before: Timestamp,
    /// Last second of validity.
    #[schema(value_type = String)]
    pub not_after: Timestamp,
    /// PEM, or the line of an OpenSSH `-cert.pub` file.
    pub certificate: String,
    /// PEM of the CA certificates, the issuer's first, without the root; empty for SSH.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
}

/// A signature over a digest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Signed {
    /// The name of the key.
    pub key: String,
    /// The signature algorithm with its hash.
    #[schema(value_type = String)]
    pub scheme: SignatureScheme,
    /// Base64: DER `ECDSA-Sig-Value` for ECDSA (RFC 3279 section 2.2.3), else the signature itself.
    pub signature: String,
    /// PEM `PUBLIC KEY` that it verifies under.
    pub public_key: String,
}

/// What became of one line of a batch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct BatchResult {
    /// The line's number, from 0.
    pub index: usize,
    /// The HTTP status that a single request would have got.
    pub status: u16,
    /// What it got.
    #[serde(flatten)]
    pub outcome: BatchOutcome,
}

/// Exactly one of the answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its answer")]
pub enum BatchOutcome {
    Issued(Issued),
    Problem(Problem),
    Signed(Signed),
}

/// A certificate as the ledger has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct CertificateRecord {
    /// Position in the ledger; grows.
    pub id: u64,
    /// Of which kind.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// The authority that signed it.
    pub issuer: String,
    /// Decimal for SSH, 32 hexadecimal digits for X.509.
    pub serial: String,
    /// Distinguished name, or SSH key id.
    pub subject: String,
    /// SANs, or SSH principals.
    pub names: Vec<String>,
    /// SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal.
    pub key_fingerprint: String,
    /// First second of validity.
    #[schema(value_type = String)]
    pub not_before: Timestamp,
    /// Last second of validity.
    #[schema(value_type = String)]
    pub not_after: Timestamp,
    /// When it was released.
    #[schema(value_type = String)]
    pub issued_at: Timestamp,
    /// Who asked.
    pub caller: String,
    /// The role that granted it.
    pub role: String,
    /// The session that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub revoked_at: Option<Timestamp>,
    /// Why, as CRLs and OCSP answers say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RevocationReason>,
    /// What the card has said of the key, if it has attested it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<CardKey>,
    /// The account that it logs on to, of a certificate for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<LogonAccount>,
    /// PEM, or the line of an OpenSSH `-cert.pub` file.
    pub certificate: String,
}

/// Certificates in the order in which they were issued.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct CertificatePage {
    /// The certificates.
    pub certificates: Vec<CertificateRecord>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// The authorities that this appliance signs for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Authorities {
    /// By name, X.509 first.
    pub authorities: Vec<Authority>,
}

/// One authority.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Authority {
    /// A key for raw digests.
    Raw {
        /// Its name.
        name: String,
        /// PEM `PUBLIC KEY`.
        public_key: String,
    },
    /// Signs SSH host certificates.
    SshHost {
        /// Its name.
        name: String,
        /// OpenSSH public key line, for `@cert-authority` in known_hosts.
        public_key: String,
    },
    /// Signs SSH user certificates.
    SshUser {
        /// Its name.
        name: String,
        /// OpenSSH public key line, for `TrustedUserCAKeys`.
        public_key: String,
    },
    /// Signs X.509 certificates.
    X509 {
        /// Its name.
        name: String,
        /// PEM of its certificates: its own first, the root last.
        chain: Vec<String>,
        /// Where certificates of this authority say that its CRL is; absent if they do not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crl_url: Option<String>,
    },
}
