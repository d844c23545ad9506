//! What a person and a program are told when a command does not succeed.

use std::{io, path::PathBuf, process::ExitCode};

use card::{
    CardError, EscrowError, PinError, ReaderName, Slot, doctor::Verdict, enrolment::EnrolmentError,
    init::InitError, wipe::WipeError,
};
use client::{
    files::FileError,
    flags::FlagsError,
    output::{Output, complain},
    profile::ProfileError,
};
use pki::x509::{certificate::CertificateError, cms::RecipientError};
use thiserror::Error;

use super::batch::error::BatchError;

/// A command did not succeed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Card(#[from] CardError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the appliance's certificate is {what}")]
    BadAnswer { what: String },
    #[error("cannot read {}", path.display())]
    Certificate { path: PathBuf, source: CertificateError },
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("the new PIN is the one that every YubiKey comes with")]
    DefaultPin,
    #[error("the {what} was typed in two ways")]
    Differ { what: &'static str },
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("there is no card in {}", names(readers))]
    NoCard { readers: Vec<ReaderName> },
    #[error("there is no card reader")]
    NoReader,
    #[error("there is no YubiKey with the serial number {serial} that can be used")]
    NoSuchCard { serial: u32 },
    #[error("slot {slot} could not be wiped: {why}; its certificate is revoked")]
    LeftOnCard { slot: Slot, why: String },
    #[error("session {id} is not open: {why}")]
    NotOpen { id: String, why: String },
    #[error("there is no certificate of {what}")]
    NoCertificate { what: String },
    #[error("{what} is no file, and the appliance cannot be asked for an account")]
    NoRoad { what: String },
    #[error("no role of sessions is given, and the profile has no session_role")]
    NoSessionRole,
    #[error("no role is given, and the profile has no card_role")]
    NoRole,
    #[error("nothing can be kept: neither XDG_STATE_HOME nor HOME is set")]
    NoState,
    #[error("slot {slot} has no certificate with one UPN")]
    NoUpn { slot: Slot },
    #[error("the {what} is not given, and nobody is at a terminal to be asked for it")]
    NobodyToAsk { what: &'static str, flag: &'static str },
    #[error("nothing was done: that is not what the card is called, {wanted}")]
    NotConfirmed { wanted: String },
    #[error("no {what} was typed")]
    NotTyped { what: &'static str, source: io::Error },
    #[error("another card is in {reader} by now")]
    OtherCard { reader: ReaderName },
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    #[error("{} is not what was kept of an enrolment", path.display())]
    Order { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error("{}: no {what}", path.display())]
    Pin { what: &'static str, path: PathBuf, source: PinError },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("nothing can be encrypted for {}", path.display())]
    Recipient { path: PathBuf, source: RecipientError },
    #[error("there are cards in {}", names(readers))]
    SeveralCards { readers: Vec<ReaderName> },
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("the card is wiped, and session {id} is still open")]
    StillOpen { id: String },
    #[error("stopped before there was anything on the card")]
    Stopped,
    #[error("what was typed is no {what}")]
    Typed { what: &'static str, source: PinError },
    #[error("what is to be lost for good is to be confirmed, and nobody is at a terminal")]
    Unconfirmed { wanted: String },
    #[error("it would {} log on", match verdict { Verdict::Bad => "not", _ => "not everywhere" })]
    WouldNotLogOn { verdict: Verdict },
    #[error(transparent)]
    Wipe(#[from] WipeError),
}

impl From<FlagsError> for Failure {
    fn from(error: FlagsError) -> Self {
        match error {
            FlagsError::Client(error) => Self::Client(error),
            FlagsError::Profile(error) => Self::Profile(error),
        }
    }
}

impl Failure {
    /// Prints `error:` and `hint:`; with `--json`, a problem of the appliance goes to the output
    /// as it came.
    pub(crate) fn report(self, output: &mut Output) -> ExitCode {
        // The reader of a pipe may leave when it has seen enough.
        if matches!(&self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        if let Self::Client(client::Error::Problem(problem)) = &self {
            // An output that is closed does not change what is said below.
            let _ = output.json_only(problem);
        }
        complain(&self.text(), self.hint().as_deref());
        ExitCode::from(self.exit_code())
    }

    /// What is wrong, with its causes, in one line.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Client(client::Error::Problem(problem)) => {
                let reason = problem.reason.as_ref().map(|it| format!(" ({it})"));
                format!("{}: {}{}", problem.title, problem.detail, reason.unwrap_or_default())
            }
            _ => client::chain(self),
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Card(error)
            | Self::Enrolment(EnrolmentError::Card(error))
            | Self::Init(InitError::Card(error))
            | Self::Wipe(WipeError::Card(error)) => card_hint(error)?,
            Self::Batch(error) => error.hint(),
            Self::BadAnswer { .. } => "nothing was written; tell the operators of the appliance",
            Self::Client(error) => return error.hint(),
            Self::DefaultPin | Self::Differ { .. } => "run it again; nothing was changed",
            Self::Enrolment(error) => enrolment_hint(error)?,
            Self::Init(error) => init_hint(error)?,
            Self::NobodyToAsk { flag, .. } => return Some(format!("name its file with {flag}")),
            Self::NoCard { .. } => "insert a card; `chancery-card list` shows all readers",
            Self::NoReader => "connect a reader or a YubiKey",
            Self::LeftOnCard { slot, .. } => {
                return Some(format!("insert the card: chancery-card wipe --slot {slot}"));
            }
            Self::NoCertificate { .. } => "`chancery-card inspect` shows what is on a card",
            Self::NoRoad { .. } => {
                "set up a profile (`chancery profile add`), or leave out --offline"
            }
            Self::NoSessionRole => {
                "say it with --session-role, or once for all in the profile: session_role = \"NAME\""
            }
            Self::NotOpen { .. } => "`chancery session show` has what was said of it",
            Self::StillOpen { id } => {
                return Some(format!("chancery session end {id} --reason done"));
            }
            Self::NoRole => {
                "say it with --role, or once for all in the profile: card_role = \"NAME\""
            }
            Self::NoState => "set XDG_STATE_HOME to a directory",
            Self::NoUpn { .. } => "`chancery-card enroll --upn …` says for whom a new one is to be",
            Self::Order { .. } => "remove the file; what was begun is begun anew then",
            Self::Profile(error) => return error.hint(),
            Self::Recipient { .. } => {
                "name certificates of administrators that are for encryption, with RSA keys, and valid"
            }
            Self::NoSuchCard { .. } => "`chancery-card list` shows which cards there are",
            Self::OtherCard { .. } => "insert the one that it was begun with, and run it again",
            Self::SeveralCards { .. } => "choose one with --serial or --reader",
            Self::Unconfirmed { wanted } => {
                return Some(format!("say that it is this card: --confirm {wanted:?}"));
            }
            Self::Wipe(error) => wipe_hint(error)?,
            Self::Certificate { .. }
            | Self::File(_)
            | Self::NotConfirmed { .. }
            | Self::NotTyped { .. }
            | Self::Output(_)
            | Self::Pin { .. }
            | Self::Read { .. }
            | Self::Signals(_)
            | Self::Stopped
            | Self::Typed { .. }
            | Self::WouldNotLogOn { .. } => return None,
        };
        Some(hint.to_owned())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Card(error)
            | Self::Enrolment(EnrolmentError::Card(error))
            | Self::Init(InitError::Card(error))
            | Self::Wipe(WipeError::Card(error)) => card_exit_code(error),
            Self::Init(
                InitError::Escrow(_)
                | InitError::NewIsDefault(_)
                | InitError::NoPuk
                | InitError::StillDefault(_),
            ) => USAGE,
            Self::Batch(BatchError::SeveralCards(_)) => UNREACHABLE,
            Self::Batch(error) if error.is_usage() => USAGE,
            Self::Client(error) => client_exit_code(error),
            Self::BadAnswer { .. }
            | Self::Batch(_)
            | Self::Enrolment(_)
            | Self::Init(_)
            | Self::LeftOnCard { .. }
            | Self::NotOpen { .. }
            | Self::Signals(_)
            | Self::StillOpen { .. }
            | Self::Stopped
            | Self::Wipe(_)
            | Self::WouldNotLogOn { .. } => REFUSED,
            Self::NoCard { .. }
            | Self::NoReader
            | Self::NoSuchCard { .. }
            | Self::OtherCard { .. }
            | Self::SeveralCards { .. } => UNREACHABLE,
            Self::Certificate { .. }
            | Self::DefaultPin
            | Self::Differ { .. }
            | Self::File(_)
            | Self::NoCertificate { .. }
            | Self::NoRoad { .. }
            | Self::NoRole
            | Self::NoSessionRole
            | Self::NoState
            | Self::NoUpn { .. }
            | Self::NobodyToAsk { .. }
            | Self::NotConfirmed { .. }
            | Self::NotTyped { .. }
            | Self::Order { .. }
            | Self::Output(_)
            | Self::Pin { .. }
            | Self::Profile(_)
            | Self::Read { .. }
            | Self::Recipient { .. }
            | Self::Typed { .. }
            | Self::Unconfirmed { .. } => USAGE,
        }
    }
}

/// Prints what clap has to say: help to the output, or a usage error.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // There is nobody left to tell if that fails.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
}

fn card_hint(error: &CardError) -> Option<&'static str> {
    match error {
        CardError::Gone { .. } => Some(
            "insert it again and run the same command; `chancery-card inspect` shows its state",
        ),
        CardError::LastTry("PUK") => {
            Some("with --last-try it is shown; if it is wrong, nothing unblocks the card any more")
        }
        CardError::LastTry(_) => Some("`chancery-card unblock` sets another one, by the PUK"),
        CardError::UnknownManagementKey => Some(
            "whoever set it has it: --management-key-file takes it; ykman piv access \
             change-management-key --protect lets the card keep it",
        ),
        CardError::InUse(_) => Some("end the other program, or wait until it is done"),
        CardError::Mute(_) => Some("turn the card around, or clean its contacts"),
        CardError::NoCard(_) => Some("insert a card; `chancery-card list` shows all readers"),
        CardError::NoService if cfg!(windows) => Some("start the service `Smart Card` (SCardSvr)"),
        CardError::NoService => Some("install and start pcscd: systemctl start pcscd.socket"),
        CardError::NoSuchReader(_) => Some("`chancery-card list` shows all readers"),
        CardError::NotSupported { .. } => {
            Some("take such a YubiKey; `chancery-card list` shows what is in the readers")
        }
        CardError::NotPiv => Some("take a YubiKey with its PIV application enabled"),
        CardError::PinLocked => Some("`chancery-card unblock` sets another one, by the PUK"),
        CardError::PukLocked => {
            Some("nothing unblocks it; `chancery-card wipe --everything` makes the card as new")
        }
        CardError::WrongManagementKey => {
            Some("name the file of the right one with --management-key-file")
        }
        CardError::WrongPin { .. } | CardError::WrongPuk { .. } => {
            Some("it was tried once and is not tried again by itself")
        }
        _ => None,
    }
}

fn init_hint(error: &InitError) -> Option<&'static str> {
    match error {
        InitError::StillDefault(_) => Some("to have it replaced, run it with --from-defaults"),
        InitError::NewIsDefault(_) => Some("choose another one"),
        InitError::NoPuk => Some("name its file with --puk-file"),
        InitError::Escrow(EscrowError::Other { .. }) => {
            Some("each card has a file of its own: name another, or move what is there")
        }
        InitError::PukElsewhere(_) => Some(
            "name the file where it is, or the PUK's own with --puk-file; `chancery-card wipe \
             --everything` makes the card as new",
        ),
        InitError::PlaceTaken(_) => Some("keep the data elsewhere, and remove the object"),
        _ => None,
    }
}

fn enrolment_hint(error: &EnrolmentError) -> Option<&'static str> {
    match error {
        EnrolmentError::InUse { .. } => {
            Some("choose another slot; --replace makes a new key there, and the old one is lost")
        }
        EnrolmentError::NoKey(_) => Some("`chancery-card enroll` makes one"),
        EnrolmentError::NotMadeHere(_) => Some("--new-key has the card make another one"),
        EnrolmentError::NotForThisKey(_) => {
            Some("`chancery-card request` makes the request for the key that is in the slot")
        }
        EnrolmentError::ContainerMap { .. } => Some(
            "the map (object 5FFF10) is kept by Yubico's minidriver: let it, or ykman, remove it first",
        ),
        _ => None,
    }
}

fn wipe_hint(error: &WipeError) -> Option<&'static str> {
    match error {
        WipeError::ContainerMap(_) => Some(
            "the map (object 5FFF10) is kept by Yubico's minidriver: let it, or ykman, remove it first",
        ),
        WipeError::StillThere(_) => Some("`chancery-card inspect` shows what is on the card"),
        _ => None,
    }
}

fn client_exit_code(error: &client::Error) -> u8 {
    match error {
        client::Error::Problem(_) => REFUSED,
        client::Error::Identity(_) | client::Error::Encode(_) | client::Error::Random => USAGE,
        _ => UNREACHABLE,
    }
}

fn card_exit_code(error: &CardError) -> u8 {
    match error {
        CardError::InUse(_)
        | CardError::Mute(_)
        | CardError::NoCard(_)
        | CardError::NoService
        | CardError::NoSuchReader(_)
        | CardError::Service { .. } => UNREACHABLE,
        _ => REFUSED,
    }
}

fn names(readers: &[ReaderName]) -> String {
    readers.iter().map(|reader| format!("{:?}", reader.to_string())).collect::<Vec<_>>().join(", ")
}

/// The card refused, or was pulled.
const REFUSED: u8 = 1;
/// The command line or a local file is wrong.
const USAGE: u8 = 2;
/// There is no such card, or it cannot be reached.
const UNREACHABLE: u8 = 3;
