//! Whom somebody trusts who verifies: by a file of their own with the keys of people, as `ssh-keygen -Y
//! verify` takes it (ssh-keygen(1), ALLOWED SIGNERS). The keys in a transcript are what its plan says;
//! whoever wrote all of it anew has put others there.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    failure::Failure,
    name::Name,
    people::{NAMESPACE, SshKey},
    verify::{Verified, VerifyError},
};

/// People's keys, from elsewhere than the transcript.
#[derive(Clone, Debug)]
pub struct Trusted(Vec<(String, SshKey)>);

impl Trusted {
    /// Reads an `allowed_signers` file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path)
            .map_err(|source| Failure::Read { path: path.to_owned(), source })?;
        Ok(Self::parse(&text))
    }

    /// The lines that say whose a key is. One that says less than that (an authority, a time, another
    /// namespace) vouches for nobody here.
    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(signers).flatten().collect())
    }

    /// Checks that everybody who did something in a ceremony did it with a key that is theirs.
    ///
    /// # Errors
    ///
    /// Somebody's key is another, or unknown; or nobody is named.
    pub fn check(&self, verified: &Verified) -> Result<(), VerifyError> {
        let progress = &verified.progress;
        let approved = progress.opened.approvals.keys();
        let acted = verified.transcript.iter().flat_map(|record| &record.who);
        let who: BTreeSet<&Name> = approved.chain(acted).collect();
        if who.is_empty() {
            return Err(VerifyError::NobodyToTrust);
        }
        let persons = &progress.plan.script().people.persons;
        let known = |name: &&Name| {
            let key = persons.get(*name).map(|person| &person.key);
            self.0.iter().any(|(other, theirs)| other == name.as_str() && Some(theirs) == key)
        };
        match who.into_iter().find(|name| !known(name)) {
            Some(name) => Err(VerifyError::Untrusted(name.clone())),
            None => Ok(()),
        }
    }
}

/// `NAMES [namespaces="…"] TYPE KEY [comment]`.
fn signers(line: &str) -> Option<Vec<(String, SshKey)>> {
    let mut words = line.split_whitespace();
    let names = words.next().filter(|word| !word.starts_with('#'))?;
    let mut kind = words.next()?;
    if let Some(namespaces) = kind.strip_prefix("namespaces=") {
        let mut namespaces = namespaces.trim_matches('"').split(',');
        namespaces.find(|namespace| *namespace == NAMESPACE)?;
        kind = words.next()?;
    }
    let key = SshKey::try_from(format!("{kind} {}", words.next()?)).ok()?;
    Some(names.split(',').map(|name| (name.to_owned(), key.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_vouches_for_those_whom_it_names_and_for_this_alone() {
        for (line, names) in [
            (format!("alice {KEY}"), vec!["alice"]),
            (format!("alice,bob {KEY} a comment"), vec!["alice", "bob"]),
            (format!("alice namespaces=\"git,chancery-ceremony\" {KEY}"), vec!["alice"]),
            (format!("alice namespaces=\"git\" {KEY}"), vec![]),
            (format!("alice cert-authority {KEY}"), vec![]),
            (format!("alice valid-before=\"20200101\" {KEY}"), vec![]),
            (format!("# alice {KEY}"), vec![]),
            ("alice ssh-ed25519 AAAA".to_owned(), vec![]),
            (String::new(), vec![]),
        ] {
            let found = Trusted::parse(&line).0;
            let found: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(found, names, "{line}");
        }
    }

    const KEY: &str = "ssh-ed25519 \
        AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
}
