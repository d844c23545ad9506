//! The journals: the transcript while it is written, once on each of the media.
//!
//! A record is in every journal, on disk, before what it announces is done. So the longest journal
//! says all that was done or begun, and each other one is a beginning of it.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use jiff::Timestamp;
use rustix::{
    fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with},
    process::{Signal, getpid, kill_process},
};
use thiserror::Error;

use crate::{
    digest::Digest,
    name::Name,
    transcript::{
        Event, JournalFound, Opened, Record, Trailer,
        chain::{self, Chain, ChainError},
    },
};

/// Journals that are being written; nobody else can write them meanwhile.
#[derive(Debug)]
pub struct Journals {
    journals: Vec<Journal>,
    head: Digest,
    seq: u64,
    /// Only in a rehearsal.
    power_loss: Option<PowerLoss>,
}

#[derive(Debug)]
struct Journal {
    file: File,
    path: PathBuf,
}

/// Where the power is lost in a rehearsal: while this line is written, counted over all journals
/// from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PowerLoss {
    /// Which line it is, counted on from where the writing begins.
    pub at: u64,
    /// How much of it is written.
    pub written: Written,
}

/// How much of a line is written when the power is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// A part.
    Half,
    /// Nothing.
    Nothing,
    /// All of it.
    Whole,
}

/// `LINE:nothing`, `LINE:half` or `LINE:whole`.
impl FromStr for PowerLoss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (at, written) = text.split_once(':').ok_or("a power loss is LINE:HOW")?;
        let written = match written {
            "half" => Written::Half,
            "nothing" => Written::Nothing,
            "whole" => Written::Whole,
            other => return Err(format!("{other:?} is not nothing, half or whole")),
        };
        let at = at.parse().map_err(|_| format!("{at:?} is not the number of a line"))?;
        Ok(Self { at, written })
    }
}

impl fmt::Display for PowerLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = match self.written {
            Written::Half => "half",
            Written::Nothing => "nothing",
            Written::Whole => "whole",
        };
        write!(f, "{}:{written}", self.at)
    }
}

/// Journals as they were found.
#[derive(Debug)]
pub struct Found {
    /// The longest of them.
    pub chain: Chain,
    /// What each one had.
    pub journals: Vec<JournalFound>,
}

impl Journals {
    /// Makes the files, each with its first record: a journal is there with that, or not at all.
    ///
    /// # Errors
    ///
    /// A file exists, or cannot be written.
    pub fn create(
        paths: &[PathBuf],
        opened: Opened,
        now: Timestamp,
        power_loss: Option<PowerLoss>,
    ) -> Result<(Self, Record), JournalError> {
        let start = chain::start(opened.plan_hash, opened.site_hash, &opened.tool);
        let mut journals = Self { journals: Vec::new(), head: start, seq: 0, power_loss };
        let opened = Event::Opened(Box::new(opened));
        let record = journals.compose(now, None, BTreeSet::new(), opened);
        let line = line_of(&record, paths)?;
        for path in paths {
            let journal = Journal::create(path, &line, &mut journals.power_loss)?;
            journals.journals.push(journal);
        }
        journals.linked(&line);
        Ok((journals, record))
    }

    /// Reads journals and changes none of them.
    ///
    /// # Errors
    ///
    /// None is there; or one is no journal; or they contradict each other.
    pub fn look(paths: &[PathBuf]) -> Result<Found, JournalError> {
        let contents: Result<Vec<_>, _> = paths.iter().map(|path| content(path)).collect();
        let contents = contents?;
        let longest = longest(paths, &contents)?;
        Ok(Found { chain: longest.0, journals: longest.1 })
    }

    /// Opens journals to go on: cuts a torn last line off, and brings each to the length of the
    /// longest. One that is not there is written anew.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look); or one cannot be written, or another program writes it.
    pub fn reopen(
        paths: &[PathBuf],
        power_loss: Option<PowerLoss>,
    ) -> Result<(Self, Found), JournalError> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            files.push(Journal::open(path)?);
        }
        // Read only now: nobody else writes them any more.
        let contents: Result<Vec<_>, _> = paths.iter().map(|path| content(path)).collect();
        let contents = contents?;
        let (chain, found, text) = longest(paths, &contents)?;
        let mut journals = Vec::with_capacity(paths.len());
        for ((path, file), content) in paths.iter().zip(files).zip(&contents) {
            journals.push(match file {
                Some(journal) => journal.bring_to(content, text)?,
                None => Journal::create(path, text, &mut None)?,
            });
        }
        let seq = chain.records.len() as u64;
        let journals = Self { journals, head: chain.head, seq, power_loss };
        Ok((journals, Found { chain, journals: found }))
    }

    /// The next record. It is not written yet.
    pub fn compose(
        &self,
        time: Timestamp,
        step: Option<u32>,
        who: BTreeSet<Name>,
        event: Event,
    ) -> Record {
        Record { seq: self.seq + 1, prev: self.head, time, step, who, event }
    }

    /// The head after the last record.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// Writes a record that was composed last; it is on disk, everywhere, when this returns.
    ///
    /// # Errors
    ///
    /// A journal cannot be written: what the record announces must not be done.
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let paths: Vec<PathBuf> = self.journals.iter().map(|it| it.path.clone()).collect();
        let line = line_of(record, &paths)?;
        self.write(&line)?;
        self.linked(&line);
        Ok(())
    }

    /// Writes the last line and gives the head: the journals are transcripts now.
    ///
    /// # Errors
    ///
    /// A journal cannot be written.
    pub fn close(mut self) -> Result<Digest, JournalError> {
        let paths: Vec<PathBuf> = self.journals.iter().map(|it| it.path.clone()).collect();
        let line = line_of(&Trailer { head: self.head }, &paths)?;
        self.write(&line)?;
        Ok(self.head)
    }

    fn write(&mut self, line: &[u8]) -> Result<(), JournalError> {
        for journal in &mut self.journals {
            journal.write(line, &mut self.power_loss)?;
        }
        Ok(())
    }

    fn linked(&mut self, line: &[u8]) {
        self.head = chain::next(self.head, &line[..line.len() - 1]);
        self.seq += 1;
    }
}

impl Journal {
    /// Makes a journal with its first lines. They are written under another name, so that a power
    /// loss leaves no journal that says nothing.
    fn create(
        path: &Path,
        lines: &[u8],
        power_loss: &mut Option<PowerLoss>,
    ) -> Result<Self, JournalError> {
        let new = staging(path);
        let at = |source| JournalError::Write { path: path.to_owned(), source };
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        let file = options().create_new(true).open(&new).map_err(at)?;
        let mut journal = Self { file, path: path.to_owned() };
        journal.lock()?;
        journal.write(lines, power_loss)?;
        renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE)
            .map_err(|error| at(error.into()))?;
        sync_directory_of(path).map_err(at)?;
        Ok(journal)
    }

    /// Opens a journal for this process alone; `None` if there is none.
    fn open(path: &Path) -> Result<Option<Self>, JournalError> {
        match options().open(path) {
            Ok(file) => {
                let journal = Self { file, path: path.to_owned() };
                journal.lock()?;
                Ok(Some(journal))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(JournalError::Write { path: path.to_owned(), source }),
        }
    }

    /// Replaces what this journal has beyond its last whole line by what the longest has there.
    fn bring_to(mut self, content: &[u8], longest: &[u8]) -> Result<Self, JournalError> {
        let kept = whole(content).len();
        if kept < content.len() {
            let cut = self.file.set_len(kept as u64).and_then(|()| self.file.sync_all());
            cut.map_err(|source| self.error(source))?;
        }
        if kept < longest.len() {
            self.write(&longest[kept..], &mut None)?;
        }
        Ok(self)
    }

    fn lock(&self) -> Result<(), JournalError> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| JournalError::Busy { path: self.path.clone() })
    }

    fn write(
        &mut self,
        line: &[u8],
        power_loss: &mut Option<PowerLoss>,
    ) -> Result<(), JournalError> {
        let lost = power_loss.as_mut().and_then(PowerLoss::count);
        let portion = match lost {
            None | Some(Written::Whole) => line,
            Some(Written::Half) => &line[..line.len() / 2],
            Some(Written::Nothing) => &[],
        };
        self.file.write_all(portion).map_err(|source| self.error(source))?;
        if lost.is_some() {
            lose_power();
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> JournalError {
        JournalError::Write { path: self.path.clone(), source }
    }
}

impl PowerLoss {
    /// Counts a line; tells how much of it is written if it is the one.
    fn count(&mut self) -> Option<Written> {
        self.at = self.at.saturating_sub(1);
        (self.at == 0).then_some(self.written)
    }
}

/// Ends this process as a power loss would: nothing is tidied up.
fn lose_power() {
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Every write is on disk when it returns, and goes to the end whoever else writes.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).custom_flags(OFlags::DSYNC.bits().cast_signed());
    options
}

fn staging(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// What a file has: nothing if it is not there.
fn content(path: &Path) -> Result<Vec<u8>, JournalError> {
    match fs::read(path) {
        Ok(content) => Ok(content),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(JournalError::Read { path: path.to_owned(), source }),
    }
}

/// The whole lines.
fn whole(content: &[u8]) -> &[u8] {
    let end = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    &content[..end]
}

/// The chain of the longest, what each has, and the longest's whole lines.
fn longest<'a>(
    paths: &[PathBuf],
    contents: &'a [Vec<u8>],
) -> Result<(Chain, Vec<JournalFound>, &'a [u8]), JournalError> {
    let mut found = Vec::with_capacity(paths.len());
    let mut best: Option<(Chain, &[u8])> = None;
    for (path, content) in paths.iter().zip(contents) {
        let lines = whole(content);
        let torn = content[lines.len()..].to_vec();
        let chain = match Chain::read(lines) {
            Ok(chain) => Some(chain),
            // Not there, or not more than the beginning of its first line.
            Err(ChainError::Empty) => None,
            Err(source) => return Err(JournalError::Chain { path: path.clone(), source }),
        };
        let records = chain.as_ref().map_or(0, |chain| chain.records.len() as u64);
        found.push(JournalFound { records, torn });
        let longer = best.as_ref().is_none_or(|(_, known)| known.len() < lines.len());
        best = match chain {
            Some(chain) if longer => Some((chain, lines)),
            _ => best,
        };
    }
    let (chain, text) = best.ok_or(JournalError::NotBegun)?;
    if contents.iter().any(|content| !text.starts_with(whole(content))) {
        return Err(JournalError::Contradiction);
    }
    Ok((chain, found, text))
}

fn line_of<T: serde::Serialize>(value: &T, paths: &[PathBuf]) -> Result<Vec<u8>, JournalError> {
    let line = chain::to_line(value).map_err(|source| JournalError::Write {
        path: paths.first().cloned().unwrap_or_default(),
        source: source.into(),
    })?;
    Ok(format!("{line}\n").into_bytes())
}

/// The directory that a path names an entry of.
pub(crate) fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Makes a new or renamed entry of a directory survive a power loss.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// The journals cannot be written, or cannot be gone on with.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another program has it.
    #[error("another program writes the journal {}", path.display())]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// A file is no journal, or was changed.
    #[error("{} is not a journal as it was written", path.display())]
    Chain {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ChainError,
    },
    /// None is the beginning of another.
    #[error("the journals contradict each other: they are not of one ceremony")]
    Contradiction,
    /// No journal has a whole record.
    #[error("no journal has a record: the ceremony did not begin, and nothing was changed")]
    NotBegun,
    /// A file cannot be read.
    #[error("cannot read the journal {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write the journal {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
