//! The evidence bundle: all that shows how a ceremony went, in one file that verifies by itself.
//!
//! ```text
//! transcript, rehearsal, site, attachments ──collect──► all files ──► archive ──read──► verified again
//! ```
//!
//! What people look at (the plan, certificates, signatures, the hand-off) is made from the transcript
//! alone. So reading a bundle verifies the transcript, makes all of it once more, and compares.

pub mod archive;
mod parts;
mod readme;

use std::{collections::BTreeMap, fs, io, path::Path, path::PathBuf};

use thiserror::Error;

use crate::{
    digest::Digest,
    handoff::HandoffFailure,
    secrets,
    transcript::{Attendance, TOOL},
    verify::{Verified, VerifyError},
};
use archive::{ArchiveError, Files};

/// What a bundle is made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The transcript's file.
    pub transcript: Vec<u8>,
    /// The transcript of the rehearsal that it names.
    pub rehearsal: Option<Vec<u8>>,
    /// The site's file.
    pub site: Option<Vec<u8>>,
    /// The profile of the kind of token.
    pub token_profile: Option<Vec<u8>>,
    /// Other files: photos, scanned scripts, reports.
    pub attachments: Files,
    /// Hashes of files that are too large to be attached (films), by their names.
    pub elsewhere: BTreeMap<String, Digest>,
    /// SHA-256 of the bundle of the ceremony before this one.
    pub previous: Option<Digest>,
}

/// A bundle in which nothing is wrong.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The ceremony.
    pub verified: Verified,
    /// Its rehearsal.
    pub rehearsal: Option<Verified>,
    /// What else the bundle says of itself.
    pub about: About,
    /// The files by their names in the bundle.
    pub files: Files,
}

/// `bundle.json`: what a bundle says of itself.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The version of this form.
    pub schema: Schema,
    /// The program that wrote the explanations in it.
    pub tool: String,
    /// What the ceremony is called.
    pub ceremony: String,
    /// The hash of its plan.
    pub plan: Digest,
    /// The head of its transcript.
    pub head: Digest,
    /// SHA-256 of the bundle of the ceremony before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
}

/// The versions of the form of a bundle.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub enum Schema {
    /// The first.
    #[serde(rename = "chancery-ceremony-bundle/1")]
    V1,
}

impl Evidence {
    /// Verifies a transcript and its rehearsal, and makes all files of the bundle.
    ///
    /// # Errors
    ///
    /// Something is wrong in them, or they do not belong together; or there is something that must
    /// not leave the room.
    pub fn collect(sources: Sources) -> Result<Self, EvidenceError> {
        let verified = Verified::from_bytes(&sources.transcript)
            .map_err(|source| EvidenceError::of(TRANSCRIPT, source))?;
        let rehearsal = match (&sources.rehearsal, verified.progress.opened.rehearsal) {
            (Some(content), _) => Some(rehearsal(content, &verified)?),
            (None, Some(_)) => return Err(EvidenceError::NoRehearsal),
            (None, None) => None,
        };
        Self::assemble(verified, rehearsal, sources)
    }

    /// Makes all files of the bundle of what was verified.
    fn assemble(
        verified: Verified,
        rehearsal: Option<Verified>,
        sources: Sources,
    ) -> Result<Self, EvidenceError> {
        if verified.progress.opened.attendance == Attendance::Rehearsed {
            return Err(EvidenceError::Rehearsed);
        }
        if let Some(site) = &sources.site
            && Digest::of("chancery-ceremony-site-v1", &[site])
                != verified.progress.opened.site_hash
        {
            return Err(EvidenceError::OtherSite);
        }
        if let Some(profile) = &sources.token_profile
            && Some(Digest::of_file(profile)) != verified.progress.opened.token_profile
        {
            return Err(EvidenceError::OtherProfile);
        }
        let about = About {
            schema: Schema::V1,
            tool: TOOL.to_owned(),
            ceremony: verified.progress.plan.script().id.to_string(),
            plan: verified.progress.plan.hash(),
            head: verified.head,
            previous: sources.previous,
        };
        let mut files = parts::made(&verified, &about)?;
        files.insert(TRANSCRIPT.to_owned(), sources.transcript);
        let given = [
            (REHEARSAL, sources.rehearsal),
            (SITE, sources.site),
            (PROFILE, sources.token_profile),
        ];
        files.extend(given.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?))));
        for (name, content) in sources.attachments {
            files.insert(format!("{ATTACHMENTS}{}", attachable(&name)?), content);
        }
        if !sources.elsewhere.is_empty() {
            sources.elsewhere.keys().try_for_each(|name| attachable(name).map(drop))?;
            files.insert(ELSEWHERE.to_owned(), sums(&sources.elsewhere).into_bytes());
        }
        if let Some((name, _)) = files.iter().find(|(_, content)| secrets::private_key(content)) {
            return Err(EvidenceError::Secret(name.clone()));
        }
        files.insert(MANIFEST.to_owned(), manifest(&files).into_bytes());
        Ok(Self { verified, rehearsal, about, files })
    }

    /// Reads and verifies the content of a bundle.
    ///
    /// # Errors
    ///
    /// Something in it is wrong: the first bad record is named, or the first bad file.
    pub fn read(content: &[u8]) -> Result<Self, EvidenceError> {
        // 1. The container, which has one form only.
        let (archived, seconds) = archive::read(content)?;
        let prefix = archived.keys().next().and_then(|name| name.split_once('/')).map(|(id, _)| id);
        let prefix = format!("{}/", prefix.unwrap_or_default());
        let mut files = Files::new();
        for (name, content) in archived {
            let inside = name.strip_prefix(&prefix).ok_or(EvidenceError::Unknown(name.clone()))?;
            files.insert(inside.to_owned(), content);
        }

        // 2. Records before files: a changed record is named, and not only the file that it is in.
        let transcript = taken(&files, TRANSCRIPT)?;
        let verified = Verified::from_bytes(transcript)
            .map_err(|source| EvidenceError::of(TRANSCRIPT, source))?;
        let rehearsal = match files.get(REHEARSAL) {
            Some(content) => Some(rehearsal(content, &verified)?),
            None if verified.progress.opened.rehearsal.is_none() => None,
            None => return Err(EvidenceError::Missing(REHEARSAL.to_owned())),
        };

        // 3. Each file is the one that was put in.
        check_manifest(&files)?;

        // 4. What was made from the transcript is made once more.
        let about = taken(&files, ABOUT)?;
        let about: About =
            serde_json::from_slice(about).map_err(|_| EvidenceError::Differs(ABOUT.to_owned()))?;
        let sources = Sources {
            transcript: transcript.to_vec(),
            rehearsal: files.get(REHEARSAL).cloned(),
            site: files.get(SITE).cloned(),
            token_profile: files.get(PROFILE).cloned(),
            attachments: attachments(&files),
            elsewhere: elsewhere(&files)?,
            previous: about.previous,
        };
        let again = Self::assemble(verified, rehearsal, sources)?;
        let explained = about.tool != again.about.tool;
        for (name, content) in again.files.iter().filter(|(name, _)| *name != MANIFEST) {
            // What explains the rest may have been written by another version of this program.
            let explains = explained && EXPLANATIONS.contains(&name.as_str());
            if !explains && files.get(name) != Some(content) {
                return Err(match files.get(name) {
                    Some(_) => EvidenceError::Differs(name.clone()),
                    None => EvidenceError::Missing(name.clone()),
                });
            }
        }
        if let Some(name) = files.keys().find(|name| !again.files.contains_key(*name)) {
            return Err(EvidenceError::Unknown(name.clone()));
        }
        if !explained && files.get(MANIFEST) != again.files.get(MANIFEST) {
            return Err(EvidenceError::Differs(MANIFEST.to_owned()));
        }
        if again.prefix() != prefix || again.seconds() != seconds {
            return Err(EvidenceError::Differs("the archive".to_owned()));
        }
        Ok(Self { about, files, ..again })
    }

    /// The bundle's file: the same for the same ceremony and attachments, wherever it is made.
    pub fn to_bytes(&self) -> Vec<u8> {
        let prefix = self.prefix();
        let files = self.files.iter();
        let files = files.map(|(name, content)| (format!("{prefix}{name}"), content.clone()));
        archive::write(&files.collect(), self.seconds())
    }

    /// The verifier in Python that is in it.
    pub fn second_verifier(&self) -> &[u8] {
        self.files.get(VERIFIER).map_or(&[], Vec::as_slice)
    }

    /// Whether the explanations in it are those of this version of the program, which compared them.
    pub fn is_explained_by_this_version(&self) -> bool {
        self.about.tool == TOOL
    }

    /// The directory that an archiver makes.
    fn prefix(&self) -> String {
        format!("{}/", self.about.ceremony)
    }

    /// The second in which the ceremony ended.
    fn seconds(&self) -> u64 {
        let last = self.verified.transcript.last().map(|record| record.time.as_second());
        last.and_then(|second| u64::try_from(second).ok()).unwrap_or_default()
    }
}

/// SHA-256 of a file, however large it is.
///
/// # Errors
///
/// It cannot be read.
pub fn hash_of(path: &Path) -> io::Result<Digest> {
    Digest::of_reader(fs::File::open(path)?)
}

fn rehearsal(content: &[u8], of: &Verified) -> Result<Verified, EvidenceError> {
    let wrong = |source| EvidenceError::of(REHEARSAL, source);
    let rehearsal = Verified::from_bytes(content).map_err(wrong)?;
    of.check_rehearsal(&rehearsal).map_err(wrong)?;
    Ok(rehearsal)
}

/// What `sha256sum --check` reads.
fn sums(hashes: &BTreeMap<String, Digest>) -> String {
    hashes.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect()
}

fn manifest(files: &Files) -> String {
    let listed = files.iter().filter(|(name, _)| *name != MANIFEST);
    sums(&listed.map(|(name, content)| (name.clone(), Digest::of_file(content))).collect())
}

/// Names the first file that is not the one that was put in.
fn check_manifest(files: &Files) -> Result<(), EvidenceError> {
    let found = read_sums(taken(files, MANIFEST)?);
    let found = found.ok_or(EvidenceError::Differs(MANIFEST.to_owned()))?;
    for (name, content) in files.iter().filter(|(name, _)| *name != MANIFEST) {
        match found.get(name) {
            None => return Err(EvidenceError::Unknown(name.clone())),
            Some(hash) if *hash != Digest::of_file(content) => {
                return Err(EvidenceError::OtherHash(name.clone()));
            }
            Some(_) => {}
        }
    }
    match found.keys().find(|name| !files.contains_key(*name)) {
        Some(name) => Err(EvidenceError::Missing(name.clone())),
        None => Ok(()),
    }
}

/// Reads what [`sums`] writes, and nothing else.
fn read_sums(content: &[u8]) -> Option<BTreeMap<String, Digest>> {
    let text = std::str::from_utf8(content).ok()?;
    let line = |line: &str| {
        let (hash, name) = line.split_once("  ")?;
        Some((name.to_owned(), hash.parse().ok()?))
    };
    let read: BTreeMap<String, Digest> = text.lines().map(line).collect::<Option<_>>()?;
    (sums(&read) == text).then_some(read)
}

fn attachments(files: &Files) -> Files {
    let attached =
        files.iter().filter_map(|(name, it)| Some((name.strip_prefix(ATTACHMENTS)?, it)));
    attached.map(|(name, content)| (name.to_owned(), content.clone())).collect()
}

fn elsewhere(files: &Files) -> Result<BTreeMap<String, Digest>, EvidenceError> {
    let Some(content) = files.get(ELSEWHERE) else { return Ok(BTreeMap::new()) };
    let read = read_sums(content).filter(|read| !read.is_empty());
    read.ok_or_else(|| EvidenceError::Differs(ELSEWHERE.to_owned()))
}

fn taken<'a>(files: &'a Files, name: &str) -> Result<&'a [u8], EvidenceError> {
    files.get(name).map(Vec::as_slice).ok_or_else(|| EvidenceError::Missing(name.to_owned()))
}

/// A name that is the same on every system, and hides nothing.
fn attachable(name: &str) -> Result<&str, EvidenceError> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let right =
        (1..=48).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['.', '-']);
    if right { Ok(name) } else { Err(EvidenceError::Name(name.to_owned())) }
}

const ABOUT: &str = "bundle.json";
const ATTACHMENTS: &str = "attachments/";
const ELSEWHERE: &str = "kept-elsewhere.sha256";
const MANIFEST: &str = "SHA256SUMS";
const REHEARSAL: &str = "rehearsal.jsonl";
const SITE: &str = "site.toml";
const PROFILE: &str = "token-profile.json";
const TRANSCRIPT: &str = "transcript.jsonl";
const VERIFIER: &str = "verify.py";
/// What the files are not made from, but says what they are.
const EXPLANATIONS: [&str; 5] = [ABOUT, MANIFEST, "README.txt", "clauses.json", VERIFIER];

/// There is something wrong in a bundle, or it cannot be made.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// It is no bundle, or its container was changed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file is not what it must be.
    #[error("{0} is not what it must be")]
    Differs(String),
    /// The transcript gives no hand-off.
    #[error(transparent)]
    Handoff(#[from] HandoffFailure),
    /// A file is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A file has a name that not every system can have.
    #[error("{0:?} is not a name for a bundle: use 1 to 48 of a-z, A-Z, 0-9, ., _ and -")]
    Name(String),
    /// The ceremony was rehearsed, and the rehearsal was not given.
    #[error("the rehearsal that the transcript names is not there")]
    NoRehearsal,
    /// A file is not the one that was put in, or its hash is not.
    #[error("{0} has not the hash that SHA256SUMS says")]
    OtherHash(String),
    /// The bundle before this one is another.
    #[error("the bundle does not name {found} as the one before it")]
    OtherPrevious {
        /// SHA-256 of the one that was given.
        found: Digest,
    },
    /// The profile of the token is another, or the transcript names none.
    #[error("token-profile.json is not the profile that the plan was compared with")]
    OtherProfile,
    /// The site is another.
    #[error("site.toml is not the site file of the ceremony")]
    OtherSite,
    /// SHA-256 of the bundle's file is not the one that was written down.
    #[error("the SHA-256 of the bundle is {found}, not {wanted}")]
    OtherSum {
        /// The bundle's.
        found: Digest,
        /// The one that it should be.
        wanted: Digest,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is of a rehearsal.
    #[error("the transcript is of a rehearsal")]
    Rehearsed,
    /// There is something that must not be in a bundle.
    #[error("{0} has a private key in it")]
    Secret(String),
    /// A file does not belong there.
    #[error("{0} does not belong there")]
    Unknown(String),
    /// A transcript is wrong.
    #[error("{file}: {source}")]
    Verify {
        /// Which.
        file: &'static str,
        /// How.
        source: Box<VerifyError>,
    },
}

impl EvidenceError {
    fn of(file: &'static str, source: VerifyError) -> Self {
        Self::Verify { file, source: Box::new(source) }
    }
}
