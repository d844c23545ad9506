//! Verification of a transcript, without token and network.
//!
//! The chain says that the file is the one that was written. The replay says that it is a ceremony:
//! the plan in it passes the lints, every step has its intent and its outcome in the plan's order,
//! every to-be-signed text is the one that the plan gives, and every signature verifies.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use pki::{keys::Signature, serial::X509Serial, token::pkcs11::TokenIdentity};
use thiserror::Error;

use crate::{
    digest::Digest,
    handoff::{Bundle, HandoffFailure},
    made::{Made, MadeError},
    plan::{Certificate, Key, Plan, PlanError, Step},
    transcript::{self, Event, Intent, Opened, Outcome, Record, Trailer},
};

/// A transcript in which nothing is wrong.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What was planned.
    pub plan: Plan,
    /// What was made.
    pub made: Made,
    /// What the ceremony started from.
    pub opened: Opened,
    /// The head of the chain.
    pub head: Digest,
    /// How many records there are.
    pub records: u64,
}

impl Verified {
    /// Reads and verifies a transcript.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or something in it is wrong; the first wrong line is named.
    pub fn read(path: &Path) -> Result<Self, VerifyError> {
        let content =
            fs::read(path).map_err(|source| VerifyError::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&content)
    }

    /// Verifies the content of a transcript.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), but for reading.
    pub fn from_bytes(content: &[u8]) -> Result<Self, VerifyError> {
        let (records, head) = chain(content)?;
        let count = records.len() as u64;
        let mut replay = Replay { records: records.into(), line: 0 };
        let opened = replay.opened()?;
        let plan = Plan::new(opened.plan.clone())?;
        if plan.hash() != opened.plan_hash {
            return Err(VerifyError::OtherPlan { found: plan.hash(), wanted: opened.plan_hash });
        }
        let made = replay.steps(&plan)?;
        Ok(Self { plan, made, opened, head, records: count })
    }

    /// Checks that it is the transcript of this plan.
    ///
    /// # Errors
    ///
    /// It is another plan's.
    pub fn check_plan(&self, plan: &Plan) -> Result<(), VerifyError> {
        let (found, wanted) = (self.plan.hash(), plan.hash());
        if found == wanted { Ok(()) } else { Err(VerifyError::OtherPlan { found, wanted }) }
    }

    /// Checks the head against the one that was written down.
    ///
    /// # Errors
    ///
    /// It is another: the file was written anew, or the wrong one was written down.
    pub fn check_head(&self, wanted: Digest) -> Result<(), VerifyError> {
        if self.head == wanted {
            Ok(())
        } else {
            Err(VerifyError::OtherHead { found: self.head, wanted })
        }
    }

    /// The hand-off that this transcript gives.
    ///
    /// # Errors
    ///
    /// Something that the plan makes was not made.
    pub fn bundle(&self) -> Result<Bundle, HandoffFailure> {
        Bundle::new(&self.plan, &self.made, self.head)
    }

    /// Checks that a directory is the hand-off of this transcript, byte for byte.
    ///
    /// # Errors
    ///
    /// It cannot be read, or differs.
    pub fn check_handoff(&self, directory: &Path) -> Result<(), VerifyError> {
        Ok(self.bundle()?.check(directory)?)
    }
}

/// Follows the chain over the exact bytes of each line.
fn chain(content: &[u8]) -> Result<(Vec<Record>, Digest), VerifyError> {
    let text = content.strip_suffix(b"\n").ok_or(VerifyError::Torn)?;
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    let mut records: Vec<Record> = Vec::with_capacity(lines.len());
    let mut head = None;
    for (line, number) in lines.into_iter().zip(1..) {
        let record = linked(line, number, head)?;
        head = Some(transcript::next(record.prev, line));
        records.push(record);
    }
    let number = records.len() as u64 + 1;
    match (head, parse::<Trailer>(last, number)) {
        (Some(head), Ok(trailer)) if trailer.head == head => Ok((records, head)),
        (_, Ok(_)) => Err(VerifyError::Chain { line: number }),
        (_, Err(_)) => Err(unfinished(linked(last, number, head)?)),
    }
}

/// A record that follows from the head before it.
fn linked(line: &[u8], number: u64, head: Option<Digest>) -> Result<Record, VerifyError> {
    let record: Record = parse(line, number)?;
    let expected = head.map_or_else(|| start(&record), Ok)?;
    if record.prev == expected && record.seq == number {
        Ok(record)
    } else {
        Err(VerifyError::Chain { line: number })
    }
}

/// A ceremony whose last line is a record and no trailer.
fn unfinished(last: Record) -> VerifyError {
    let reason = match last.event {
        Event::Stopped { reason } => format!("it was stopped: {reason}"),
        _ => "it was interrupted".to_owned(),
    };
    VerifyError::Unfinished { records: last.seq, reason }
}

fn start(first: &Record) -> Result<Digest, VerifyError> {
    match &first.event {
        Event::Opened(opened) => {
            Ok(transcript::start(opened.plan_hash, opened.site_hash, &opened.tool))
        }
        _ => Err(VerifyError::Unexpected { line: 1, wanted: "the opening" }),
    }
}

/// Reads a line, which must be the one text of what it says.
fn parse<T: serde::Serialize + serde::de::DeserializeOwned>(
    line: &[u8],
    number: u64,
) -> Result<T, VerifyError> {
    let value: T = serde_json::from_slice(line)
        .map_err(|source| VerifyError::Syntax { line: number, source })?;
    match transcript::to_line(&value) {
        Ok(text) if text.as_bytes() == line => Ok(value),
        _ => Err(VerifyError::OtherText { line: number }),
    }
}

/// What every token says of a private key that is fit for a CA (PKCS#11 v3.1 section 4.9).
const ATTRIBUTES: [(&str, bool); 3] =
    [("CKA_EXTRACTABLE", false), ("CKA_SENSITIVE", true), ("CKA_SIGN", true)];

/// The records that are still to be accounted for.
struct Replay {
    records: VecDeque<Record>,
    line: u64,
}

impl Replay {
    fn opened(&mut self) -> Result<Opened, VerifyError> {
        match self.next(None)? {
            Event::Opened(opened) => Ok(*opened),
            _ => Err(self.unexpected("the opening")),
        }
    }

    fn steps(mut self, plan: &Plan) -> Result<Made, VerifyError> {
        let mut made = Made::default();
        if !plan.initializes_token() {
            made.token = Some(self.token(None)?);
        }
        for (number, step) in plan.steps() {
            match step {
                Step::GenerateKey(key) => self.generate_key(number, plan, key, &mut made)?,
                Step::HandOff => self.closed(number)?,
                Step::SignCertificate(certificate) => {
                    self.sign_certificate(number, plan, certificate, &mut made)?;
                }
                Step::TokenInit => made.token = Some(self.initialize_token(number)?),
            }
        }
        match self.records.front() {
            None => Ok(made),
            Some(_) => Err(VerifyError::Unexpected { line: self.line + 1, wanted: "the end" }),
        }
    }

    fn initialize_token(&mut self, number: u32) -> Result<TokenIdentity, VerifyError> {
        let Event::Intent(Intent::InitializeToken { label }) = self.next(Some(number))? else {
            return Err(self.unexpected("the intent to initialize the token"));
        };
        let Event::Outcome(Outcome::TokenInitialized(made)) = self.next(Some(number))? else {
            return Err(self.unexpected("the initialized token"));
        };
        let token = self.token(Some(number))?;
        self.require(made == token && made.label == label, "the token that was initialized")?;
        Ok(token)
    }

    fn token(&mut self, step: Option<u32>) -> Result<TokenIdentity, VerifyError> {
        match self.next(step)? {
            Event::Token(found) => Ok(found.identity),
            _ => Err(self.unexpected("the opened token")),
        }
    }

    fn generate_key(
        &mut self,
        number: u32,
        plan: &Plan,
        key: &Key,
        made: &mut Made,
    ) -> Result<(), VerifyError> {
        let id = plan.key_id(&key.name);
        let intent = Event::Intent(Intent::generate(key, id.clone()));
        let found = self.next(Some(number))?;
        self.require(found == intent, "the intent to make the planned key")?;
        let Event::Outcome(Outcome::KeyGenerated { name, key: found, attributes }) =
            self.next(Some(number))?
        else {
            return Err(self.unexpected("the key that was made"));
        };
        let same = name == key.name
            && found.id == id
            && found.label == key.label
            && found.public_key.algorithm() == key.algorithm;
        self.require(same, "the planned key")?;
        let fit = ATTRIBUTES.iter().all(|(name, value)| attributes.get(*name) == Some(value));
        self.require(fit, "a key that signs, and never leaves its token")?;
        made.add_key(name, found);
        Ok(())
    }

    fn sign_certificate(
        &mut self,
        number: u32,
        plan: &Plan,
        certificate: &Certificate,
        made: &mut Made,
    ) -> Result<(), VerifyError> {
        let Event::Intent(Intent::SignCertificate { name, serial, to_be_signed }) =
            self.next(Some(number))?
        else {
            return Err(self.unexpected("the intent to sign the planned certificate"));
        };
        let signer = plan.signer(certificate);
        let prepared = made.prepare(certificate, signer, X509Serial::from_random(serial))?;
        let planned = name == certificate.name && prepared.bytes() == to_be_signed;
        self.require(planned, "the certificate as the plan gives it")?;
        let Event::Outcome(Outcome::CertificateSigned { name, signature, certificate: der }) =
            self.next(Some(number))?
        else {
            return Err(self.unexpected("the certificate that was signed"));
        };
        let sealed = prepared
            .seal(Signature(signature))
            .map_err(|_| self.unexpected("a signature that verifies"))?;
        let same = name == certificate.name && sealed.bytes() == der;
        self.require(same, "the certificate that was sealed")?;
        Ok(made.add_certificate(certificate, der)?)
    }

    fn closed(&mut self, number: u32) -> Result<(), VerifyError> {
        let found = self.next(Some(number))?;
        self.require(found == Event::Closed {}, "the end of the ceremony")
    }

    /// The next record's event, if it belongs to this step.
    fn next(&mut self, step: Option<u32>) -> Result<Event, VerifyError> {
        self.line += 1;
        match self.records.pop_front() {
            Some(record) if record.step == step => Ok(record.event),
            _ => Err(self.unexpected("a record of the plan's next step")),
        }
    }

    fn require(&self, holds: bool, wanted: &'static str) -> Result<(), VerifyError> {
        if holds { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn unexpected(&self, wanted: &'static str) -> VerifyError {
        VerifyError::Unexpected { line: self.line, wanted }
    }
}

/// A transcript or a hand-off is not what it should be.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A record does not follow from those before it.
    #[error("line {line}: the hash chain is broken here or in the line before")]
    Chain {
        /// Which line, from 1.
        line: u64,
    },
    /// The hand-off is not the transcript's.
    #[error(transparent)]
    Handoff(#[from] HandoffFailure),
    /// A key or certificate is not what the plan gives.
    #[error("the transcript contradicts itself")]
    Made(#[from] MadeError),
    /// The line could be written otherwise: it has more or less than a record has.
    #[error("line {line}: this is not how a record is written")]
    OtherText {
        /// Which line, from 1.
        line: u64,
    },
    /// The head is not the one that was written down.
    #[error("the transcript's head is {found}, not {wanted}")]
    OtherHead {
        /// The transcript's.
        found: Digest,
        /// The one that it should be.
        wanted: Digest,
    },
    /// The transcript is of another plan.
    #[error("the transcript's plan has the hash {found}, not {wanted}")]
    OtherPlan {
        /// The transcript's.
        found: Digest,
        /// The one that it should be.
        wanted: Digest,
    },
    /// The plan in the transcript cannot be performed.
    #[error("the plan in the transcript is not one that can be performed")]
    Plan(#[from] PlanError),
    /// The file cannot be read.
    #[error("cannot read the transcript {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no record.
    #[error("line {line} is no record")]
    Syntax {
        /// Which line, from 1.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// The last line is not whole.
    #[error("the last line is not whole: the ceremony was interrupted while it was written")]
    Torn,
    /// A record is not the one that the plan leads to.
    #[error("line {line} is not {wanted}")]
    Unexpected {
        /// Which line, from 1.
        line: u64,
        /// What should be there.
        wanted: &'static str,
    },
    /// The ceremony did not come to its end.
    #[error("the ceremony did not come to its end, after {records} whole records: {reason}")]
    Unfinished {
        /// How many records there are.
        records: u64,
        /// Why.
        reason: String,
    },
}
