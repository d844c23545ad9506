//! `chanceryd check`: everything that can be found wrong without the token, at once.

use std::path::Path;

use jiff::Timestamp;
use pki::{handoff::Handoff, secret::Secret, x509::attestation::Anchors};

use crate::{
    config::{Config, ConfigError, Overrides, Sandbox, Source, Token},
    describe, directory, front,
    makers::{self, MakersError},
    policy::{Rules, RulesError},
    publisher::OfflineCrls,
};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What is wrong: the appliance would not start.
    pub errors: Vec<ConfigError>,
    /// What will be wrong soon, or is for others.
    pub warnings: Vec<ConfigError>,
}

/// Reads the configuration and all that it names, and says everything that is wrong. The token is
/// not touched.
pub fn check(
    path: &Path,
    overrides: Overrides,
    credentials: Option<&Path>,
    now: Timestamp,
) -> Found {
    let read = || Ok((Config::read(path, overrides, credentials)?, Source::read(path)?));
    match read() {
        Ok((config, source)) => Check { source, config, now, found: Found::default() }.all(),
        Err(error) => Found { errors: vec![error], warnings: Vec::new() },
    }
}

struct Check {
    source: Source,
    config: Config,
    now: Timestamp,
    found: Found,
}

impl Check {
    fn all(mut self) -> Found {
        self.tokens();
        self.directory();
        let makers = self.makers();
        self.directories();
        let handoff = Handoff::read(&self.config.handoff);
        match &handoff {
            Ok(handoff) => {
                self.authorities(handoff);
                self.offline_crls(handoff);
            }
            Err(error) => self.add(&["handoff"], describe(error), "run chancery-ceremony"),
        }
        self.rules(handoff.ok().as_ref(), makers);
        self.found
    }

    fn tokens(&mut self) {
        self.check_token("token", &self.config.token.clone());
        for (key, directory) in front::exposed(&self.config) {
            let what = format!("it lies in {}, which chanceryd reads itself", directory.display());
            let keys: Vec<_> = key.split('.').collect();
            self.add(&keys, what, "keep it apart: the part that serves must not reach it");
        }
        for replica in self.config.replicas.clone() {
            self.check_token("replica", &replica);
        }
    }

    fn check_token(&mut self, place: &str, token: &Token) {
        if !token.module.is_file() {
            let what = format!("{} is not there", token.module.display());
            self.add(&[place, "module"], what, "install the token's PKCS#11 module");
        }
        // Reading a PIN is no try: the token does not hear of it.
        if let Err(error) = Secret::from_file(&token.pin_file) {
            let what = format!("{}: {error}", token.pin_file.display());
            self.add(&[place, "pin_file"], what, "write the PIN there, readable by chanceryd");
        }
        let Sandbox { readable, writable, .. } = &token.sandbox;
        for (key, paths) in [("readable", readable), ("writable", writable)] {
            for path in paths.iter().filter(|path| !path.exists()) {
                let what = format!("{} is not there", path.display());
                let hint =
                    "the module could not use it when it came later: make it, or leave it out";
                self.add(&[place, "sandbox", key], what, hint);
            }
        }
    }

    fn directory(&mut self) {
        let Some(directory) = self.config.directory.clone() else { return };
        for (key, error) in directory::check(&directory) {
            self.add(&["directory", key], describe(&error), "put it there, readable by chanceryd");
        }
    }

    /// The makers of cards; nothing if they cannot be read, which is no fault of the rules.
    fn makers(&mut self) -> Option<Anchors> {
        match makers::read(self.config.attestation.as_ref()) {
            Ok(makers) => Some(makers),
            Err(MakersError { path, what }) => {
                let what = format!("{}: {what}", path.display());
                let hint =
                    "put the certificates of the makers' CAs there, each with those above it";
                self.add(&["attestation", "anchors"], what, hint);
                None
            }
        }
    }

    fn directories(&mut self) {
        let directories = [
            ("state_directory", self.config.state_directory.clone()),
            ("audit_directory", self.config.audit_directory.clone()),
        ];
        for (key, directory) in directories {
            if directory.exists() && !directory.is_dir() {
                let what = format!("{} is no directory", directory.display());
                self.add(&[key], what, "name a directory; it is made if it is not there");
            }
        }
    }

    fn authorities(&mut self, handoff: &Handoff) {
        let token = &self.config.token.label;
        if *token != handoff.token.label {
            let what = format!("the ceremony's token is {:?}", handoff.token.label);
            self.add(&["token", "label"], what, "name the token of the hand-off");
        }
        let online = |name: &str| handoff.x509.get(name).is_some_and(|authority| authority.online);
        let tls = self.config.tls.clone();
        let hint = format!("the hand-off has {}", names(handoff));
        if !online(&tls.issuer) {
            let what = format!("there is no X.509 authority {:?} that is online", tls.issuer);
            self.add(&["tls", "issuer"], what, &hint);
        }
        for name in tls.client_authorities.iter().filter(|name| !online(name)) {
            let what = format!("there is no X.509 authority {name:?} that is online");
            self.add(&["tls", "client_authorities"], what, &hint);
        }
        let published: Vec<_> = self.config.publication.keys().cloned().collect();
        for name in published.iter().filter(|name| !online(name)) {
            let what = "there is no such X.509 authority that is online".to_owned();
            self.add(&["publication", name], what, &hint);
        }
    }

    fn offline_crls(&mut self, handoff: &Handoff) {
        match OfflineCrls::read(&self.config, handoff) {
            Ok(lists) => {
                let warnings = lists.remarks(self.now).map(|(path, what)| ConfigError {
                    path: path.to_owned(),
                    line: None,
                    what,
                    hint: None,
                });
                self.found.warnings.extend(warnings);
            }
            Err(error) => {
                let given = self.config.offline_crls.is_some();
                let key = if given { "offline_crls" } else { "handoff" };
                self.add(&[key], describe(&error), error.hint());
            }
        }
    }

    fn rules(&mut self, handoff: Option<&Handoff>, makers: Option<Anchors>) {
        let rules = Rules::read(&self.config.rules);
        let bound = match (rules, handoff) {
            (Ok(rules), Some(handoff)) => rules.bind(handoff),
            (rules, _) => rules,
        };
        let trusting = bound.and_then(|rules| match makers {
            Some(makers) => rules.trust(makers.into()),
            None => Ok(rules),
        });
        let bound =
            trusting.and_then(|rules| rules.check_directory(self.config.directory.as_ref()));
        match bound {
            Ok(()) => {}
            Err(RulesError::Invalid { path, what }) => self.found.errors.push(ConfigError {
                path: path.into(),
                line: None,
                what,
                hint: None,
            }),
            Err(error) => {
                let hint = "roles must fit the hand-off and chanceryd.toml";
                self.add(&["rules"], describe(&error), hint);
            }
        }
    }

    fn add(&mut self, keys: &[&str], what: String, hint: &str) {
        let error = self.source.error(keys, what);
        self.found.errors.push(ConfigError { hint: Some(hint.to_owned()), ..error });
    }
}

fn names(handoff: &Handoff) -> String {
    let online = handoff.x509.iter().filter(|(_, authority)| authority.online);
    online.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chanceryd.toml");
        let shipped = include_str!("../../hsm-config/softhsm2/chanceryd.toml");
        let text = shipped.replace("/usr/lib/softhsm/libsofthsm2.so", "nowhere.so")
            + "\n[attestation]\nanchors = [\"makers.pem\"]\n";
        fs::write(&path, &text).unwrap();
        fs::write(directory.path().join("state"), "a file").unwrap();
        let errors = check(&path, Overrides::default(), None, Timestamp::UNIX_EPOCH).errors;
        let found: Vec<_> = errors
            .iter()
            .map(|error| (error.line.unwrap(), error.what.split(':').next().unwrap()))
            .collect();
        let line = |key: &str| {
            1 + text.lines().position(|line| line.starts_with(&format!("{key} ="))).unwrap()
        };
        let wanted = [
            (line("module"), "token.module"),
            (line("pin_file"), "token.pin_file"),
            (line("writable"), "token.sandbox.writable"),
            (line("anchors"), "attestation.anchors"),
            (line("state_directory"), "state_directory"),
            (line("handoff"), "handoff"),
            (line("rules"), "rules"),
        ];
        assert_eq!(found, wanted);
        assert!(errors.iter().all(|error| error.hint.is_some()));
    }
}
