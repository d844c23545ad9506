//! What a ceremony has made so far: the same for a rehearsal, a performance, and a transcript read
//! back.

use std::collections::BTreeMap;

use pki::{
    seal::Prepared,
    serial::X509Serial,
    token::{IssuingKey, KeyRef, WrongPurpose, pkcs11::TokenIdentity},
    x509::{Issuer, IssuerError, Publication, Template, lint::Findings, profile::Profile},
};
use thiserror::Error;

use crate::{
    name::Name,
    plan::{AuthorityKind, Certificate},
};

/// Keys and certificates, by the plan's names.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The token that the keys are in.
    pub token: Option<TokenIdentity>,
    keys: BTreeMap<Name, KeyRef>,
    certificates: BTreeMap<Name, Vec<u8>>,
}

impl Made {
    /// Adds a key.
    pub fn add_key(&mut self, name: Name, key: KeyRef) {
        self.keys.insert(name, key);
    }

    /// Adds a certificate (DER).
    ///
    /// # Errors
    ///
    /// It is no CA's, or not for the key that the plan says.
    pub fn add_certificate(&mut self, plan: &Certificate, der: Vec<u8>) -> Result<(), MadeError> {
        let key = self.issuing_key(&plan.key)?;
        let issuer = Issuer::new(der, key, Publication::default())?;
        self.certificates.insert(plan.name.clone(), issuer.certificate_der().to_vec());
        Ok(())
    }

    /// A key.
    ///
    /// # Errors
    ///
    /// It was not made.
    pub fn key(&self, name: &Name) -> Result<&KeyRef, MadeError> {
        self.keys.get(name).ok_or_else(|| MadeError::Missing { what: "key", name: name.clone() })
    }

    /// The keys in the token.
    pub fn keys(&self) -> impl Iterator<Item = &KeyRef> {
        self.keys.values()
    }

    /// A certificate (DER).
    ///
    /// # Errors
    ///
    /// It was not made.
    pub fn certificate(&self, name: &Name) -> Result<&[u8], MadeError> {
        let missing = || MadeError::Missing { what: "certificate", name: name.clone() };
        self.certificates.get(name).map(Vec::as_slice).ok_or_else(missing)
    }

    /// Builds and lints the to-be-signed bytes of a certificate. `signer` is the plan of the
    /// certificate that signs it; `None` for a root.
    ///
    /// # Errors
    ///
    /// A key or the signer's certificate is missing, or the text breaks a rule of its profile.
    pub fn prepare(
        &self,
        plan: &Certificate,
        signer: Option<&Certificate>,
        serial: X509Serial,
    ) -> Result<Prepared, MadeError> {
        let template = Template {
            serial,
            subject: Some(plan.subject.clone()),
            public_key: self.key(&plan.key)?.public_key.clone(),
            not_before: plan.not_before,
            not_after: plan.not_after,
            profile: profile(&plan.kind),
            policies: Vec::new(),
        };
        let lint = |findings| MadeError::Lint { certificate: plan.name.clone(), findings };
        self.issuer(plan, signer)?.prepare(template).map_err(lint)
    }

    fn issuer(
        &self,
        plan: &Certificate,
        signer: Option<&Certificate>,
    ) -> Result<Issuer, MadeError> {
        let Some(signer) = signer else {
            let key = self.issuing_key(&plan.key)?;
            return Ok(Issuer::self_signed(plan.subject.clone(), key));
        };
        let key = self.issuing_key(&signer.key)?;
        let certificate = self.certificate(&signer.name)?.to_vec();
        Ok(Issuer::new(certificate, key, signer.publication.clone())?)
    }

    fn issuing_key(&self, name: &Name) -> Result<IssuingKey, MadeError> {
        Ok(IssuingKey::new(self.key(name)?.clone())?)
    }
}

fn profile(kind: &AuthorityKind) -> Profile {
    match kind {
        AuthorityKind::Issuing { path_length, .. } => Profile::Issuing { path_len: *path_length },
        AuthorityKind::Root { path_length } => Profile::Root { path_len: *path_length },
    }
}

/// Something cannot be made, or is not what the plan says.
#[derive(Debug, Error)]
pub enum MadeError {
    /// The certificate cannot be an issuer's.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The to-be-signed text breaks rules.
    #[error("certificate {certificate} would break rules: {findings}")]
    Lint {
        /// Which.
        certificate: Name,
        /// How.
        findings: Findings,
    },
    /// It was not made.
    #[error("the {what} {name} was not made")]
    Missing {
        /// A key or a certificate.
        what: &'static str,
        /// The plan's name of it.
        name: Name,
    },
    /// The key's label says another purpose.
    #[error(transparent)]
    Purpose(#[from] WrongPurpose),
}
