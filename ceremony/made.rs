//! What a ceremony has made so far: the same for a rehearsal, a performance, and a transcript read
//! back.

use std::collections::{BTreeMap, BTreeSet};

use pki::{
    keys::PublicKey,
    seal::Prepared,
    serial::X509Serial,
    token::{
        IssuingKey, KeyId, KeyLabel, KeyRef, ParseKeyNameError, Purpose, TokenError, WrongPurpose,
        pkcs11::TokenIdentity,
    },
    x509::{Issuer, IssuerError, Publication, Template, lint::Findings, profile::Profile},
};
use thiserror::Error;

use crate::{
    custody::Use,
    digest::Digest,
    name::Name,
    plan::{AuthorityKind, Certificate},
    shares::{HandedOut, SetId, ShareSet, State},
};

/// Keys and certificates, by the plan's names.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The token that the keys are in.
    pub token: Option<TokenIdentity>,
    /// Whether certificates are marked so that nobody can use them.
    pub poisons: bool,
    /// Certificate requests (PEM) that were made here.
    pub requests: BTreeMap<Name, String>,
    /// Revocation lists (DER).
    pub crls: BTreeMap<Name, Vec<u8>>,
    keys: BTreeMap<Name, KeyRef>,
    /// Keys of other machines.
    foreign: BTreeMap<Name, PublicKey>,
    certificates: BTreeMap<Name, Vec<u8>>,
    /// The tokens that have copies of keys.
    copies: BTreeMap<Name, TokenIdentity>,
    /// The sets of shares that custodians have.
    sets: BTreeMap<Name, HandedOut>,
    /// Which of them give the token's PINs.
    in_force: BTreeMap<Use, Name>,
}

impl Made {
    /// Nothing yet.
    pub fn new(poisons: bool) -> Self {
        Self { poisons, ..Self::default() }
    }

    /// Adds a set of shares that was handed out; one of the same name is void.
    pub fn add_set(&mut self, name: Name, set: ShareSet) {
        self.sets.insert(name, HandedOut { set, state: State::Given });
    }

    /// A set of shares.
    pub fn set(&self, name: &Name) -> Option<&HandedOut> {
        self.sets.get(name)
    }

    /// All sets of shares.
    pub fn sets(&self) -> impl Iterator<Item = (&Name, &HandedOut)> {
        self.sets.iter()
    }

    /// The sets that hold: all but those that an interruption made doubtful.
    pub fn held_sets(&self) -> BTreeSet<SetId> {
        let held = self.sets.values().filter(|it| it.state != State::Doubtful);
        held.map(|it| it.set.terms.set).collect()
    }

    /// Every custodian of a set read their share back.
    pub fn verified(&mut self, name: &Name) {
        if let Some(handed_out) = self.sets.get_mut(name) {
            handed_out.state = State::Verified;
        }
    }

    /// A set gives a PIN of the token.
    pub fn put_in_force(&mut self, name: &Name) {
        if let Some(handed_out) = self.sets.get(name) {
            self.in_force.insert(Use::of(handed_out.set.terms.purpose), name.clone());
        }
    }

    /// The set that gives a PIN of the token; none, if the PIN is the one that it was.
    pub fn set_in_force(&self, wanted: Use) -> Option<&ShareSet> {
        self.in_force.get(&wanted).and_then(|name| self.sets.get(name)).map(|it| &it.set)
    }

    /// The ceremony was interrupted: what was not read back until now may be anybody's.
    pub fn doubt_shares(&mut self) {
        for handed_out in self.sets.values_mut().filter(|it| it.state == State::Given) {
            handed_out.state = State::Doubtful;
        }
    }

    /// Adds a key in the token.
    pub fn add_key(&mut self, name: Name, key: KeyRef) {
        self.keys.insert(name, key);
    }

    /// Adds a key of another machine.
    pub fn add_foreign(&mut self, name: Name, key: PublicKey) {
        self.foreign.insert(name, key);
    }

    /// Adds a certificate (DER).
    ///
    /// # Errors
    ///
    /// It is no CA's, or not for the key that the plan says.
    pub fn add_certificate(&mut self, plan: &Certificate, der: Vec<u8>) -> Result<(), MadeError> {
        let key = self.issuing_key(&plan.key)?;
        let issuer = self.certified(der, key, Publication::default())?;
        self.certificates.insert(plan.name.clone(), issuer.certificate_der().to_vec());
        Ok(())
    }

    /// A copy of a key is in this token.
    pub fn add_copy(&mut self, name: Name, token: TokenIdentity) {
        self.copies.insert(name, token);
    }

    /// The token that has a copy of a key, if one does.
    pub fn copy(&self, name: &Name) -> Option<&TokenIdentity> {
        self.copies.get(name)
    }

    /// The keys that this token has, by what was made: the token itself, or one with copies.
    pub fn keys_in(&self, token: &TokenIdentity) -> Vec<&KeyRef> {
        if self.token.as_ref() == Some(token) {
            return self.keys.values().collect();
        }
        let copied = self.copies.iter().filter(|(_, it)| *it == token);
        copied.filter_map(|(name, _)| self.keys.get(name)).collect()
    }

    /// Takes a key out that was destroyed.
    pub fn remove_key(&mut self, name: &Name) {
        self.keys.remove(name);
    }

    /// A key in the token.
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

    /// The public half of a key, wherever the key is.
    ///
    /// # Errors
    ///
    /// It was neither made nor taken in.
    pub fn public_key(&self, name: &Name) -> Result<&PublicKey, MadeError> {
        match self.foreign.get(name) {
            Some(key) => Ok(key),
            None => Ok(&self.key(name)?.public_key),
        }
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
            public_key: self.public_key(&plan.key)?.clone(),
            not_before: plan.not_before,
            not_after: plan.not_after,
            profile: profile(&plan.kind),
            policies: Vec::new(),
        };
        let lint = |findings| MadeError::Lint { name: plan.name.clone(), findings };
        self.issuer(plan, signer)?.prepare(template).map_err(lint)
    }

    /// Who signs a certificate: itself, or the CA of the certificate that is its signer.
    ///
    /// # Errors
    ///
    /// A key or the signer's certificate is missing.
    pub fn issuer(
        &self,
        plan: &Certificate,
        signer: Option<&Certificate>,
    ) -> Result<Issuer, MadeError> {
        match signer {
            Some(signer) => self.authority(signer),
            None => {
                let key = self.issuing_key(&plan.key)?;
                let issuer = Issuer::self_signed(plan.subject.clone(), key);
                Ok(if self.poisons { issuer.rehearsing() } else { issuer })
            }
        }
    }

    /// A CA with its certificate.
    ///
    /// # Errors
    ///
    /// Its key or its certificate is missing.
    pub fn authority(&self, plan: &Certificate) -> Result<Issuer, MadeError> {
        let key = self.issuing_key(&plan.key)?;
        let certificate = self.certificate(&plan.name)?.to_vec();
        Ok(self.certified(certificate, key, plan.publication.clone())?)
    }

    fn certified(
        &self,
        der: Vec<u8>,
        key: IssuingKey,
        publication: Publication,
    ) -> Result<Issuer, IssuerError> {
        if self.poisons {
            Issuer::rehearsed(der, key, publication)
        } else {
            Issuer::new(der, key, publication)
        }
    }

    /// A key of another machine gets a label and a CKA_ID that no key in the token has, so that
    /// nothing is ever signed with it here.
    fn issuing_key(&self, name: &Name) -> Result<IssuingKey, MadeError> {
        let key = match self.foreign.get(name) {
            Some(public_key) => {
                let (label, id) = foreign(name)?;
                KeyRef { label, id, public_key: public_key.clone() }
            }
            None => self.key(name)?.clone(),
        };
        Ok(IssuingKey::new(key)?)
    }
}

/// Label and CKA_ID of a key of another machine.
pub(crate) fn foreign(name: &Name) -> Result<(KeyLabel, KeyId), ParseKeyNameError> {
    let digest = Digest::of("chancery-ceremony-foreign-key-v1", &[name.as_str().as_bytes()]);
    Ok((KeyLabel::new(Purpose::Issuing, name.as_str())?, KeyId::new(&digest.as_bytes()[..20])?))
}

fn profile(kind: &AuthorityKind) -> Profile {
    match kind {
        AuthorityKind::Cross { path_length, .. } | AuthorityKind::Issuing { path_length, .. } => {
            Profile::Issuing { path_len: *path_length }
        }
        AuthorityKind::Root { path_length } => Profile::Root { path_len: *path_length },
    }
}

/// Something cannot be made, or is not what the plan says.
#[derive(Debug, Error)]
pub enum MadeError {
    /// The certificate cannot be an issuer's.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A key has a name that cannot be a label.
    #[error(transparent)]
    Label(#[from] ParseKeyNameError),
    /// The to-be-signed text breaks rules.
    #[error("{name} would break rules: {findings}")]
    Lint {
        /// The certificate or list.
        name: Name,
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
    /// A request cannot be made of the key and the name.
    #[error(transparent)]
    Request(#[from] pki::x509::csr::CsrError),
    /// There is no key that stands in for another machine's.
    #[error(transparent)]
    StandIn(#[from] TokenError),
}
