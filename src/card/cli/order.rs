//! What was asked of the appliance for a key on a card: kept until its certificate is on the card,
//! so that what was interrupted anywhere gives one certificate and no second. Nothing in it is secret.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use api::{CardAttestation, Issued, SmartcardRequest};
use card::{Slot, enrolment::Requested};
use client::{
    Client, environment,
    files::{FileError, write_public},
    random_key,
    session::is_passing,
};
use jiff::Timestamp;
use pki::{
    keys::PublicKey,
    names::Upn,
    x509::{csr::Csr, to_pem},
};
use serde::{Deserialize, Serialize};

use super::{choice::Chosen, failure::Failure};

/// For whom, and by what right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Terms {
    pub(super) upn: Upn,
    pub(super) role: String,
    pub(super) ttl: Option<u32>,
    pub(super) session: Option<String>,
    /// Whether the card's attestation is sent with it.
    pub(super) attested: bool,
}

/// An order, and where it is kept.
#[derive(Debug)]
pub(super) struct Order {
    path: PathBuf,
    kept: Kept,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// By which the appliance knows it again.
    idempotency_key: String,
    request: SmartcardRequest,
    /// Its answer, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued: Option<Issued>,
}

impl Order {
    /// The order for the key that is in the slot, if one is kept on these terms and still of use.
    pub(super) fn pending(
        chosen: &Chosen,
        slot: Slot,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Option<Self>, Failure> {
        let path = path(chosen, slot)?;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Failure::Read { path, source }),
        };
        let kept: Kept = serde_json::from_slice(&text)
            .map_err(|source| Failure::Order { path: path.clone(), source })?;
        let request = &kept.request;
        let is_for = request.upn == terms.upn
            && request.role == terms.role
            && request.ttl == terms.ttl
            && request.session == terms.session
            && request.attestation.is_some() == terms.attested;
        let is_over = kept.issued.as_ref().is_some_and(|issued| issued.not_after <= now);
        Ok((is_for && !is_over).then_some(Self { path, kept }))
    }

    /// A new order, which is kept before it is sent.
    pub(super) fn place(
        chosen: &Chosen,
        slot: Slot,
        terms: Terms,
        requested: &Requested,
    ) -> Result<Self, Failure> {
        let [statement, intermediate] = requested.attestation.each_ref().map(|der| to_pem(der));
        let request = SmartcardRequest {
            role: terms.role,
            csr: requested.request.clone(),
            upn: terms.upn,
            ttl: terms.ttl,
            session: terms.session,
            attestation: terms.attested.then_some(CardAttestation { statement, intermediate }),
        };
        let kept = Kept { idempotency_key: random_key()?, request, issued: None };
        let order = Self { path: path(chosen, slot)?, kept };
        order.keep()?;
        Ok(order)
    }

    /// Forgets what was ordered for a slot, whatever it was.
    pub(super) fn drop_any(chosen: &Chosen, slot: Slot) -> Result<(), Failure> {
        remove(&path(chosen, slot)?)
    }

    /// The key that it is for.
    pub(super) fn key(&self) -> Option<PublicKey> {
        Csr::from_pem(&self.kept.request.csr).ok().map(|csr| csr.public_key)
    }

    /// The certificate: as it came before, or as the appliance gives it now.
    pub(super) async fn fulfil(&mut self, client: &Client) -> Result<Issued, Failure> {
        if let Some(issued) = &self.kept.issued {
            return Ok(issued.clone());
        }
        let (request, key) = (&self.kept.request, &self.kept.idempotency_key);
        let issued = match client.issue_smartcard_once(request, key).await {
            Ok(issued) => issued,
            Err(error) => {
                // What the appliance refused is asked anew next time: things may have changed. What
                // it could not serve, it may have begun.
                if matches!(error, client::Error::Problem(_)) && !is_passing(&error) {
                    self.forget()?;
                }
                return Err(error.into());
            }
        };
        self.kept.issued = Some(issued.clone());
        self.keep()?;
        Ok(issued)
    }

    /// The certificate is on the card, or of no use.
    pub(super) fn forget(&self) -> Result<(), Failure> {
        remove(&self.path)
    }

    fn keep(&self) -> Result<(), Failure> {
        let written = |source| Failure::from(FileError::Write { path: self.path.clone(), source });
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory).map_err(written)?;
        }
        let text = serde_json::to_vec(&self.kept).map_err(client::Error::Encode)?;
        Ok(write_public(&self.path, &text)?)
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FileError::Write { path: path.to_owned(), source }.into())
        }
        _ => Ok(()),
    }
}

fn path(chosen: &Chosen, slot: Slot) -> Result<PathBuf, Failure> {
    let directory = environment::state_directory().ok_or(Failure::NoState)?;
    let serial = chosen.serial().map_or_else(|| "card".to_owned(), |serial| serial.to_string());
    Ok(directory.join("cards").join(format!("{serial}-{slot}.json")))
}
