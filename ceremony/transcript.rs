//! The transcript: JSON Lines, each record bound to all before it. What is written while the
//! ceremony goes on is called its [`journal`](crate::journal); the two are one format, and each
//! journal becomes a transcript when its last line is written.
//!
//! ```text
//! h_0 = SHA-256("chancery-ceremony-start-v1\0" || plan hash || site hash || tool and version)
//! h_n = SHA-256("chancery-ceremony-rec-v1\0" || h_{n-1} || u64be(len) || line n without its line end)
//! ```
//!
//! Record n carries h_{n-1} as `prev`. The last line states the head alone, so that a flipped bit in
//! the last record is found even by whoever has nothing but the file. Against a rewritten file only
//! a head kept elsewhere helps: the hand-off has it, and people write it down.

pub mod chain;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use jiff::Timestamp;
use pki::token::pkcs11::{Remains, TokenIdentity, TokenInfo};

use crate::{
    custody::GivenBy,
    digest::Digest,
    environment::Environment,
    name::Name,
    plan::Script,
    steps::{
        back_up_key, check_environment, destroy_key, generate_key, human, import_certificate,
        import_request, pin_rotate, request_certificate, restore_drill, shares_verify,
        sign_certificate, sign_crl, split_shares, take_break, token_init, use_certificate, use_key,
    },
};

/// The program and its version, as transcripts name it.
pub const TOOL: &str = concat!("chancery-ceremony ", env!("CARGO_PKG_VERSION"));

/// One line of a transcript.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Record {
    /// The record's number, from 1.
    pub seq: u64,
    /// The head of the chain before this record.
    pub prev: Digest,
    /// When it was written, UTC.
    pub time: Timestamp,
    /// The number of the plan's step that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The persons who did it, where people did something.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub who: BTreeSet<Name>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. None of it is secret: no type in here can hold a PIN.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(tag = "event", content = "data", rename_all = "kebab-case")]
pub enum Event {
    /// The ceremony was given up; nothing follows.
    Aborted {
        /// Why.
        reason: String,
    },
    /// Somebody compared the machine's clock with another one.
    Clock {
        /// What the other one said, to the minute.
        reads: Timestamp,
    },
    /// The plan was carried out to its end, and a fresh session found every key again; nothing
    /// follows.
    Closed {},
    /// The words of a step were typed, or of what is done about its interruption.
    Confirmed {},
    /// What is done about a step that was interrupted between intent and outcome. On disk before
    /// it is done.
    Decided(Decision),
    /// The machine was looked at: at the beginning, and after each interruption.
    Environment(Environment),
    /// Something happened that the plan does not have.
    Exception {
        /// What.
        text: String,
    },
    /// What is about to be done. On disk before it is done.
    Intent(Intent),
    /// The ceremony began.
    Opened(Box<Opened>),
    /// What was done, after it was checked.
    Outcome(Outcome),
    /// The roll was called, and these were there.
    Present {},
    /// The ceremony went on after an interruption.
    Resumed(Resumed),
    /// Somebody signed what was recorded so far.
    SignedOff {
        /// The signature (PROTOCOL.sshsig) of a statement with the head before this record.
        signature: String,
    },
    /// The program ended before the ceremony did, and said why.
    Stopped {
        /// Why.
        reason: String,
    },
    /// A session was opened on the token.
    Token(TokenFound),
}

impl Event {
    /// What people say in their own words, where they do.
    pub fn said(&self) -> Option<&str> {
        match self {
            Self::Aborted { reason } | Self::Resumed(Resumed { reason, .. }) => Some(reason),
            Self::Exception { text } => Some(text),
            _ => None,
        }
    }
}

/// What a ceremony starts from.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The program and its version.
    pub tool: String,
    /// SHA-256 of the program's file.
    pub tool_sha256: Digest,
    /// The boot of the machine.
    pub boot: String,
    /// Who confirms the steps.
    pub attendance: Attendance,
    /// In a rehearsal: certificates are not marked, so that their texts are those of the ceremony.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub faithful: bool,
    /// The head of the rehearsal of the same plan by the same program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Digest>,
    /// The approvals of the plan: signatures (PROTOCOL.sshsig) of its hash, by person.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub approvals: BTreeMap<Name, String>,
    /// The hash of the plan.
    pub plan_hash: Digest,
    /// The hash of the site file.
    pub site_hash: Digest,
    /// Why keys are taken from a token that lets their attributes be changed, as the site says; it
    /// is then not attempted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changeable_keys: Option<String>,
    /// Why keys are taken from a software token, as the site says; without a reason, none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_token: Option<String>,
    /// SHA-256 of the profile of the kind of token, if the plan was compared with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_profile: Option<Digest>,
    /// What every certificate passed before it was signed, and afterwards: lints and parsers.
    pub linters: Vec<String>,
    /// The PKCS#11 module.
    pub module: ModuleFile,
    /// The plan.
    pub plan: Script,
}

impl Opened {
    /// Whether it is a rehearsal, whose keys are thrown away.
    pub fn is_rehearsal(&self) -> bool {
        self.attendance == Attendance::Rehearsed
    }

    /// Whether certificates are marked so that nobody can use them.
    pub fn poisons(&self) -> bool {
        self.is_rehearsal() && !self.faithful
    }
}

/// How a ceremony was found when it went on.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// What interrupted it, as a person says.
    pub reason: String,
    /// The boot of the machine.
    pub boot: String,
    /// The journals, in the order in which they were named.
    pub journals: Vec<JournalFound>,
}

/// A journal as it was found.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct JournalFound {
    /// How many whole records it had; none when it was not there.
    pub records: u64,
    /// The bytes of a last line that was not whole: they were cut off.
    #[serde(with = "hex::serde")]
    pub torn: Vec<u8>,
}

/// What is done about a step that was interrupted.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The token has the whole key pair: it is checked and taken.
    AdoptKey,
    /// What the token has of the key pair is destroyed; then it is made anew.
    DestroyAndRepeat {
        /// What the token has.
        found: Remains,
    },
    /// The token has the label already, and nothing in it: its user PIN is set once more.
    FinishToken,
    /// People say that the token's PIN is still the one before the change: it is changed.
    PinIsFormer,
    /// The token's PIN is the one that the shares give.
    PinIsNew,
    /// The token shows nothing of the step: it is done again.
    Repeat,
    /// The same to-be-signed text is signed again: no signature of it has left this program.
    SignAgain,
    /// The shares that may have been given out are void: the secret is split anew.
    SplitAnew,
}

/// What will be done, as a sentence without its full stop.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdoptKey => "the token has the key pair: check it and take it",
            Self::DestroyAndRepeat { found: Remains::Pair } => {
                "the token has the key pair: destroy it and make another"
            }
            Self::DestroyAndRepeat { .. } => {
                "the token has one half of the key pair: destroy it and make the pair again"
            }
            Self::FinishToken => "the token has its label, and nothing in it: set its user PIN",
            Self::PinIsFormer => "the PIN is still the former one: change it",
            Self::PinIsNew => "the PIN is the one that the new shares give",
            Self::Repeat => "the token shows nothing of it: do it again",
            Self::SplitAnew => "what was printed is void: destroy it, and split anew",
            Self::SignAgain => "sign the same text again; no signature of it was given out",
        })
    }
}

/// Who confirms the steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attendance {
    /// People type two words before each step.
    Attended,
    /// Nobody: it is a rehearsal, and the keys are thrown away.
    Rehearsed,
    /// Nobody: for tests and demonstrations.
    Unattended,
}

/// The PKCS#11 module's file.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleFile {
    /// Where it was loaded from.
    pub path: PathBuf,
    /// SHA-256 of its content.
    pub sha256: Digest,
}

/// What the token and its module say of themselves.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFound {
    /// Label, serial, manufacturer and model.
    pub identity: TokenIdentity,
    /// CK_TOKEN_INFO.hardwareVersion.
    pub hardware_version: String,
    /// CK_TOKEN_INFO.firmwareVersion.
    pub firmware_version: String,
    /// The module's description and version.
    pub library: String,
    /// The flags that are set, of those that speak of PINs and login.
    pub flags: Vec<String>,
    /// The shares that gave its user's PIN; none, if it was in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_by: Option<GivenBy>,
}

impl TokenFound {
    /// Whether it is a token in software, which protects no key.
    pub fn is_software(&self) -> bool {
        let manufacturer = self.identity.manufacturer.as_deref().unwrap_or_default();
        is_software(&[manufacturer, &self.library].join(" "))
    }
}

/// Whether a module or token that names its maker so is one in software.
pub fn is_software(maker: &str) -> bool {
    let maker = maker.to_lowercase();
    ["kryoptic", "mozilla", "nss", "softhsm"].iter().any(|name| {
        maker.split(|letter: char| !letter.is_alphanumeric()).any(|word| word.starts_with(name))
    })
}

impl From<TokenInfo> for TokenFound {
    fn from(info: TokenInfo) -> Self {
        Self {
            identity: info.identity,
            hardware_version: info.hardware_version,
            firmware_version: info.firmware_version,
            library: info.library,
            flags: info.flags.into_iter().map(str::to_owned).collect(),
            given_by: None,
        }
    }
}

/// What is about to be done.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Make a key pair, and a copy in the backup token.
    BackUpKey(generate_key::Intended),
    /// Look at the machine.
    CheckEnvironment(check_environment::Intended),
    /// Destroy a key pair.
    DestroyKey(destroy_key::Intended),
    /// Let the copy of a key sign.
    DrillRestore(restore_drill::Intended),
    /// Make a key pair.
    GenerateKey(generate_key::Intended),
    /// Take in a certificate that another machine signed.
    ImportCertificate(import_certificate::Intended),
    /// Take in a request of another machine.
    ImportRequest(import_request::Intended),
    /// Initialize the token.
    InitializeToken(token_init::Intended),
    /// Let people do what is theirs alone.
    LetPeopleAct(human::Intended),
    /// Make the PIN of shares the token's.
    RotatePin(pin_rotate::Intended),
    /// Sign a certificate.
    SignCertificate(sign_certificate::Intended),
    /// Split a secret among custodians.
    SplitShares(split_shares::Intended),
    /// Take a break.
    TakeBreak(take_break::Intended),
    /// Let every share of a set be read back.
    VerifyShares(shares_verify::Intended),
    /// Sign a request for a certificate.
    RequestCertificate(request_certificate::Intended),
    /// Sign a revocation list.
    SignCrl(sign_crl::Intended),
    /// Take in a certificate that is there already.
    UseCertificate(use_certificate::Intended),
    /// Find a key that an earlier ceremony made.
    UseKey(use_key::Intended),
}

/// What was done.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A break is over.
    BreakOver(take_break::Over),
    /// The certificate that another machine signed was taken in.
    CertificateImported(import_certificate::Imported),
    /// A request for a certificate was signed, and its signature verified.
    CertificateRequested(request_certificate::Requested),
    /// A certificate was signed, and its signature verified.
    CertificateSigned(sign_certificate::Signed),
    /// People did what is theirs alone.
    DoneByPeople(human::Done),
    /// The machine was looked at.
    EnvironmentChecked(check_environment::Checked),
    /// A key pair is in two tokens, and each was read back and proved to sign.
    KeyBackedUp(back_up_key::BackedUp),
    /// A key pair was destroyed, and is gone.
    KeyDestroyed(destroy_key::Destroyed),
    /// A key pair was made, read back, and proved to sign.
    KeyGenerated(generate_key::Generated),
    /// The token took another PIN.
    PinRotated(pin_rotate::Rotated),
    /// The copy of a key signed in its stead.
    RestoreDrilled(restore_drill::Drilled),
    /// Custodians have their shares.
    SharesGiven(split_shares::Given),
    /// They have read them back.
    SharesVerified(shares_verify::Verified),
    /// A certificate that is there already was taken in.
    CertificateUsed(use_certificate::Used),
    /// A revocation list was signed, and its signature verified.
    CrlSigned(sign_crl::Signed),
    /// A key that an earlier ceremony made was found.
    KeyFound(use_key::Found),
    /// The request of another machine was taken in, and its signature verified.
    RequestImported(import_request::Imported),
    /// The token was initialized.
    TokenInitialized(TokenIdentity),
}

/// The last line of a closed transcript.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// The head of the chain.
    pub head: Digest,
}
