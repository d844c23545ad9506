//! The audit directory: the entries of the audit log, a line each, in one file a day.
//!
//! The ledger is the truth and the files are its copy: after a crash or a full disk they are
//! repaired from it. An entry that differs from the ledger's is not repaired but reported.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use rusqlite::Connection;
use thiserror::Error;

use super::audit;

/// Why the audit directory does not have every entry.
#[derive(Debug, Error)]
pub(super) enum DirectoryError {
    #[error(
        "{path}: entry {seq} differs from the ledger's; keep the file, and find out who wrote it"
    )]
    Altered { path: String, seq: u64 },
    #[error(
        "{path} has entry {seq}, which the ledger does not have: the ledger is an older copy; \
         restore the later one, or move the audit files away and keep them"
    )]
    Ahead { path: String, seq: u64 },
    #[error("{path}: {error}")]
    File { path: String, error: io::Error },
    #[error("cannot read the ledger: {0}")]
    Ledger(#[from] rusqlite::Error),
}

/// Entries that were committed in one transaction.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The number of the first.
    pub(super) first: u64,
    /// How many they are.
    pub(super) count: u64,
    /// When they were written.
    pub(super) time: Timestamp,
    /// The entries, each with a line end.
    pub(super) text: Vec<u8>,
}

/// The directory, and the file that the next line goes to.
pub(super) struct AuditDirectory {
    directory: PathBuf,
    /// Locked while lines are appended: `chanceryd operator add` is another process.
    lock: File,
    /// `None` when it has to be found anew.
    last: Option<LastFile>,
}

impl AuditDirectory {
    /// Opens the directory, makes it if there is none, and repairs it from the ledger.
    pub(super) fn open(directory: &Path, ledger: &Connection) -> Result<Self, DirectoryError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let path = directory.join(".lock");
        let lock = appending().open(&path).map_err(at(&path))?;
        let mut opened = Self { directory: directory.to_owned(), lock, last: None };
        opened.catch_up(ledger)?;
        Ok(opened)
    }

    /// Appends what was just committed, and before it what another process committed.
    pub(super) fn append(
        &mut self,
        ledger: &Connection,
        lines: &Lines,
    ) -> Result<(), DirectoryError> {
        if lines.count == 0 {
            return Ok(());
        }
        self.locked(|this| match &mut this.last {
            Some(last) if last.takes(lines) => {
                let path = last.path.clone();
                last.append(&lines.text, lines.count).map_err(at(&path))
            }
            _ => this.repair(ledger),
        })
    }

    /// Appends every entry that the ledger has and the files do not.
    pub(super) fn catch_up(&mut self, ledger: &Connection) -> Result<(), DirectoryError> {
        self.locked(|this| this.repair(ledger))
    }

    fn locked(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        self.lock.lock().map_err(at(&self.directory))?;
        let outcome = act(self);
        if outcome.is_err() {
            self.last = None;
        }
        self.lock.unlock().map_err(at(&self.directory))?;
        outcome
    }

    fn repair(&mut self, ledger: &Connection) -> Result<(), DirectoryError> {
        self.last = None;
        let mut last = self.find_last(ledger)?;
        let written = last.as_ref().map_or(0, |last| last.seq);
        let mut statement = ledger
            .prepare_cached("SELECT seq, time, entry FROM audit WHERE seq > ?1 ORDER BY seq")?;
        let mut rows = statement.query([written])?;
        while let Some(row) = rows.next()? {
            let (seq, time): (u64, i64) = (row.get(0)?, row.get(1)?);
            let date = utc_date(Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX));
            let file = match last.take() {
                Some(file) if file.date >= date => file,
                before => {
                    if let Some(before) = before {
                        before.file.sync_data().map_err(at(&before.path))?;
                    }
                    LastFile::open(&self.directory, date, seq - 1)?
                }
            };
            let file = last.insert(file);
            let line = [row.get_ref(2)?.as_bytes().unwrap_or_default(), b"\n"].concat();
            let path = file.path.clone();
            file.append(&line, 1).map_err(at(&path))?;
        }
        self.last = last;
        Ok(())
    }

    /// The last file that has a whole line, cut after it, and compared with the ledger.
    fn find_last(&self, ledger: &Connection) -> Result<Option<LastFile>, DirectoryError> {
        let mut dates = self.dates()?;
        dates.sort_unstable();
        while let Some(date) = dates.pop() {
            let mut file = LastFile::open(&self.directory, date, 0)?;
            if file.cut_and_compare(ledger)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn dates(&self) -> Result<Vec<Date>, DirectoryError> {
        let entries = fs::read_dir(&self.directory).map_err(at(&self.directory))?;
        let mut dates = Vec::new();
        for entry in entries {
            let name = entry.map_err(at(&self.directory))?.file_name();
            let name = name.to_string_lossy();
            let date = name.strip_prefix("audit-").and_then(|name| name.strip_suffix(".jsonl"));
            dates.extend(date.and_then(|date| date.parse::<Date>().ok()));
        }
        Ok(dates)
    }
}

/// The file of a day, up to its last whole line.
struct LastFile {
    path: PathBuf,
    date: Date,
    file: File,
    inode: u64,
    len: u64,
    /// The number of its last entry.
    seq: u64,
    /// How much was appended since the last fsync.
    unsynced: u64,
}

impl LastFile {
    fn open(directory: &Path, date: Date, seq: u64) -> Result<Self, DirectoryError> {
        let path = directory.join(format!("audit-{date}.jsonl"));
        let open = || -> io::Result<_> {
            let file = appending().open(&path)?;
            File::open(directory)?.sync_all()?;
            let metadata = file.metadata()?;
            Ok((file, metadata.ino(), metadata.len()))
        };
        let (file, inode, len) = open().map_err(at(&path))?;
        Ok(Self { path, date, file, inode, len, seq, unsynced: 0 })
    }

    /// Whether these lines are the next ones of this file, and nobody touched it since.
    fn takes(&self, lines: &Lines) -> bool {
        let untouched = fs::metadata(&self.path)
            .is_ok_and(|metadata| metadata.ino() == self.inode && metadata.len() == self.len);
        untouched && lines.first == self.seq + 1 && utc_date(lines.time) <= self.date
    }

    fn append(&mut self, text: &[u8], count: u64) -> io::Result<()> {
        self.file.write_all(text)?;
        self.len += text.len() as u64;
        self.seq += count;
        self.unsynced += text.len() as u64;
        if self.unsynced >= SYNC_LEN {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Cuts what a crash left torn, and compares all that may not have been on the disk then.
    /// False when the file has no line.
    fn cut_and_compare(&mut self, ledger: &Connection) -> Result<bool, DirectoryError> {
        let path = self.path.clone();
        let (start, text) = self.read_tail().map_err(at(&path))?;
        let whole = whole_lines(&text);
        if whole.len() < text.len() {
            tracing::warn!(path = %path.display(), bytes = text.len() - whole.len(), "torn audit line cut");
            self.file.set_len(start + whole.len() as u64).map_err(at(&path))?;
        }
        self.len = start + whole.len() as u64;
        let altered = |seq| DirectoryError::Altered { path: path.display().to_string(), seq };
        let mut statement = ledger.prepare_cached("SELECT entry FROM audit WHERE seq = ?1")?;
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let seq = audit::sequence_number(line).ok_or_else(|| altered(self.seq + 1))?;
            let mut rows = statement.query([seq])?;
            let Some(row) = rows.next()? else {
                return Err(DirectoryError::Ahead { path: path.display().to_string(), seq });
            };
            let follows = self.seq == 0 || seq == self.seq + 1;
            if !follows || row.get_ref(0)?.as_bytes() != Ok(line) {
                return Err(altered(seq));
            }
            self.seq = seq;
        }
        Ok(self.len > 0)
    }

    /// The end of the file, from the start of a line on, and where it starts.
    fn read_tail(&self) -> io::Result<(u64, Vec<u8>)> {
        let mut file = File::open(&self.path)?;
        let mut start = self.len.saturating_sub(TAIL_LEN);
        file.seek(SeekFrom::Start(start))?;
        let mut text = Vec::new();
        file.take(self.len - start).read_to_end(&mut text)?;
        if start > 0 {
            let line = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
            text.drain(..line);
            start += line as u64;
        }
        Ok((start, text))
    }
}

/// The lines before the first that is torn: without an end, or with zeros where the file system
/// had a length but not yet the bytes.
fn whole_lines(text: &[u8]) -> &[u8] {
    let sound = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let end = text[..sound].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    &text[..end]
}

fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640);
    options
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    move |error| DirectoryError::File { path: path.display().to_string(), error }
}

fn utc_date(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// A power cut can lose or blank at most so much of the last file, since it is synced that often.
const SYNC_LEN: u64 = 4 * 1024 * 1024;

/// More than [`SYNC_LEN`] and the longest batch.
const TAIL_LEN: u64 = 2 * SYNC_LEN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_and_blank_lines_are_cut() {
        for (text, whole) in [
            ("", ""),
            ("{\"se", ""),
            ("{}\n", "{}\n"),
            ("{}\n{\"se", "{}\n"),
            ("{}\n{\0\0}\n{}\n", "{}\n"),
            ("\0\0\0\n", ""),
        ] {
            assert_eq!(whole_lines(text.as_bytes()), whole.as_bytes(), "{text:?}");
        }
    }
}
