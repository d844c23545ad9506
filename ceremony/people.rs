//! The people of a ceremony: who they are, how many of which role it takes, and what they sign.
//!
//! The plan names them and their SSH keys, so that whoever approves its hash approves them, too, and
//! a transcript can be verified by itself. They sign texts with `ssh-keygen -Y sign`, which asks for
//! passphrases, speaks to agents and to smart cards; this program never holds a person's key.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as STANDARD_NO_PAD};
use pki::{
    keys::PublicKey,
    ssh::{TextSignature, TextSignatureError},
};
use thiserror::Error;

use crate::{digest::Digest, name::Name};

/// The people, their roles, and what takes how many of them.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// The fewest of each role that must be present.
    pub roles: BTreeMap<Name, u32>,
    /// Everybody who may take part.
    pub persons: BTreeMap<Name, Person>,
    /// What takes how many.
    pub quorum: Quorum,
}

/// Somebody who may take part.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// What they do.
    pub role: Name,
    /// With what they sign.
    pub key: SshKey,
}

/// How many distinct persons of which role something takes.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quorum {
    /// To approve the plan, before it is performed.
    pub approve: BTreeMap<Name, u32>,
    /// To confirm a step that cannot be undone.
    pub confirm: BTreeMap<Name, u32>,
}

/// An SSH public key, as OpenSSH writes it; without a comment.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SshKey(PublicKey);

/// A text that people sign. The first line says what for, so that none is taken for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Statement {
    /// The plan may be performed.
    Approval {
        /// Its hash.
        plan: Digest,
    },
    /// The ceremony went as the transcript says.
    SignOff {
        /// The hash of its plan.
        plan: Digest,
        /// The head of the transcript so far.
        head: Digest,
    },
}

impl People {
    /// Whether the plan names anybody.
    pub fn is_empty(&self) -> bool {
        self.persons.is_empty()
    }

    /// Which of these roles lack somebody, if these are there; none if they are enough.
    pub fn missing(&self, wanted: &BTreeMap<Name, u32>, there: &BTreeSet<Name>) -> Vec<String> {
        let count = |role: &Name| {
            let of_role = |name: &&Name| self.persons.get(*name).is_some_and(|it| it.role == *role);
            u32::try_from(there.iter().filter(of_role).count()).unwrap_or(u32::MAX)
        };
        wanted
            .iter()
            .filter(|(role, least)| count(role) < **least)
            .map(|(role, least)| format!("{least} {role} ({} there)", count(role)))
            .collect()
    }

    /// Who signed this.
    ///
    /// # Errors
    ///
    /// Nobody of the plan, or something else was signed.
    pub fn signer(&self, statement: Statement, armored: &str) -> Result<&Name, PeopleError> {
        let signature = TextSignature::parse(armored)?;
        let by = |person: &Person| person.key.0 == *signature.key();
        let (name, _) = self
            .persons
            .iter()
            .find(|(_, person)| by(person))
            .ok_or_else(|| PeopleError::Stranger(signature.key().to_openssh()))?;
        signature.verify(NAMESPACE, statement.to_string().as_bytes())?;
        Ok(name)
    }

    /// Checks the approvals of a plan: each by the one who it says, and enough of them.
    ///
    /// # Errors
    ///
    /// One is not, or they are not enough.
    pub fn check_approvals(
        &self,
        plan: Digest,
        approvals: &BTreeMap<Name, String>,
    ) -> Result<(), PeopleError> {
        for (name, armored) in approvals {
            if self.signer(Statement::Approval { plan }, armored)? != name {
                return Err(PeopleError::SomebodyElse(name.clone()));
            }
        }
        let missing = self.missing(&self.quorum.approve, &approvals.keys().cloned().collect());
        if missing.is_empty() { Ok(()) } else { Err(PeopleError::Quorum(missing.join(", "))) }
    }

    /// Lets a person sign a statement with the key at this path, and checks that it is theirs.
    ///
    /// # Errors
    ///
    /// There is no such person, `ssh-keygen` does not sign, or the key is another.
    pub fn sign(
        &self,
        name: &Name,
        statement: Statement,
        key: &Path,
    ) -> Result<String, PeopleError> {
        if !self.persons.contains_key(name) {
            return Err(PeopleError::Unknown(name.clone()));
        }
        let armored = ssh_keygen(statement, key)?;
        if self.signer(statement, &armored)? != name {
            return Err(PeopleError::SomebodyElse(name.clone()));
        }
        Ok(armored)
    }
}

/// Signs by `ssh-keygen -Y sign`: it asks for what it needs on the terminal itself.
fn ssh_keygen(statement: Statement, key: &Path) -> Result<String, PeopleError> {
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(PeopleError::SshKeygen)?;
    if let Some(mut input) = child.stdin.take() {
        // Where it did not read to the end, it did not sign, and says so.
        let _ = input.write_all(statement.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(PeopleError::SshKeygen)?;
    match String::from_utf8(output.stdout) {
        Ok(armored) if output.status.success() => Ok(armored),
        _ => Err(PeopleError::NotSigned),
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approval { plan } => writeln!(f, "chancery-ceremony: approve\nplan {plan}"),
            Self::SignOff { plan, head } => {
                writeln!(f, "chancery-ceremony: sign off\nplan {plan}\nhead {head}")
            }
        }
    }
}

impl SshKey {
    /// As `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        let digest = Digest::of_file(&self.0.openssh_blob());
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest.as_bytes()))
    }
}

impl TryFrom<String> for SshKey {
    type Error = String;

    fn try_from(line: String) -> Result<Self, String> {
        PublicKey::from_openssh(&line).map(Self).map_err(|error| error.to_string())
    }
}

impl From<SshKey> for String {
    fn from(key: SshKey) -> Self {
        key.0.to_openssh()
    }
}

/// The namespace of the signatures (PROTOCOL.sshsig section 2).
pub const NAMESPACE: &str = "chancery-ceremony";

/// People have not said what they should say.
#[derive(Debug, Error)]
pub enum PeopleError {
    /// `ssh-keygen` gave no signature; it has said why.
    #[error("ssh-keygen made no signature")]
    NotSigned,
    /// Too few.
    #[error("too few persons: it takes {0}")]
    Quorum(String),
    /// The signature is none, or of something else.
    #[error("a signature is not of this ceremony")]
    Signature(#[from] TextSignatureError),
    /// The signature is by another person.
    #[error("the signature is not by {0}")]
    SomebodyElse(Name),
    /// `ssh-keygen` cannot be started.
    #[error("ssh-keygen cannot be started")]
    SshKeygen(#[source] io::Error),
    /// Nobody of the plan has this key.
    #[error("the plan names nobody with the key {0}")]
    Stranger(String),
    /// The same person twice.
    #[error("{0} is there twice")]
    Twice(Name),
    /// The plan does not name them.
    #[error("the plan does not name {0}")]
    Unknown(Name),
}
