//! How a command fails, what a person can do about it, and the exit code that says so to programs.

use std::{collections::BTreeMap, error::Error as _, io, path::PathBuf};

use jiff::Timestamp;
use pki::{
    seal::Rejected,
    token::{KeyLabel, TokenError, pkcs11::TokenIdentity},
    x509::lint::Finding,
};
use rand::rand_core::OsError;
use thiserror::Error;

use crate::{
    environment::Check,
    evidence::EvidenceError,
    handoff::HandoffFailure,
    journal::JournalError,
    made::MadeError,
    name::Name,
    paper::pdf::PdfError,
    people::PeopleError,
    plan::PlanError,
    progress::ProgressError,
    rehearsal::RehearsalError,
    second_opinion::OpinionError,
    shares::{Purpose, ShareError},
    site::SiteError,
    verify::VerifyError,
};

/// Why a command did not do what it was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// The ceremony was given up.
    #[error("the ceremony was given up: nothing can follow")]
    Aborted,
    /// What was done is not what was rehearsed.
    #[error("what was done is not what was rehearsed, in {0} respect(s)")]
    Compared(usize),
    /// Somebody's clock says another time than this machine's.
    #[error("this machine's clock says {machine:.0}, and another one {reads:.0}")]
    ClockOff {
        /// What the other one says.
        reads: Timestamp,
        /// What this machine's says.
        machine: Timestamp,
    },
    /// The token made a signature of a list that does not verify.
    #[error("the token made a wrong signature of a revocation list")]
    CrlSignature,
    /// Something is not what the ceremony began with.
    #[error("the {0} is not the one that the ceremony began with; nothing was changed")]
    Changed(&'static str),
    /// A bundle cannot be made, or is not what it should be.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The machine is not one that the plan lets pass.
    #[error("the machine is not as the plan demands it ({}); nothing is done on it", listed(.0))]
    Environment(BTreeMap<Check, String>),
    /// The copy of a key in the backup token can be misused.
    #[error("the token let this be done with the copy of the key {label}: {what}")]
    CopyMisused {
        /// The key.
        label: KeyLabel,
        /// What the token did with it.
        what: &'static str,
    },
    /// A key and its copy could not be made, nor all of them destroyed.
    #[error("{error}; and not all that was made of the key {label} could be destroyed")]
    Left {
        /// The key.
        label: KeyLabel,
        /// Why it was not made.
        error: TokenError,
        /// Why it was not destroyed.
        #[source]
        left: Box<Failure>,
    },
    /// The plan hands something off, and nobody said where.
    #[error("the plan hands something off, and there is no --handoff that says where")]
    HandOffNowhere,
    /// The hand-off cannot be written or read.
    #[error(transparent)]
    Handoff(#[from] HandoffFailure),
    /// The journals cannot be written or gone on with.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An interrupted step left a whole key pair, and nobody said what becomes of it.
    #[error("the token has the key pair {0}, whose making was interrupted")]
    KeyFound(KeyLabel),
    /// The machine does not tell what the transcript must say.
    #[error("the machine does not tell its boot or this program's file")]
    Machine(#[source] io::Error),
    /// What would be made breaks a rule, or what was made is not what the plan says.
    #[error(transparent)]
    Made(#[from] MadeError),
    /// The plan speaks with other machines, and there is no directory for it.
    #[error("the plan exchanges files with another machine, and names no directory for them")]
    NoExchange,
    /// What another machine is to sign has not come back.
    #[error("the certificate has not come back from the other machine: {} is not there", path.display())]
    NotReturned {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// What came back is not what was asked for.
    #[error("{} is not the certificate that was asked for: {what}", path.display())]
    Returned {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The token made a signature of a request that does not verify.
    #[error("the token made a wrong signature of a request")]
    RequestSignature,
    /// What should stand in for a certificate in a rehearsal does not.
    #[error("no certificate can stand in for {0} in a rehearsal")]
    StandIn(Name),
    /// There is no directory for a file or directory that is to be written.
    #[error("there is no directory for the {what} {}; nothing was changed", path.display())]
    NoDirectory {
        /// A journal or the hand-off.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The token let a key be misused.
    #[error("the token let this be done with the key {label}: {what}")]
    Misused {
        /// The key. It was destroyed.
        label: KeyLabel,
        /// What was attempted, and done.
        what: &'static str,
        /// Why it was not destroyed.
        #[source]
        left: Option<TokenError>,
    },
    /// The plan was not rehearsed.
    #[error("a ceremony with people takes a rehearsal of the same plan by this program: {0}")]
    NoRehearsal(&'static str),
    /// A fault is asked for where keys are not thrown away.
    #[error("only a rehearsal loses its power on purpose; nothing was changed")]
    NotARehearsal,
    /// There is no place for pages of shares, and no terminal to show them on.
    #[error("there is no place for the shares: neither pages nor a terminal")]
    NoPages,
    /// No confirmation.
    #[error("the step was not confirmed, and not done")]
    NotConfirmed,
    /// One journal, where there should be two.
    #[error("a ceremony with people takes two journals, in different files")]
    OneJournal,
    /// A certificate would be born dead.
    #[error("certificate {0} would be expired, or not valid yet, now")]
    OutOfValidity(Name),
    /// A key that was destroyed is there.
    #[error("the token says that it destroyed the key {0}, and another session finds it")]
    NotDestroyed(KeyLabel),
    /// The plan hands nothing off.
    #[error("the plan hands nothing off, and --handoff says where")]
    NothingToHandOff,
    /// The shares give a PIN of another form than the plan says.
    #[error("the shares give {0}, and the plan says another form")]
    OtherForm(Purpose),
    /// A file or directory is there already.
    #[error("the {what} {} exists already; nothing was changed", path.display())]
    OutputExists {
        /// A journal or the hand-off.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Another parser reads something else in a certificate than was meant.
    #[error(transparent)]
    Opinion(#[from] OpinionError),
    /// The pages cannot be written as a PDF.
    #[error(transparent)]
    Pdf(#[from] PdfError),
    /// The pages of shares cannot be written, read or removed.
    #[error("the pages of shares in {} cannot be written, read or removed", path.display())]
    Pages {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// People have not said what they should say.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// The token that is to be probed is one that the site keeps.
    #[error("the site keeps this token ({0}): it has something to lose, and is not probed")]
    KeptToken(TokenIdentity),
    /// A token is to be initialized, and nobody gave its security officer's PIN.
    #[error("to initialize the scratch token takes its security officer's PIN")]
    NoOfficer,
    /// A file is no profile of a token.
    #[error("{} is no profile of a token", path.display())]
    NoProfile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The token is of another kind than the profile.
    #[error("the profile is of another kind of token than this one ({0})")]
    OtherKind(TokenIdentity),
    /// The token that is to be probed has something in it.
    #[error("the scratch token has {0} object(s): whoever made them may want them")]
    ScratchNotEmpty(usize),
    /// Such a token cannot do what a plan wants.
    #[error("such a token cannot do {} thing(s) that the plan wants; nothing was touched", .0.len())]
    Unable(Vec<Finding>),
    /// The machine goes off, as planned.
    #[error("the ceremony has a break: {0}")]
    OnBreak(String),
    /// The backup token is not the one that has the copy.
    #[error("the backup token is another one ({0}) than the one with the copy")]
    OtherBackup(TokenIdentity),
    /// The plan names people, and nobody is to be asked.
    #[error("the plan has people who confirm or do its steps: it cannot be performed unattended")]
    PeopleNeeded,
    /// The plan cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A record would not be admissible.
    #[error(transparent)]
    Progress(#[from] ProgressError),
    /// What people say for the record has a key or a password in it.
    #[error(
        "the text has something in it that looks like a key or a password; nothing was recorded"
    )]
    SecretText,
    /// Two files would have one name.
    #[error("two files are called {0}")]
    SameName(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random(#[source] OsError),
    /// The transcript is of a rehearsal.
    #[error(
        "the transcript is of a rehearsal: its keys are gone, and there is nothing to hand off"
    )]
    Rehearsed,
    /// The plan was not rehearsed to its end.
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token is not what the transcript says.
    #[error("the token is not what the transcript says, in {0} respect(s)")]
    Inventory(usize),
    /// The program cannot be started again with the site's environment.
    #[error("cannot start this program again with the site's [environment]")]
    Restart(#[source] io::Error),
    /// Shares are not what they should be.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The token made a signature that does not verify.
    #[error("the token made a wrong signature")]
    Signature(#[from] Rejected),
    /// The site cannot be used.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The token is in software, and the site does not say that this is meant.
    #[error("{0} is a token in software, which protects no key; nothing was changed")]
    SoftwareToken(String),
    /// The terminal is gone.
    #[error("cannot read from or write to the terminal")]
    Terminal(#[source] io::Error),
    /// The token failed or refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token to be initialized is there already.
    #[error("a token labelled {0:?} is there already; nothing was changed")]
    TokenExists(String),
    /// A new token has something in it.
    #[error("the token labelled {0:?} was just initialized, and is not empty")]
    TokenNotEmpty(String),
    /// A transcript or a hand-off is not what it should be.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

fn listed(findings: &BTreeMap<Check, String>) -> String {
    let findings = findings.iter().map(|(check, what)| format!("{check}: {what}"));
    findings.collect::<Vec<_>>().join("; ")
}

impl Failure {
    /// The exit code: 1 interrupted, 2 bad input, 3 check failed, 4 token error, 5 verify failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Evidence(
                EvidenceError::Name(_) | EvidenceError::NoRehearsal | EvidenceError::Read { .. },
            ) => 2,
            Self::Evidence(EvidenceError::Rehearsed) => 3,
            Self::Compared(_) | Self::Evidence(_) => 5,
            Self::Handoff(HandoffFailure::Exists { .. }) => 3,
            Self::Progress(ProgressError::TimeGoesBack { .. }) => 1,
            Self::Journal(JournalError::Chain { .. } | JournalError::Contradiction)
            | Self::Progress(_) => 5,
            Self::Journal(JournalError::NotBegun | JournalError::Read { .. }) => 2,
            Self::Handoff(_)
            | Self::ClockOff { .. }
            | Self::Journal(_)
            | Self::KeyFound(_)
            | Self::Machine(_)
            | Self::NotConfirmed
            | Self::OnBreak(_)
            | Self::Share(ShareError::Missing(_))
            | Self::Pdf(_)
            | Self::Pages { .. }
            | Self::NotReturned { .. }
            | Self::People(PeopleError::NotSigned | PeopleError::SshKeygen(_))
            | Self::Random(_)
            | Self::Restart(_)
            | Self::Terminal(_)
            | Self::Write { .. } => 1,
            Self::Plan(PlanError::Findings(_))
            | Self::Rehearsal(RehearsalError::Plan(PlanError::Findings(_))) => 3,
            Self::Rehearsal(
                RehearsalError::NoToken | RehearsalError::Plan(_) | RehearsalError::Shim(_),
            ) => 2,
            Self::Inventory(_) | Self::Rehearsal(_) | Self::Rehearsed => 3,
            Self::HandOffNowhere
            | Self::NoDirectory { .. }
            | Self::NoOfficer
            | Self::NoPages
            | Self::NoProfile { .. }
            | Self::NothingToHandOff
            | Self::NoExchange
            | Self::NotARehearsal
            | Self::OneJournal
            | Self::SameName(_)
            | Self::SecretText
            | Self::PeopleNeeded
            | Self::Plan(_)
            | Self::Read { .. } => 2,
            Self::Site(SiteError::OtherModule { .. }) => 3,
            Self::Site(_) => 2,
            Self::Aborted
            | Self::Changed(_)
            | Self::Environment(_)
            | Self::Opinion(_)
            | Self::SoftwareToken(_)
            | Self::Made(_)
            | Self::NoRehearsal(_)
            | Self::People(_)
            | Self::KeptToken(_)
            | Self::OtherBackup(_)
            | Self::OtherKind(_)
            | Self::ScratchNotEmpty(_)
            | Self::Unable(_)
            | Self::OtherForm(_)
            | Self::OutOfValidity(_)
            | Self::OutputExists { .. }
            | Self::Returned { .. }
            | Self::Share(_)
            | Self::StandIn(_)
            | Self::Token(TokenError::KeyExists { .. })
            | Self::TokenExists(_)
            | Self::TokenNotEmpty(_) => 3,
            Self::CopyMisused { .. }
            | Self::CrlSignature
            | Self::Left { .. }
            | Self::Misused { .. }
            | Self::NotDestroyed(_)
            | Self::RequestSignature
            | Self::Signature(_)
            | Self::Token(_) => 4,
            Self::Verify(VerifyError::Read { .. }) => 2,
            Self::Verify(_) => 5,
        }
    }

    /// The message, followed by its causes.
    pub fn message(&self) -> String {
        let mut message = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            message = format!("{message}: {}", error.to_string().trim_end());
            cause = error.source();
        }
        message
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Aborted => "begin another ceremony, with an empty token",
            Self::Changed(_) => {
                "go on with what it began with, or give the ceremony up: `chancery-ceremony abort`"
            }
            Self::Compared(_) => "let the people who were present explain each of them",
            Self::ClockOff { .. } | Self::Progress(ProgressError::TimeGoesBack { .. }) => {
                "set this machine's clock (`date --utc --set`), then go on with \
                 `chancery-ceremony resume`"
            }
            Self::Environment(_) => {
                "mend the machine, or let people approve a plan whose [machine] does not refuse it"
            }
            Self::Opinion(_) => "nothing of it was given out: report this, and do not go on",
            Self::SoftwareToken(_) => {
                "use a hardware token; or, where nothing is to be protected, say why in software_token of \
                 the site"
            }
            Self::Handoff(HandoffFailure::Exists { .. }) | Self::OutputExists { .. } => {
                "a ceremony never overwrites; name a path that does not exist, or go on with \
                 `chancery-ceremony resume`"
            }
            Self::Evidence(EvidenceError::Name(_)) => "give it another name",
            Self::Evidence(EvidenceError::NoRehearsal) => "name it with --rehearsal",
            Self::Evidence(EvidenceError::OtherProfile) => {
                "name the profile that `run` was given, or none"
            }
            Self::Evidence(EvidenceError::OtherSite) => "name the site file as it was then",
            Self::Evidence(EvidenceError::Read { .. }) => "name a file that can be read",
            Self::Evidence(EvidenceError::Rehearsed) => {
                "name the transcript of the ceremony itself"
            }
            Self::Evidence(EvidenceError::Secret(_)) => {
                "take it out, and stop using that key: it was where everybody may read"
            }
            Self::Evidence(_) => "do not use these keys before you know why",
            Self::Handoff(HandoffFailure::Write { .. }) => {
                "the transcript is whole: mend the cause, then run `chancery-ceremony hand-off`"
            }
            Self::Handoff(_) => "the appliance would refuse it: correct the plan",
            Self::Journal(JournalError::Busy { .. }) => "wait until it ends, or end it",
            Self::Journal(JournalError::Chain { .. }) => {
                "find out who changed it; to go on with the other one alone, name a new file for this"
            }
            Self::Journal(JournalError::Contradiction) => "name the journals of one ceremony",
            Self::Journal(JournalError::NotBegun | JournalError::Read { .. }) => {
                "name the journals of a ceremony, or begin one with `chancery-ceremony run`"
            }
            Self::Journal(JournalError::Write { .. }) => {
                "free space or mend the disk, then go on with `chancery-ceremony resume`"
            }
            Self::KeyFound(_) => {
                "decide, and go on with `chancery-ceremony resume --found-key adopt` or \
                 `--found-key destroy`"
            }
            Self::Left { .. } => {
                "keep both tokens in sight, mend the cause, then go on with `chancery-ceremony resume`: it \
                 destroys what is left"
            }
            Self::Machine(_) => "see that /proc is mounted",
            Self::Made(_) => {
                "correct the plan; `chancery-ceremony plan` shows the same without a token"
            }
            Self::NoDirectory { .. } => "make the directory first",
            Self::NoExchange => "name an existing directory with --exchange",
            Self::NotReturned { .. } => {
                "carry the request to the other machine, put the certificate there as NAME.pem, then go \
                 on with `chancery-ceremony resume`"
            }
            Self::Returned { .. } => {
                "ask for another one: nothing but the plan's subject, key and validity is taken"
            }
            Self::StandIn(_) => "correct the plan; `chancery-ceremony plan` shows the same",
            Self::Misused { .. } => {
                "use another token; or, where only attributes can be changed and the key is safe all the \
                 same, say why in changeable_keys of the site"
            }
            Self::NoRehearsal(_) => {
                "run `chancery-ceremony rehearse PLAN --faults all -o rehearsal.jsonl`, and name that \
                 with --rehearsal"
            }
            Self::Pdf(_) => "print the web page instead, with --html",
            Self::People(PeopleError::Quorum(_)) => {
                "let more people run `chancery-ceremony approve`, and name what they signed with \
                 --approval"
            }
            Self::People(PeopleError::NotSigned | PeopleError::SshKeygen(_)) => {
                "install openssh-client, and name the private key or, for an agent, the public one"
            }
            Self::People(_) => "each person signs the hash of this very plan, with the key in it",
            Self::Read { .. } => "name a file that can be read",
            Self::SecretText => "say it in other words: everybody may read the record",
            Self::SameName(_) => "give one of them another name",
            Self::PeopleNeeded => "leave --unattended out, or rehearse it",
            Self::NotARehearsal => "`chancery-ceremony rehearse --faults all` does it for you",
            Self::NotConfirmed => {
                "type the two words as shown; `chancery-ceremony resume` goes on at this step"
            }
            Self::NoPages => "name a directory in share_pages of the site, or sit at a terminal",
            Self::Pages { .. } => {
                "name a directory of your own in share_pages of the site (chmod 700), best in memory, \
                 and go on with `chancery-ceremony resume`"
            }
            Self::Share(ShareError::AnotherSet { .. } | ShareError::OtherUse(_)) => {
                "look at the set on the page; the custodians of the right set type theirs"
            }
            Self::Share(ShareError::Combination | ShareError::Corrupted(_)) => {
                "somebody changed it: let other custodians type theirs, then split the secret anew"
            }
            Self::Share(ShareError::Line(_) | ShareError::Whole) => {
                "compare what you type with the page, character by character"
            }
            Self::Share(ShareError::Missing(_) | ShareError::Twice(_)) => {
                "each custodian types their own share, in the order in which they are called; \
                 `chancery-ceremony resume` goes on"
            }
            Self::Share(ShareError::Numbers | ShareError::Scheme(_)) => {
                "2 to 15 holders, each with a name of their own, and a threshold from 2 to their number"
            }
            Self::Share(ShareError::TooFew { .. }) => "call more custodians of the set",
            Self::HandOffNowhere => "name a directory that does not exist, with --handoff",
            Self::NotDestroyed(_) => {
                "do not let this token out of your hands: initialize it, or destroy it as its vendor says"
            }
            Self::NothingToHandOff => "leave --handoff out",
            Self::CopyMisused { .. } => {
                "do not let this token out of your hands: it gives the key away; find out what changed it"
            }
            Self::KeptToken(_) => {
                "name another token with --scratch-token; this one's keys would be gone"
            }
            Self::NoOfficer => "name so_pin_file in [scratch] of the site",
            Self::NoProfile { .. } => "name what `chancery-ceremony probe -o` wrote",
            Self::OtherKind(_) => {
                "probe a scratch token of this model and firmware, and name that profile"
            }
            Self::ScratchNotEmpty(_) => {
                "name another token with --scratch-token, or destroy what is in this one"
            }
            Self::Unable(_) => {
                "change the plan, or take another kind of token; `chancery-ceremony probe` says what one can"
            }
            Self::OnBreak(_) => {
                "switch the machine off, if you like; when all are back, `chancery-ceremony resume` goes on"
            }
            Self::OtherBackup(_) => {
                "connect the token with the copy, and name it in [backup] of the site"
            }
            Self::OtherForm(_) => "correct alphabet and length in the plan",
            Self::OneJournal => "name two files with --journal, on two media",
            Self::OutOfValidity(_) => "check the clock of this machine, then the plan's dates",
            Self::Plan(PlanError::Findings(_)) => {
                "correct the plan and run `chancery-ceremony plan` again"
            }
            Self::Plan(_) => "see docs/ceremony.md for the form of a plan",
            Self::Progress(_) => "do not use these keys before you know why",
            Self::Random(_) => "restart the machine, then go on with `chancery-ceremony resume`",
            Self::Inventory(_) => "do not use these keys before you know why",
            Self::Rehearsal(RehearsalError::Plan(_)) => {
                "correct the plan and run `chancery-ceremony plan` again"
            }
            Self::Rehearsal(RehearsalError::NoToken) => "name one with --on",
            Self::Rehearsal(RehearsalError::Shim(_)) => {
                "build it (`cargo build -p chancery-shim`), and say where it is with --shim"
            }
            Self::Rehearsed => "name the transcript of the ceremony itself",
            Self::Rehearsal(_) => "do not perform the plan with this program before you know why",
            Self::Write { .. } => {
                "free space or mend the disk, and name a path that does not exist"
            }
            Self::Restart(_) => "set the variables of [environment] yourself, then run it again",
            Self::CrlSignature | Self::RequestSignature | Self::Signature(_) => {
                "do not use this token: replace it and start anew"
            }
            Self::Site(SiteError::NoPin(_) | SiteError::PinInSite(_) | SiteError::TwoPins(_)) => {
                "name a file with the PIN, or say that custodians have it, in the site"
            }
            Self::Site(SiteError::NoBackup) => {
                "add [backup] to the site: token = { label = … } and pin_file"
            }
            Self::Site(SiteError::NoScratch) => {
                "add [scratch] to the site: pin_file, and so_pin_file"
            }
            Self::Site(SiteError::FirstPin(_)) => {
                "give the token its first PIN from a file; pin-split and pin-rotate replace it"
            }
            Self::Site(SiteError::OtherModule { .. }) => {
                "find out who changed the module before you change module_sha256"
            }
            Self::Site(SiteError::Pin { .. }) => {
                "write the PIN into the file and run chmod 600 on it"
            }
            Self::Site(_) => "see hsm-config/ for a site file of each kind of token",
            Self::Terminal(_) => "go on with `chancery-ceremony resume`",
            Self::Token(TokenError::KeyExists { .. }) => {
                "another ceremony made it: read that transcript, then use an empty token; or this one \
                 was interrupted: go on with `chancery-ceremony resume`"
            }
            Self::Token(TokenError::NoToken(_)) => {
                "check [token] and [environment] of the site; `pkcs11-tool --list-slots` shows what is there"
            }
            Self::Token(TokenError::Pin { .. }) => {
                "check pin_file, or who typed which share, before you try again: tokens lock. Where a \
                 pin-rotate was interrupted, `chancery-ceremony resume --pin former` tries the former PIN"
            }
            Self::Token(_) => {
                "see the journal for what was done, look at the token, then go on with \
                 `chancery-ceremony resume`"
            }
            Self::TokenExists(_) => {
                "initializing would destroy its keys; use another label, or a plan without token-init"
            }
            Self::TokenNotEmpty(_) => "find out who uses this token before anything else is done",
            Self::Verify(VerifyError::Read { .. }) => "name the transcript of a ceremony",
            Self::Verify(_) => "do not use these keys before you know why",
        }
    }
}
