//! Why a batch does not begin, or is not done.

use std::path::PathBuf;

use card::ReaderName;
use thiserror::Error;

/// A batch does not begin, or is not done.
#[derive(Debug, Error)]
pub(crate) enum BatchError {
    #[error("YubiKey {serial} is {upn}'s already")]
    Given { serial: u32, upn: String },
    #[error("the file of results {} is another batch's, which is at work", .0.display())]
    InUse(PathBuf),
    #[error("{} has no letter with a PIN for YubiKey {serial}", path.display())]
    Letter { path: PathBuf, serial: u32 },
    #[error("there is nobody called {0} in the file")]
    Nobody(String),
    #[error("{done} of {all} cards are done{why}")]
    NotAll { done: usize, all: usize, why: &'static str },
    #[error("YubiKey {0} is nobody's who is waited for")]
    NotWaitedFor(u32),
    #[error("{}, {at}: {what}", path.display())]
    People { path: PathBuf, at: String, what: String },
    #[error("{}, line {line}: it is no result", path.display())]
    Results { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("there are cards in {}", names(.0))]
    SeveralCards(Vec<ReaderName>),
    #[error("YubiKey {0} is in use, or has secrets of somebody's")]
    Used(u32),
}

impl BatchError {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Given { .. } => "each card is one person's; take another",
            Self::InUse(_) => "wait until it is done, or name another file with --results",
            Self::Letter { .. } => {
                "`chancery-card wipe --everything` makes the card as new; then run it again"
            }
            Self::Nobody(_) => "--new-card takes the UPN of a person as it is in the file",
            Self::NotAll { .. } => "the same command goes on with those who are left",
            Self::NotWaitedFor(_) => "insert one that is asked for",
            Self::People { .. } => "no card was touched: mend the file, and run it again",
            Self::Results { .. } => "name another file with --results, or mend this one",
            Self::Used(_) => {
                "take one that comes from the factory; `chancery-card wipe --everything` makes it as new"
            }
            Self::SeveralCards(_) => "take them out, or choose a reader with --reader",
        }
    }

    /// Whether a file or the command line is wrong, and not a card.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::InUse(_)
                | Self::Letter { .. }
                | Self::Nobody(_)
                | Self::People { .. }
                | Self::Results { .. }
        )
    }
}

fn names(readers: &[ReaderName]) -> String {
    readers.iter().map(|reader| format!("{:?}", reader.to_string())).collect::<Vec<_>>().join(", ")
}
