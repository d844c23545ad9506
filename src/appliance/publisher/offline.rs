//! Revocation lists of CAs that are offline: a ceremony signed them, the appliance gives them out.
//!
//! They are those of the hand-off, and newer ones in the directory `offline_crls`, each as `NAME.crl`
//! in DER, which is served as `/crl/NAME.crl`. Only what a CA of the hand-off signed is taken, and
//! nothing that is older than the ceremony's own or than what was given out: the state directory keeps
//! the last of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use pki::{
    handoff::{Handoff, HandoffError},
    x509::{self, crl::Template},
};
use thiserror::Error;

use super::Artefact;
use crate::config::Config;

/// The lists, by name.
#[derive(Clone, Debug, Default)]
pub struct OfflineCrls(BTreeMap<String, OfflineCrl>);

/// A list that a CA of the hand-off signed.
#[derive(Clone, Debug)]
pub struct OfflineCrl {
    /// Its number, which grows with each list of the CA.
    pub number: u64,
    /// Its bytes (DER), and its time.
    pub artefact: Artefact,
    /// Where it was read.
    path: PathBuf,
    /// It was not given out before.
    new: bool,
}

/// A list cannot be given out.
#[derive(Debug, Error)]
pub enum OfflineCrlError {
    /// No CA of the hand-off signed it.
    #[error(
        "{}: it is no revocation list (DER) of an offline CA of the hand-off, as ceremonies sign them",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The hand-off cannot be used.
    #[error(transparent)]
    Handoff(#[from] HandoffError),
    /// The last list cannot be kept.
    #[error("cannot keep {}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No list can have this name.
    #[error("{}: {what}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
    /// A newer one was given out.
    #[error("{}: its number is {number}, and list {before} was given out", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its number.
        number: u64,
        /// The number that was given out.
        before: u64,
    },
    /// Something cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another list with this number was given out.
    #[error("{}: another list with the number {number} was given out", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// Their number.
        number: u64,
    },
}

impl OfflineCrlError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => {
                "copy the list (NAME.crl) of the export of the ceremony that signed it, by the root \
                 of this hand-off"
            }
            Self::Handoff(_) => "run chancery-ceremony",
            Self::Keep { .. } => "see to the state directory",
            Self::Name { .. } => "name it as the issuing CA's certificate does: root.crl",
            Self::Older { .. } | Self::Twice { .. } => {
                "copy the last list there; if that is lost, have a ceremony sign the next one, with \
                 a greater number (template root-crl)"
            }
            Self::Read { .. } => "put it there, readable by chanceryd",
        }
    }
}

impl OfflineCrls {
    /// Reads and verifies all of them; nothing is written.
    ///
    /// # Errors
    ///
    /// See [`OfflineCrlError`]; then none is taken.
    pub fn read(config: &Config, handoff: &Handoff) -> Result<Self, OfflineCrlError> {
        let mut lists = BTreeMap::new();
        let given = given(config)?;
        let names: BTreeSet<&String> = handoff.crls.keys().chain(given.keys()).collect();
        for name in names {
            let made = handoff.crls.get(name).map(|crl| config.handoff.join(&crl.file));
            let newest = given.get(name).or(made.as_ref()).cloned().unwrap_or_default();
            if handoff.x509.get(name).is_some_and(|authority| authority.online) {
                let what = "an authority that is online has this name, and its own list";
                return Err(OfflineCrlError::Name { path: newest, what });
            }
            let der = bytes(&newest)?;
            let recognised = handoff.recognise_crl(&config.handoff, name, &der)?;
            let Some((signer, template)) = recognised else {
                return Err(OfflineCrlError::Foreign { path: newest });
            };
            let kept = kept(config, name);
            let kept = kept.exists().then(|| bytes(&kept)).transpose()?;
            let made = made.filter(|made| *made != newest).map(|made| bytes(&made)).transpose()?;
            for earlier in made.iter().chain(&kept) {
                follows(&signer, &template, &der, earlier, &newest)?;
            }
            let new = kept.as_ref() != Some(&der);
            let Template { number, this_update, next_update, .. } = template;
            let artefact = Artefact::new(der, this_update, next_update);
            lists.insert(name.clone(), OfflineCrl { number, artefact, path: newest, new });
        }
        Ok(Self(lists))
    }

    /// Keeps what is new in the state directory, durably: nothing older is taken from then on.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn keep(&self, config: &Config) -> Result<(), OfflineCrlError> {
        for (name, list) in self.news() {
            let path = kept(config, name);
            replace(&path, &list.artefact.bytes)
                .map_err(|source| OfflineCrlError::Keep { path, source })?;
        }
        Ok(())
    }

    /// Those that were not given out before.
    pub fn news(&self) -> impl Iterator<Item = (&String, &OfflineCrl)> {
        self.0.iter().filter(|(_, list)| list.new)
    }

    /// The list of this name.
    pub fn get(&self, name: &str) -> Option<&Artefact> {
        self.0.get(name).map(|list| &list.artefact)
    }

    /// Which are about to expire, or have; with the file that it was read from.
    pub fn remarks(&self, now: Timestamp) -> impl Iterator<Item = (&Path, String)> {
        self.0.iter().filter_map(move |(name, list)| {
            let remark = list.artefact.remark(now)?;
            Some((list.path.as_path(), format!("the CRL of {name}, which is offline, {remark}")))
        })
    }

    /// Says in metrics and in the log what there is, and what grows old.
    pub fn tell(&self, now: Timestamp) {
        for (name, list) in &self.0 {
            let labels = [("issuer", name.clone())];
            let end = list.artefact.not_after.as_second();
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
            let (end, number) = (end as f64, list.number as f64);
            metrics::gauge!("chancery_offline_crl_not_after", &labels).set(end);
            metrics::gauge!("chancery_offline_crl_number", &labels).set(number);
            if list.new {
                tracing::info!(name, number = list.number, "a new list of an offline CA");
            }
        }
        for (path, remark) in self.remarks(now) {
            tracing::warn!(path = %path.display(), "{remark}");
        }
    }
}

impl Artefact {
    /// What there is to say when it is in the last quarter of its life.
    fn remark(&self, now: Timestamp) -> Option<String> {
        let quarter = self.issued.duration_until(self.not_after) / 4;
        let left = now.duration_until(self.not_after);
        let advice = "hold a ceremony for the next one (template root-crl)";
        if left.is_negative() {
            let refused = "and what is below that CA is refused";
            return Some(format!("has expired at {}, {refused}: {advice}", self.not_after));
        }
        (left < quarter).then(|| format!("ends at {}: {advice}", self.not_after))
    }
}

/// The files of the directory, by the name of their lists.
fn given(config: &Config) -> Result<BTreeMap<String, PathBuf>, OfflineCrlError> {
    let Some(directory) = &config.offline_crls else { return Ok(BTreeMap::new()) };
    let error = |source| OfflineCrlError::Read { path: directory.clone(), source };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_none_or(|extension| extension != "crl") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
            let what = "a name has 1 to 32 of a-z, 0-9 and -, and then .crl";
            return Err(OfflineCrlError::Name { path, what });
        }
        files.insert(name.to_owned(), path);
    }
    Ok(files)
}

/// It is not older than a list that the same CA signed, nor another one with the same number.
fn follows(
    signer: &x509::Issuer,
    template: &Template,
    der: &[u8],
    earlier: &[u8],
    path: &Path,
) -> Result<(), OfflineCrlError> {
    // Of another CA: the name has passed to a new root, whose numbers are its own.
    let Some(before) = signer.recognise_crl(earlier) else { return Ok(()) };
    let (path, number) = (path.to_owned(), template.number);
    if number < before.number {
        return Err(OfflineCrlError::Older { path, number, before: before.number });
    }
    if number == before.number && der != earlier {
        return Err(OfflineCrlError::Twice { path, number });
    }
    Ok(())
}

/// Where the last list of this name is kept.
fn kept(config: &Config, name: &str) -> PathBuf {
    config.state_directory.join(KEPT).join(format!("{name}.crl"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, OfflineCrlError> {
    fs::read(path).map_err(|source| OfflineCrlError::Read { path: path.to_owned(), source })
}

/// As a whole, or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let unfinished = path.with_extension("part");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()
}

/// The directory in the state directory.
const KEPT: &str = "offline-crls";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_spoken_of_in_its_last_quarter() {
        let list = Artefact::new("", at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        for (now, wanted) in [
            ("2025-12-31T00:00:00Z", None),
            ("2026-10-01T00:00:00Z", None),
            ("2026-10-02T00:00:00Z", Some("ends at 2027-01-01T00:00:00Z: hold a ceremony")),
            ("2027-01-01T00:00:00Z", Some("ends at")),
            (
                "2027-01-01T00:00:01Z",
                Some("has expired at 2027-01-01T00:00:00Z, and what is below"),
            ),
        ] {
            let said = list.remark(at(now));
            let good = match wanted {
                Some(wanted) => said.as_ref().is_some_and(|said| said.starts_with(wanted)),
                None => said.is_none(),
            };
            assert!(good, "{now}: {said:?}");
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }
}
