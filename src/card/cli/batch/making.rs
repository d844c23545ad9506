//! One card of a batch: which person's it is, and all that is done to it.

use card::{
    CardError, Credentials, Escrow, EscrowError, ManagementAccess, Pin, ReaderName, code,
    enrolment::{Content, Wanted as WantedKey, read_certificate},
    init::{InitError, Wanted, WantedPuk, init, release},
};
use client::session::is_passing;
use pki::{
    clock::{Clock, SystemClock},
    secret::Secret,
    x509::{Certificate, logon::LogonCertificate},
};

use super::{Work, error::BatchError, people::Person, results::State};
use crate::cli::{appliance::certify, choice::Chosen, failure::Failure};

/// What a failure stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// The card is away, and can be gone on with.
    Card,
    /// This person.
    Person,
    /// All: the next would fare the same.
    Stop,
}

impl Work<'_> {
    /// Whose the card in a reader is, and that it is fit for it. Nothing is changed.
    ///
    /// # Errors
    ///
    /// It is nobody's of this batch, or is not as it comes from the factory.
    pub(super) fn look_at(&self, reader: &ReaderName) -> Result<(usize, Chosen, u32), Failure> {
        let chosen = Chosen::in_reader(reader)?;
        let doing = "knowing the card again";
        let old = CardError::NotSupported { doing, since: "5.3" };
        let serial = chosen.serial().ok_or(old)?;
        let person = self.whose(serial)?;
        if self.card_of(person) != Some(serial) {
            self.refuse_used(&chosen, serial, self.people[person].slot)?;
        }
        Ok((person, chosen, serial))
    }

    /// The person of a card: whose it was begun for, who is to have it by the file, or the next.
    fn whose(&self, serial: u32) -> Result<usize, BatchError> {
        if let Some(owner) = self.results.owner(serial) {
            return Err(BatchError::Given { serial, upn: owner.to_string() });
        }
        let open = || (0..self.people.len()).filter(|person| self.is_open(*person));
        let free = || open().filter(|person| self.card_of(*person).is_none());
        let expects = |person: usize| self.people[person].serial;
        let next =
            || free().find(|person| expects(*person).is_none() && !self.failed.contains(person));
        open()
            .find(|person| self.card_of(*person) == Some(serial))
            .or_else(|| free().find(|person| expects(*person) == Some(serial)))
            .or_else(next)
            .ok_or(BatchError::NotWaitedFor(serial))
    }

    /// A card that was not begun for the person is as it comes from the factory, or was begun for
    /// somebody who is not in the file any longer.
    fn refuse_used(&self, chosen: &Chosen, serial: u32, slot: card::Slot) -> Result<(), Failure> {
        let (is_new, is_free) = chosen.with(|card| {
            let is_new = card.pin_metadata()?.default
                && card.puk_metadata()?.default
                && card.management_key_metadata()?.default;
            Ok((is_new, Content::of(card, slot)?.certificate.is_none()))
        })?;
        match is_free && (is_new || self.letters.pin(serial)?.is_some()) {
            true => Ok(()),
            false => Err(BatchError::Used(serial).into()),
        }
    }

    /// Makes a card: each step looks first whether it is done already.
    pub(super) async fn make(
        &mut self,
        person: usize,
        chosen: &Chosen,
        serial: u32,
    ) -> Result<State, Failure> {
        let (terms, now) = (self.terms(person)?, SystemClock.now());
        let person = self.people[person].clone();
        // 1. Whose card it is, before it is changed.
        let was_begun = self.results.card_of(&person.upn) == Some(serial);
        if !was_begun {
            self.note(&person, Some(serial), State::Begun)?;
        }
        // 2. The letter, before the card has the PIN.
        let pin_is_default = chosen.with(|card| Ok(card.pin_metadata()?.default))?;
        let known = match was_begun || !pin_is_default {
            true => self.letters.pin(serial)?,
            // Of a letter to somebody who had the card before, the PIN is not taken.
            false => None,
        };
        let pin = match known {
            Some(pin) => pin,
            None if pin_is_default => code()?,
            None => return Err(self.no_letter(serial)),
        };
        self.letters.write(&person, serial, &pin, now)?;
        // 3. The secrets. The card keeps its management key as long as it is written to.
        let escrow = |what: &str| {
            let path = self.it.escrow.join(format!("{serial}.{what}.cms"));
            Escrow::new(path, self.recipients.clone(), now)
        };
        let management_key = escrow("management-key");
        let wanted = Wanted {
            pin: self.pin(serial, &pin)?,
            puk: WantedPuk::Escrowed(escrow("puk")),
            management_key: Some(management_key.clone()),
            from_defaults: true,
        };
        chosen.with(|card| Ok(init(card, &wanted)?))?;
        // 4. Key and certificate.
        if !has_certificate(chosen, &person)? {
            let management_key = ManagementAccess::Kept;
            let credentials = Credentials { pin: wanted.pin, management_key };
            let key = WantedKey::Free(self.it.key);
            certify(&self.client, chosen, &credentials, person.slot, key, terms).await?;
        }
        // 5. The card as it will be handed out: the PIN of the letter opens it, and nobody else's
        //    key than the administrators' writes to it.
        let written = self.letters.pin(serial)?.ok_or_else(|| self.no_letter(serial))?;
        let pin = self.pin(serial, &written)?;
        let der = chosen.with(|card| {
            card.verify_pin(&pin)?;
            release(card, &management_key)?;
            Ok(read_certificate(card, person.slot)?)
        })?;
        let certificate = Certificate::from_der(&der.unwrap_or_default())
            .map_err(|error| Failure::BadAnswer { what: error.to_string() })?;
        Ok(State::Done {
            slot: person.slot.to_string(),
            certificate: hex::encode(certificate.serial()),
            not_after: certificate.not_after(),
        })
    }

    fn pin(&self, serial: u32, secret: &Secret) -> Result<Pin, Failure> {
        let path = self.letters.path(serial);
        Pin::new(secret).map_err(|source| Failure::Pin { what: "PIN", path, source })
    }

    fn no_letter(&self, serial: u32) -> Failure {
        BatchError::Letter { path: self.letters.path(serial), serial }.into()
    }
}

/// Whether the card has a certificate of the person for its key: then it was made to its end, and
/// nobody wrote that down.
fn has_certificate(chosen: &Chosen, person: &Person) -> Result<bool, Failure> {
    let content = chosen.with(|card| Ok(Content::of(card, person.slot)?))?;
    let Some(Ok(certificate)) = content.certificate.as_deref().map(LogonCertificate::from_der)
    else {
        return Ok(false);
    };
    let is_for_key = certificate.key.as_ref().is_ok_and(|key| content.has(key));
    let is_for_person =
        matches!(certificate.upns.as_slice(), [upn] if *upn == person.upn.to_string());
    Ok(is_for_key && is_for_person && SystemClock.now() < certificate.not_after)
}

/// What a failure stops.
pub(super) fn fate(failure: &Failure) -> Fate {
    match failure {
        Failure::Card(error) | Failure::Init(InitError::Card(error)) => fate_of_card(error),
        Failure::Enrolment(card::enrolment::EnrolmentError::Card(error)) => fate_of_card(error),
        Failure::OtherCard { .. } => Fate::Card,
        Failure::Client(error) if is_passing(error) => Fate::Stop,
        Failure::Client(client::Error::Problem(_)) => Fate::Person,
        Failure::Init(InitError::Escrow(EscrowError::Other { .. })) => Fate::Person,
        Failure::Init(InitError::Escrow(_)) => Fate::Stop,
        Failure::BadAnswer { .. } | Failure::Enrolment(_) | Failure::Init(_) => Fate::Person,
        Failure::Batch(_) | Failure::Pin { .. } => Fate::Person,
        _ => Fate::Stop,
    }
}

fn fate_of_card(error: &CardError) -> Fate {
    match error {
        CardError::Gone { .. }
        | CardError::InUse(_)
        | CardError::Mute(_)
        | CardError::NoCard(_)
        | CardError::NoSuchReader(_) => Fate::Card,
        // Windows ends the service with the last reader, which may be the card itself.
        CardError::NoService if cfg!(windows) => Fate::Card,
        CardError::NoService | CardError::Random | CardError::Service { .. } => Fate::Stop,
        _ => Fate::Person,
    }
}
