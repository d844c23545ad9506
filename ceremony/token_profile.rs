//! The profile of a kind of token: what one that has nothing to lose was found to do, and whether that is
//! enough for a plan.

mod judge;
mod table;

use std::{fs, path::Path};

use jiff::Timestamp;
use pki::token::{
    TokenError,
    pkcs11::{Module, Said, ScratchPins, TokenIdentity, TokenProfile, Trial},
};

use crate::{
    console::Console,
    digest::Digest,
    failure::Failure,
    site::Site,
    transcript::{ModuleFile, TOOL, TokenFound},
};

/// The content of a profile's file.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// The version of this form.
    pub schema: Schema,
    /// The program that made it.
    pub tool: String,
    /// When it was made.
    pub made: Timestamp,
    /// The PKCS#11 module.
    pub module: ModuleFile,
    /// What the token did.
    pub profile: TokenProfile,
}

/// The versions of the form of a profile.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub enum Schema {
    /// The first.
    #[serde(rename = "chancery-token-profile/1")]
    V1,
}

/// A profile that was read, and the hash of its file.
#[derive(Clone, Debug)]
pub struct KnownToken {
    /// What is in it.
    pub file: ProfileFile,
    /// SHA-256 of the file.
    pub hash: Digest,
}

impl KnownToken {
    /// Reads a profile.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no profile.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let content =
            fs::read(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
        let file = serde_json::from_slice(&content)
            .map_err(|source| Failure::NoProfile { path: path.to_owned(), source })?;
        Ok(Self { file, hash: Digest::of_file(&content) })
    }

    /// Checks that a token is of the kind that the profile is of.
    ///
    /// # Errors
    ///
    /// It is of another: what that one does, nobody tried.
    pub fn check(&self, found: &TokenFound) -> Result<(), Failure> {
        let known = &self.file.profile.token;
        let (theirs, its) = (&known.identity, &found.identity);
        let same = theirs.manufacturer == its.manufacturer
            && theirs.model == its.model
            && known.hardware_version == found.hardware_version
            && known.firmware_version == found.firmware_version;
        if same { Ok(()) } else { Err(Failure::OtherKind(its.clone())) }
    }
}

/// Tries what a token does, on one that has nothing to lose: the one with this serial number, which must
/// not be the site's, and is empty. Somebody types the number once more.
///
/// # Errors
///
/// It is the site's token, is not empty, is not confirmed, or fails.
pub fn probe(
    site: &Site,
    serial: &str,
    initialize: bool,
    made: Timestamp,
    console: &mut Console,
) -> Result<ProfileFile, Failure> {
    let scratch = site.scratch()?;
    let (pin, officer) = (scratch.pin()?, scratch.so_pin()?);
    if initialize && officer.is_none() {
        return Err(Failure::NoOfficer);
    }
    let module_file = site.module()?;
    let module = Module::load(&module_file.path)?;
    let token = module.with_serial(serial)?;
    for kept in site.kept_tokens() {
        match module.identify(kept) {
            Ok(kept) if kept == token => return Err(Failure::KeptToken(token)),
            Ok(_) | Err(TokenError::NoToken(_)) => {}
            Err(error) => return Err(error.into()),
        }
        // Also where the module shows two of the name, of which one is kept.
        if is_like(kept, &token) {
            return Err(Failure::KeptToken(token));
        }
    }
    console.say(&format!("scratch token {token}"))?;
    console.add("keys are made and destroyed in it, and its PIN is changed and changed back")?;
    if initialize {
        console.add("it is initialized first: whatever is in it is gone then")?;
    }
    console.ask("to go on, type its serial number once more", |typed| {
        (typed == serial).then_some(())
    })?;
    let there = module.clear_scratch(&token, &pin)?;
    if !there.is_empty() {
        return Err(Failure::ScratchNotEmpty(there.len()));
    }
    let pins = ScratchPins { user: &pin, officer: officer.as_ref() };
    let mut gone = None;
    let (mut profile, token) = module.profile(&token, pins, initialize, &mut |what| {
        gone = console.add(what).err().or(gone.take());
    })?;
    if let Some(gone) = gone {
        return Err(gone);
    }
    // What a module leaves of a pair that it refused, it may show to the next process alone.
    drop(module);
    let module = Module::load(&module_file.path)?;
    if module.clear_profiled(&token, &pin)? > 0 {
        profile.trials.insert(Trial::OrphanAfterRefusal, Said::Done);
    }
    let tool = TOOL.to_owned();
    Ok(ProfileFile { schema: Schema::V1, tool, made, module: module_file, profile })
}

/// Whether a token has everything that this names.
fn is_like(wanted: &TokenIdentity, found: &TokenIdentity) -> bool {
    let same =
        |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    wanted.label == found.label && same(&wanted.serial, &found.serial)
}
