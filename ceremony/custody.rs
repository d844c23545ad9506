//! The custodians at work: shares are handed out to them, read back by them, and typed by enough of
//! them when a secret is needed.
//!
//! In a rehearsal nobody is there: each share is read from its page, as its holder would.

use std::{collections::BTreeSet, fs, io, path::Path};

use pki::secret::Secret;
use zeroize::Zeroizing;

use crate::{
    console::Console,
    failure::Failure,
    name::Name,
    shares::{
        Purpose, SetId, Share, ShareError, ShareSet, Terms, Whole, combine,
        page::{self, Occasion},
        text::{LINES, Line, parse_line},
    },
};

/// How this program meets the custodians.
pub struct Custody<'a> {
    /// Where they type.
    pub console: &'a mut Console,
    /// Where their pages are printed from; none, if they copy what the terminal shows.
    pub pages: Option<&'a Path>,
    /// It is a rehearsal: nobody types.
    pub rehearsed: bool,
}

/// A secret that shares gave, and which shares they were.
#[derive(Debug)]
pub struct Gathered {
    /// The secret.
    pub secret: Whole,
    /// What the shares say of it.
    pub terms: Terms,
    /// The numbers of the shares.
    pub shares: BTreeSet<u8>,
}

/// Which shares gave a PIN: the transcript has it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct GivenBy {
    /// Of which set.
    pub set: SetId,
    /// Their numbers.
    pub shares: BTreeSet<u8>,
}

/// What a secret is wanted for.
#[derive(
    Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// As the PIN of the security officer.
    So,
    /// As the PIN of the user.
    User,
    /// As the key that backups are wrapped under.
    WrappingKey,
}

impl Custody<'_> {
    /// Checks that shares can be handed out: there is a directory for pages that is nobody else's,
    /// or a terminal.
    ///
    /// # Errors
    ///
    /// There is neither.
    pub fn check(&self) -> Result<(), Failure> {
        match self.pages {
            Some(directory) => check_private(directory)
                .map_err(|source| Failure::Pages { path: directory.to_owned(), source }),
            None if self.console.is_terminal() => Ok(()),
            None => Err(Failure::NoPages),
        }
    }

    /// Gives each custodian their share: on a page to be printed, or on the terminal to be copied.
    ///
    /// # Errors
    ///
    /// A page cannot be written; the terminal is gone.
    pub fn hand_out(
        &mut self,
        set: &ShareSet,
        shares: &[Share],
        occasion: &Occasion,
    ) -> Result<(), Failure> {
        self.check()?;
        self.console.add(&set.terms.to_string())?;
        if let Some(directory) = self.pages {
            let at = |source| Failure::Pages { path: directory.to_owned(), source };
            page::print(directory, set, shares, occasion).map_err(at)?;
            let said = format!(
                "print each page in {}, and give it to its holder alone",
                directory.display()
            );
            return self.console.add(&said);
        }
        for share in shares {
            let holder = set.holder(share.index).map_or("", Name::as_str);
            self.console.add(&format!("{holder} alone looks at the screen, then types Enter"))?;
            self.console.show_and_forget("")?;
            // Written once: a text that grows leaves copies of itself behind.
            let mut shown = Zeroizing::new(String::with_capacity(512));
            let (index, terms) = (share.index, share.terms);
            shown.push_str(&format!("Share {index} of {}, {holder}\n{terms}\n\n", terms.count));
            for (number, line) in ('1'..).zip(share.to_lines()) {
                shown.push(number);
                shown.push_str("   ");
                shown.push_str(&line);
                shown.push('\n');
            }
            shown.push_str("\nCopy it onto a sheet, then type Enter: it is not shown again.\n");
            self.console.show_and_forget(&shown)?;
        }
        Ok(())
    }

    /// Lets every custodian type their own share, in the order of the set.
    ///
    /// # Errors
    ///
    /// Three times, what somebody typed was not the share that they got.
    pub fn read_back(&mut self, set: &ShareSet) -> Result<Vec<Share>, Failure> {
        let mut shares = Vec::new();
        for (index, holder) in (1..).zip(&set.holders) {
            let own = |share: &Share| {
                set.check(share)?;
                match share.index {
                    other if other == index => Ok(()),
                    // Somebody else's, or one's own for another.
                    other if other < index => Err(ShareError::Twice(other)),
                    _ => Err(ShareError::Missing(index)),
                }
            };
            let share = self.typed(&format!("{holder}, share {index}"), Some((set, index)), own);
            shares.push(share.map_err(|error| match error {
                Failure::NotConfirmed => ShareError::Missing(index).into(),
                error => error,
            })?);
            self.console.add(&format!("share {index} is as it was given to {holder}"))?;
        }
        Ok(shares)
    }

    /// Lets somebody type a share, of one of these sets if any are known.
    ///
    /// # Errors
    ///
    /// Three times, what they typed was no such share.
    pub fn one(&mut self, known: &[ShareSet]) -> Result<Share, Failure> {
        self.typed("a share", None, |share| is_known(share, known))
    }

    /// Lets as many custodians type their shares as it takes, whoever comes; of one of these sets, if
    /// any are known, and of a secret for this use.
    ///
    /// # Errors
    ///
    /// Three times, what somebody typed was no such share, or one that was there; or they do not
    /// give the secret.
    pub fn gather(&mut self, wanted: Option<Use>, known: &[ShareSet]) -> Result<Gathered, Failure> {
        let mut shares: Vec<Share> = Vec::new();
        loop {
            let only = if let [only] = known { Some(only.terms) } else { None };
            let terms = shares.first().map(|share| share.terms).or(only);
            let threshold = terms.map_or(2, |terms| terms.threshold);
            if let Some(terms) = terms.filter(|_| shares.len() == usize::from(threshold)) {
                let secret = match known.iter().find(|set| set.terms == terms) {
                    Some(set) => set.combine(&shares)?,
                    None => combine(&shares)?,
                };
                let shares = shares.iter().map(|share| share.index).collect();
                return Ok(Gathered { secret, terms, shares });
            }
            let next = shares.len() + 1;
            let asked = match (terms, wanted) {
                (Some(terms), _) => format!("a share of {terms}; {next} of {}", terms.threshold),
                (None, Some(wanted)) => format!("a share of {wanted}"),
                (None, None) => "a share".to_owned(),
            };
            let fits = |share: &Share| {
                if wanted.is_some_and(|wanted| wanted != Use::of(share.terms.purpose)) {
                    return Err(ShareError::OtherUse(share.index));
                }
                let first = shares.first().map_or(share.terms, |first| first.terms);
                share.is_of(first)?;
                if shares.iter().any(|it| it.index == share.index) {
                    return Err(ShareError::Twice(share.index));
                }
                is_known(share, known)
            };
            let next = u8::try_from(next).unwrap_or(u8::MAX);
            let share = self.typed(&asked, known.first().map(|set| (set, next)), fits);
            let share = share.map_err(|error| match error {
                Failure::NotConfirmed => {
                    ShareError::TooFew { there: shares.len(), wanted: threshold }.into()
                }
                error => error,
            })?;
            self.console.add(&format!("share {} is right", share.index))?;
            shares.push(share);
        }
    }

    /// Takes the pages of a set away, which is handed out. Custodians of a rehearsal have no others.
    ///
    /// # Errors
    ///
    /// One cannot be removed.
    pub fn take_away(&mut self, set: &ShareSet) -> Result<(), Failure> {
        let Some(directory) = self.pages.filter(|_| !self.rehearsed) else { return Ok(()) };
        page::remove(directory, set)
            .map_err(|source| Failure::Pages { path: directory.to_owned(), source })
    }

    /// Takes away the pages that an interruption left, but for those of sets that hold.
    ///
    /// # Errors
    ///
    /// One cannot be removed.
    pub fn take_away_all_but(&mut self, held: &BTreeSet<SetId>) -> Result<(), Failure> {
        let Some(directory) = self.pages else { return Ok(()) };
        page::remove_all_but(directory, held)
            .map_err(|source| Failure::Pages { path: directory.to_owned(), source })
    }

    /// A share as somebody types it, line by line; three times at most. `own` says which page is
    /// read in a rehearsal.
    fn typed(
        &mut self,
        asked: &str,
        own: Option<(&ShareSet, u8)>,
        fits: impl Fn(&Share) -> Result<(), ShareError>,
    ) -> Result<Share, Failure> {
        if let (true, Some((set, index)), Some(directory)) = (self.rehearsed, own, self.pages) {
            let at = |source| Failure::Pages { path: directory.to_owned(), source };
            let share = page::read(directory, set, index).map_err(at)?;
            fits(&share)?;
            return Ok(share);
        }
        self.console.add(&format!("{asked}: type its {LINES} lines; they are not shown"))?;
        let mut wrong = None;
        for _ in 0..TRIES {
            let share = self.lines().and_then(|lines| Ok(Share::from_lines(&lines)?));
            let share = share.and_then(|share| fits(&share).map(|()| share).map_err(Failure::from));
            match share {
                Ok(share) => return Ok(share),
                Err(Failure::Share(error)) => {
                    self.console.add(&error.to_string())?;
                    wrong = Some(error);
                }
                // Nobody types any more; what was wrong before says more.
                Err(Failure::NotConfirmed) => break,
                Err(error) => return Err(error),
            }
        }
        Err(wrong.map_or(Failure::NotConfirmed, Failure::Share))
    }

    /// The lines of a share; a line that was not typed as it is printed is named at once, and
    /// typed again.
    fn lines(&mut self) -> Result<[Line; LINES as usize], Failure> {
        let mut lines: [Line; LINES as usize] = std::array::from_fn(|_| Line::default());
        for (number, line) in (1..).zip(&mut lines) {
            let mut tries = 0;
            *line = loop {
                let Some(text) = self.console.read_hidden(&format!("line {number}"))? else {
                    return Err(Failure::NotConfirmed);
                };
                tries += 1;
                match parse_line(number, &text) {
                    Ok(line) => break line,
                    Err(error) if tries == TRIES => return Err(error.into()),
                    Err(error) => self.console.add(&error.to_string())?,
                }
            };
        }
        Ok(lines)
    }
}

impl Gathered {
    /// The PIN, and which shares gave it.
    pub fn pin(&self) -> Option<(Secret, GivenBy)> {
        let given_by = GivenBy { set: self.terms.set, shares: self.shares.clone() };
        self.terms.purpose.pin(&self.secret).map(|pin| (pin, given_by))
    }
}

impl GivenBy {
    /// Whether these are as many of the set's shares as it takes.
    pub fn is_enough(&self, threshold: u8, count: u8) -> bool {
        self.shares.len() == usize::from(threshold)
            && self.shares.iter().all(|share| (1..=count).contains(share))
    }
}

impl Use {
    /// What a secret of this purpose is for.
    pub fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::SoPin(_) => Self::So,
            Purpose::UserPin(_) => Self::User,
            Purpose::WrappingKey => Self::WrappingKey,
        }
    }
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::So => "the SO PIN",
            Self::User => "the user PIN",
            Self::WrappingKey => "the key that backups are wrapped under",
        })
    }
}

/// Whether a share is one of these sets, as it was made; any is, if none are known.
fn is_known(share: &Share, known: &[ShareSet]) -> Result<(), ShareError> {
    let set = known.iter().find(|set| set.terms == share.terms);
    match set.or(known.first()) {
        Some(set) => set.check(share),
        None => Ok(()),
    }
}

/// A directory that only its owner can look into.
fn check_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = fs::metadata(directory)?.permissions().mode();
    if mode & 0o077 != 0 {
        let said = format!("others can look into it (mode {:04o}); run chmod 700", mode & 0o7777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    Ok(())
}

const TRIES: u32 = 3;
