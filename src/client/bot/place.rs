//! Where bundles are: a directory that other programs read.
//!
//! ```text
//! DIRECTORY/current      → .bundles/7       what counts: replaced by one rename
//! DIRECTORY/tls.key      → current/tls.key  made once, for programs that want plain names
//! DIRECTORY/.bundles/7/                     a bundle, never changed again
//! DIRECTORY/.bundles/6/                     the one before, for programs that are reading it
//! DIRECTORY/.lock                           held by the agent that writes here
//! ```
//!
//! A program that opens `current` once and its files below that sees one bundle. The directory is
//! opened once, and all below is reached from there without following a link: whoever may write
//! in it can lead the agent nowhere else.

mod access;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync, mkdirat,
        openat, readlinkat, renameat, symlinkat, unlinkat,
    },
    io::Errno,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    bundle::{Bundle, BundleFile},
    config,
};
use access::Access;

/// The directory of an output, held by this agent.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    directory: OwnedFd,
    bundles: OwnedFd,
    access: Access,
    /// Held as long as the agent runs: one writes here.
    _lock: OwnedFd,
}

/// What is known of a bundle: a file of it, `bundle.json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// No other bundle has it.
    pub(super) id: String,
    /// To which instance of the bot it was given.
    pub(super) instance: String,
    /// What it depends on, digested: settings and authorities.
    pub(super) made_from: String,
    /// Its first moment.
    pub(super) not_before: Timestamp,
    /// Its last.
    pub(super) not_after: Timestamp,
    /// When there is to be another.
    pub(super) due: Timestamp,
}

/// A bundle is not put in place, or not taken away; what counted before counts still.
#[derive(Debug, Error)]
pub(super) enum PlaceError {
    /// Owner, mode or list of readers is not what was set.
    #[error("{} did not take its {what}", path.display())]
    Access { path: PathBuf, what: &'static str },
    /// Another agent writes there.
    #[error("another agent writes to {}", .0.display())]
    Busy(PathBuf),
    /// Something lies where a link would go.
    #[error("{} is in the way", .0.display())]
    InTheWay(PathBuf),
    /// The directory is another than the one that was opened.
    #[error("{} was replaced while the agent ran", .0.display())]
    Moved(PathBuf),
    /// Others may write in the directory.
    #[error("others may write to {} (mode {mode:04o})", path.display())]
    Open { path: PathBuf, mode: u32 },
    /// The directory is somebody else's.
    #[error("{} belongs to user {owner}", path.display())]
    Owner { path: PathBuf, owner: u32 },
    /// The operating system refuses.
    #[error("cannot {what} {}", path.display())]
    System { what: &'static str, path: PathBuf, source: io::Error },
    /// There is no such account.
    #[error("there is no {what} {name:?}")]
    Unknown { what: &'static str, name: String },
}

impl PlaceError {
    /// What to do about it, if there is something.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Access { .. } => Some("use a file system that has access control lists".into()),
            Self::Busy(_) => Some("two agents must not share a directory".into()),
            Self::InTheWay(path) => Some(format!("move {} away", path.display())),
            Self::Moved(_) => Some("restart the agent".into()),
            Self::Open { path, .. } => Some(format!("chmod go-w {}", path.display())),
            Self::Owner { path, .. } => {
                Some(format!("{} must be the agent's, root's, or the owner's", path.display()))
            }
            Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("make the directory first; the agent makes none that others read".into())
            }
            Self::System { .. } => None,
            Self::Unknown { .. } => {
                Some("accounts that are not in /etc/passwd or /etc/group go by number".into())
            }
        }
    }
}

impl Place {
    /// Takes hold of the directory, and puts right what a kill left over.
    pub(super) fn open(settings: &config::Place) -> Result<Self, PlaceError> {
        let path = &settings.directory;
        let access = Access::read(settings)?;
        let directory = openat(CWD, path, DIRECTORY, Mode::empty())
            .map_err(|error| system("open", path, error))?;
        refuse_strangers(&directory, path, access.owner)?;
        let lock_path = path.join(LOCK);
        let lock = openat(&directory, LOCK, CREATE.difference(OFlags::EXCL), PRIVATE)
            .map_err(|error| system("open", &lock_path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(PlaceError::Busy(path.clone())),
            other => other.map_err(|error| system("lock", &lock_path, error))?,
        }
        let bundles = make_directory(&directory, BUNDLES)
            .map_err(|error| system("make", &path.join(BUNDLES), error))?;
        let place = Self { path: path.clone(), directory, bundles, access, _lock: lock };
        place.put_right()?;
        Ok(place)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Says before the work whether a bundle could be put here: that there is room, above all.
    pub(super) fn check(&self) -> Result<(), PlaceError> {
        let here = fs::symlink_metadata(&self.path).ok();
        let held = fstat(&self.directory).map_err(|error| system("look at", &self.path, error))?;
        if here.is_none_or(|it| (it.dev(), it.ino()) != (held.st_dev, held.st_ino)) {
            return Err(PlaceError::Moved(self.path.clone()));
        }
        let path = self.path.join(BUNDLES).join(ATTEMPT);
        remove_if_present(&self.bundles, ATTEMPT)
            .map_err(|error| system("remove", &path, error))?;
        let attempt = openat(&self.bundles, ATTEMPT, CREATE, PRIVATE).map_err(io::Error::from);
        let tried = attempt.and_then(|file| {
            let mut file = File::from(file);
            file.write_all(&[0; ROOM])?;
            file.sync_all()
        });
        let removed = remove_if_present(&self.bundles, ATTEMPT);
        tried.map_err(|error| system("write", &path, error))?;
        removed.map_err(|error| system("remove", &path, error))
    }

    /// What is known of the bundle that counts.
    pub(super) fn current(&self) -> Result<Option<Record>, PlaceError> {
        match self.pointed_at()? {
            Some(number) => self.record(number),
            None => Ok(None),
        }
    }

    /// Writes a bundle beside the others, then lets it count.
    pub(super) fn put(&self, bundle: &Bundle, record: &Record) -> Result<(), PlaceError> {
        for file in &bundle.files {
            self.link(file.name, false)?;
        }
        let number = self.numbers()?.last().map_or(1, |last| last + 1);
        self.write(number, bundle, record).inspect_err(|_| drop(self.remove(number)))?;
        self.point_at(number)?;
        for file in &bundle.files {
            self.link(file.name, true)?;
        }
        self.prune()
    }

    /// Lets the bundle before the one that counts count again, if it is good at this time; gives
    /// what is known of it.
    pub(super) fn put_back(&self, now: Timestamp) -> Result<Option<Record>, PlaceError> {
        let Some(bad) = self.pointed_at()? else { return Ok(None) };
        let Some(&before) = self.numbers()?.range(..bad).next_back() else { return Ok(None) };
        let Some(record) = self.record(before)?.filter(|it| it.not_after > now) else {
            return Ok(None);
        };
        self.point_at(before)?;
        self.remove(bad)?;
        Ok(Some(record))
    }

    /// Takes everything away.
    pub(super) fn withdraw(&self) -> Result<(), PlaceError> {
        let path = self.path.join(CURRENT);
        remove_if_present(&self.directory, CURRENT)
            .and_then(|()| Ok(fsync(&self.directory)?))
            .map_err(|error| system("remove", &path, error))?;
        for number in self.numbers()? {
            self.remove(number)?;
        }
        Ok(())
    }

    /// Removes what is neither the bundle that counts nor the one before it.
    fn put_right(&self) -> Result<(), PlaceError> {
        for (directory, name) in [(&self.directory, NEXT), (&self.bundles, ATTEMPT)] {
            let path = self.path.join(name);
            remove_if_present(directory, name).map_err(|error| system("remove", &path, error))?;
        }
        match self.pointed_at()? {
            Some(number) if self.record(number)?.is_none() => {
                tracing::error!(directory = %self.path.display(), "current is no bundle: removed");
                self.withdraw()
            }
            Some(number) => {
                for unfinished in self.numbers()?.range(number + 1..) {
                    self.remove(*unfinished)?;
                }
                self.prune()
            }
            None => self.withdraw(),
        }
    }

    fn prune(&self) -> Result<(), PlaceError> {
        let numbers: Vec<u64> = self.numbers()?.into_iter().collect();
        for number in numbers.iter().rev().skip(KEPT) {
            self.remove(*number)?;
        }
        Ok(())
    }

    fn write(&self, number: u64, bundle: &Bundle, record: &Record) -> Result<(), PlaceError> {
        let path = self.path_of(number);
        let directory = make_directory(&self.bundles, &number.to_string())
            .map_err(|error| system("make", &path, error))?;
        let text = serde_json::to_vec(record)
            .map_err(|error| system("write", &path.join(RECORD), error))?;
        let record = BundleFile { name: RECORD, contents: text.into(), secret: false };
        for file in bundle.files.iter().chain([&record]) {
            self.write_file(&directory, &path.join(file.name), file)?;
        }
        fsync(&directory)
            .and_then(|()| fsync(&self.bundles))
            .map_err(|error| system("write", &path, error))
    }

    fn write_file(
        &self,
        directory: &OwnedFd,
        path: &Path,
        file: &BundleFile,
    ) -> Result<(), PlaceError> {
        let written = openat(directory, file.name, CREATE, PRIVATE).map_err(io::Error::from);
        let written = written.and_then(|descriptor| {
            let mut open = File::from(descriptor);
            open.write_all(&file.contents)?;
            Ok(open)
        });
        let open = written.map_err(|error| system("write", path, error))?;
        self.access.set(&open, path, file.secret)?;
        open.sync_all().map_err(|error| system("write", path, error))
    }

    fn point_at(&self, number: u64) -> Result<(), PlaceError> {
        let target = Path::new(BUNDLES).join(number.to_string());
        remove_if_present(&self.directory, NEXT)
            .and_then(|()| {
                symlinkat(&target, &self.directory, NEXT)?;
                renameat(&self.directory, NEXT, &self.directory, CURRENT)?;
                Ok(fsync(&self.directory)?)
            })
            .map_err(|error| system("replace", &self.path.join(CURRENT), error))
    }

    fn pointed_at(&self) -> Result<Option<u64>, PlaceError> {
        match readlinkat(&self.directory, CURRENT, Vec::new()) {
            Ok(target) => {
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                let number = target.strip_prefix(BUNDLES).ok().and_then(|it| it.to_str());
                match number.and_then(|it| it.parse().ok()) {
                    Some(number) => Ok(Some(number)),
                    None => Err(PlaceError::InTheWay(self.path.join(CURRENT))),
                }
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::INVAL) => Err(PlaceError::InTheWay(self.path.join(CURRENT))),
            Err(error) => Err(system("read", &self.path.join(CURRENT), error)),
        }
    }

    /// The link for those who want a plain name; what lies there and is another thing, stays.
    fn link(&self, name: &str, make: bool) -> Result<(), PlaceError> {
        let (path, target) = (self.path.join(name), Path::new(CURRENT).join(name));
        match readlinkat(&self.directory, name, Vec::new()) {
            Ok(found) if found.as_bytes() == target.as_os_str().as_bytes() => Ok(()),
            Ok(_) | Err(Errno::INVAL) => Err(PlaceError::InTheWay(path)),
            Err(Errno::NOENT) if make => symlinkat(&target, &self.directory, name)
                .map_err(|error| system("make", &path, error)),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(system("read", &path, error)),
        }
    }

    fn record(&self, number: u64) -> Result<Option<Record>, PlaceError> {
        let path = self.path_of(number).join(RECORD);
        let read = openat(&self.bundles, number.to_string(), DIRECTORY, Mode::empty())
            .and_then(|directory| openat(directory, RECORD, READ, Mode::empty()));
        let file = match read {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(system("read", &path, error)),
        };
        let mut text = Vec::new();
        File::from(file).read_to_end(&mut text).map_err(|error| system("read", &path, error))?;
        Ok(serde_json::from_slice(&text).ok())
    }

    /// All bundles, finished or not.
    fn numbers(&self) -> Result<BTreeSet<u64>, PlaceError> {
        let path = self.path.join(BUNDLES);
        let names = names(self.bundles.as_fd()).map_err(|error| system("list", &path, error))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn remove(&self, number: u64) -> Result<(), PlaceError> {
        let name = number.to_string();
        let removed = openat(&self.bundles, &name, DIRECTORY, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|directory| {
                for file in names(directory.as_fd())? {
                    unlinkat(&directory, &file, AtFlags::empty())?;
                }
                Ok(unlinkat(&self.bundles, &name, AtFlags::REMOVEDIR)?)
            });
        removed.map_err(|error| system("remove", &self.path_of(number), error))
    }

    fn path_of(&self, number: u64) -> PathBuf {
        self.path.join(BUNDLES).join(number.to_string())
    }
}

/// Whoever may replace the links decides what is read.
fn refuse_strangers(
    directory: &OwnedFd,
    path: &Path,
    owner: Option<u32>,
) -> Result<(), PlaceError> {
    let status = fstat(directory).map_err(|error| system("look at", path, error))?;
    let own = rustix::process::geteuid().as_raw();
    if status.st_uid != 0 && status.st_uid != own && Some(status.st_uid) != owner {
        return Err(PlaceError::Owner { path: path.to_owned(), owner: status.st_uid });
    }
    let mode = status.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return Err(PlaceError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Makes a directory that anyone may look through, unless it is there, and opens it.
fn make_directory(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = openat(parent, name, DIRECTORY, Mode::empty())?;
    // The umask must not keep out those for whom the files are.
    fchmod(&directory, Mode::from_raw_mode(0o755))?;
    Ok(directory)
}

fn remove_if_present(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn system(what: &'static str, path: &Path, error: impl Into<io::Error>) -> PlaceError {
    PlaceError::System { what, path: path.to_owned(), source: error.into() }
}

const CURRENT: &str = "current";
/// The link that is about to be `current`.
const NEXT: &str = ".current-new";
const BUNDLES: &str = ".bundles";
const LOCK: &str = ".lock";
/// A file that tells whether there is room.
const ATTEMPT: &str = ".attempt";
/// See [`Record`].
pub(super) const RECORD: &str = "bundle.json";

/// More than any bundle takes.
const ROOM: usize = 64 * 1024;
/// The bundle that counts, and the one before.
const KEPT: usize = 2;

const PRIVATE: Mode = Mode::from_raw_mode(0o600);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests;
