//! The arguments of the commands; those of evidence and of shares stand beside what they do.

use std::path::PathBuf;

use ceremony::{
    journal::PowerLoss,
    name::Name,
    rehearsal::{Faults, SoftToken},
};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    evidence_commands::{BundleArguments, CompareArguments, VerifyArguments},
    share_commands::ShareCommand,
};

/// Key ceremonies: CA keys are made in a token, by a plan, on the record.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print a plan to start from.
    New {
        /// Which.
        template: Template,
    },
    /// Check a plan, run it dry on throwaway software keys, and say what it would do.
    #[command(visible_alias = "lint")]
    Plan(PlanArguments),
    /// Print the script of a plan: what is followed and filled in at the ceremony.
    Script(ScriptArguments),
    /// Sign the hash of a plan that may be performed.
    Approve(ApproveArguments),
    /// Find out what a kind of token does, on one that has nothing to lose.
    Probe(ProbeArguments),
    /// Perform a plan on a software token whose keys are thrown away.
    Rehearse(RehearseArguments),
    /// Make the token of a rehearsal.
    #[command(hide = true)]
    RehearsalToken(RehearsalTokenArguments),
    /// Perform a plan on a token.
    Run(RunArguments),
    /// Go on with a ceremony that was interrupted.
    Resume(ResumeArguments),
    /// Say where a ceremony stands.
    Status(StatusArguments),
    /// Record that something happened that the plan does not have.
    Except(ExceptArguments),
    /// Give a ceremony up; it cannot be gone on with.
    Abort(AbortArguments),
    /// Gather all evidence of a ceremony in one file.
    Bundle(BundleArguments),
    /// What custodians do with their shares between ceremonies.
    #[command(subcommand)]
    Share(ShareCommand),
    /// Check a transcript or a bundle, and what was handed off, without the token.
    Verify(VerifyArguments),
    /// Tell where a ceremony is not what was rehearsed.
    Compare(CompareArguments),
    /// Print what was done at a ceremony, when and by whom, and what auditors ask for.
    Report(ReportArguments),
    /// List what a token has, and compare it with a transcript.
    Inventory(InventoryArguments),
    /// Write the hand-off of a whole transcript again.
    HandOff(HandOffArguments),
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Template {
    /// A certificate of another root by an offline root.
    Cross,
    /// Every kind of key, in a token that is initialized already.
    Demo,
    /// A root with a copy in a second token.
    BackupAndRestore,
    /// The certificate of an issuing CA on another machine, by an offline root.
    IssueIntermediate,
    /// An issuing CA whose certificate comes from another machine.
    Issuing,
    /// The end of a root: a last revocation list, then nothing is left of its key.
    KeyDestruction,
    /// An offline root with its first revocation list, on a machine of its own.
    OfflineRoot,
    /// A token's PINs, split anew among custodians.
    PinRotation,
    /// A root's successor beside it, each certified by the other.
    RollOver,
    /// A root and one issuing CA, in a token that is initialized first.
    RootAndIssuing,
    /// The next revocation list of an offline root.
    RootCrl,
    /// A root and an issuing CA for smart cards and domain controllers.
    SmartCards,
    /// SSH CAs alone.
    Ssh,
}

impl Template {
    /// The plan (TOML).
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Cross => include_str!("plans/cross.toml"),
            Self::Demo => include_str!("plans/demo.toml"),
            Self::BackupAndRestore => include_str!("plans/backup-and-restore.toml"),
            Self::IssueIntermediate => include_str!("plans/issue-intermediate.toml"),
            Self::Issuing => include_str!("plans/issuing.toml"),
            Self::KeyDestruction => include_str!("plans/key-destruction.toml"),
            Self::OfflineRoot => include_str!("plans/offline-root.toml"),
            Self::PinRotation => include_str!("plans/pin-rotation.toml"),
            Self::RollOver => include_str!("plans/roll-over.toml"),
            Self::RootAndIssuing => include_str!("plans/root-and-issuing.toml"),
            Self::RootCrl => include_str!("plans/root-crl.toml"),
            Self::SmartCards => include_str!("plans/smart-cards.toml"),
            Self::Ssh => include_str!("plans/ssh.toml"),
        }
    }
}

#[derive(Args)]
pub(crate) struct PlanArguments {
    /// The plan (TOML).
    pub(crate) plan: PathBuf,
    /// What `probe` found out of the kind of token that it is for.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_profile: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ScriptArguments {
    /// The plan (TOML).
    pub(crate) plan: PathBuf,
    #[command(flatten)]
    pub(crate) pages: PagesArguments,
}

#[derive(Args)]
pub(crate) struct ReportArguments {
    /// The transcript, or the bundle.
    pub(crate) transcript: PathBuf,
    #[command(flatten)]
    pub(crate) pages: PagesArguments,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub(crate) struct PagesArguments {
    /// Where the pages go as a web page, which stands alone; must not exist.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Where they go as a PDF; must not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) pdf: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ApproveArguments {
    /// The plan (TOML).
    pub(crate) plan: PathBuf,
    /// Who you are, as the plan names you.
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Name,
    /// Your private SSH key; the public one, if an agent has the private one.
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// Where the signature goes; must not exist.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
}

#[derive(Args)]
pub(crate) struct ProbeArguments {
    /// The site (TOML): the module, the tokens that are kept, and, as `scratch`, the PIN files of this one.
    #[arg(long)]
    pub(crate) site: PathBuf,
    /// The serial number of a token of the same kind that has nothing to lose.
    #[arg(long, value_name = "SERIAL")]
    pub(crate) scratch_token: String,
    /// Initialize it first, as `token-init` does.
    #[arg(long)]
    pub(crate) initialize: bool,
    /// Where the profile goes (JSON), which `plan`, `run` and `bundle` take; must not exist.
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct RehearseArguments {
    /// The plan (TOML).
    pub(crate) plan: PathBuf,
    /// On what: softhsm or kryoptic, and =MODULE where it is in no usual place.
    #[arg(long, default_value = "softhsm")]
    pub(crate) on: Vec<SoftToken>,
    /// Kill the ceremony and go on with it: in all places where it can be killed, or in so many.
    #[arg(long, value_name = "all|NUMBER")]
    pub(crate) faults: Option<Faults>,
    /// Which places chance takes, where they are not all: the same for the same seed.
    #[arg(long, requires = "faults", default_value_t = 1)]
    pub(crate) seed: u64,
    /// The PKCS#11 module that dies when it is told; beside this program, unless said otherwise.
    #[arg(long)]
    pub(crate) shim: Option<PathBuf>,
    /// Do not mark the certificates, so that their texts are those of the ceremony. The keys are
    /// destroyed as in each rehearsal.
    #[arg(long)]
    pub(crate) faithful: bool,
    /// Where the transcript of the rehearsal goes, which `run` wants to see; must not exist.
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct RehearsalTokenArguments {
    /// The site.
    pub(crate) site: PathBuf,
    /// The one that copies of keys go into.
    #[arg(long)]
    pub(crate) backup: bool,
}

#[derive(Args)]
pub(crate) struct InventoryArguments {
    /// The site (TOML): module, token, PIN file.
    #[arg(long)]
    pub(crate) site: PathBuf,
    /// The transcript of a ceremony on this token; all of them, in any order.
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Vec<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct RunArguments {
    /// The plan (TOML).
    pub(crate) plan: PathBuf,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// The transcript of a rehearsal of this plan, which a ceremony with people takes.
    #[arg(long)]
    pub(crate) rehearsal: Option<PathBuf>,
    /// What `probe` found out of this kind of token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_profile: Option<PathBuf>,
    /// An approval of the plan; as many as its quorum wants.
    #[arg(long = "approval", value_name = "FILE")]
    pub(crate) approvals: Vec<PathBuf>,
    /// Ask for no confirmation. For tests and demonstrations: the transcript says so.
    #[arg(long)]
    pub(crate) unattended: bool,
    /// It is a rehearsal: `rehearse` runs it so.
    #[arg(long, hide = true, conflicts_with = "unattended")]
    pub(crate) rehearsed: bool,
    /// In a rehearsal: certificates are not marked.
    #[arg(long, hide = true, requires = "rehearsed")]
    pub(crate) faithful: bool,
    /// Answer in JSON on standard output; what is done is told on standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct PlaceArguments {
    /// The site (TOML): module, token, PIN files.
    #[arg(long)]
    pub(crate) site: PathBuf,
    #[command(flatten)]
    pub(crate) journals: JournalArguments,
    /// Where the hand-off directory goes, if the plan hands something off; must not exist.
    #[arg(long)]
    pub(crate) handoff: Option<PathBuf>,
    /// The directory in which requests go out (NAME.csr) and certificates come back (NAME.pem), if
    /// the plan speaks with other machines.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) exchange: Option<PathBuf>,
    /// Die at this write of a journal, in a rehearsal.
    #[arg(long, hide = true, value_name = "LINE:HOW")]
    pub(crate) power_loss: Option<PowerLoss>,
}

#[derive(Args)]
pub(crate) struct JournalArguments {
    /// A journal of the ceremony, which becomes its transcript: name two, on two media.
    #[arg(long = "journal", value_name = "FILE", required = true)]
    pub(crate) journals: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ResumeArguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// What interrupted it.
    #[arg(long)]
    pub(crate) reason: String,
    /// What becomes of a key pair whose making was interrupted.
    #[arg(long)]
    pub(crate) found_key: Option<FoundKeyArgument>,
    /// Which PIN is the token's, if the change of it was interrupted: it is tried once.
    #[arg(long, default_value = "new")]
    pub(crate) pin: PinArgument,
    /// Answer in JSON on standard output; what is done is told on standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FoundKeyArgument {
    /// It is checked as a new one, and taken.
    Adopt,
    /// It is destroyed, and another one is made.
    Destroy,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PinArgument {
    /// The one before the change.
    Former,
    /// The one that the new shares give.
    New,
}

#[derive(Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) journals: JournalArguments,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ExceptArguments {
    #[command(flatten)]
    pub(crate) journals: JournalArguments,
    /// Who says so, as the plan names them.
    #[arg(long = "by", value_name = "NAME")]
    pub(crate) by: Vec<Name>,
    /// What happened.
    #[arg(long)]
    pub(crate) text: String,
}

#[derive(Args)]
pub(crate) struct AbortArguments {
    #[command(flatten)]
    pub(crate) journals: JournalArguments,
    /// Who says so, as the plan names them.
    #[arg(long = "by", value_name = "NAME")]
    pub(crate) by: Vec<Name>,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Args)]
pub(crate) struct HandOffArguments {
    /// The transcript.
    pub(crate) transcript: PathBuf,
    /// Where the hand-off directory goes; must not exist.
    #[arg(long)]
    pub(crate) handoff: PathBuf,
}
