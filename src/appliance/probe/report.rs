//! What a probe tells: the report, and what goes over the socket to it.

use std::{path::PathBuf, time::Duration};

use pki::{
    keys::{KeyAlgorithm, SignatureScheme},
    token::{
        KeyId, KeyLabel, KeyRef, TokenError,
        pkcs11::{KeySurvey, TokenSurvey},
    },
};
use serde::{Deserialize, Serialize};

use crate::sandbox;

/// All that `chanceryd token probe --json` tells.
///
/// Fields are added without notice; [`Report::SCHEMA`] changes when one goes or means another
/// thing.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`Report::SCHEMA`].
    pub schema: &'static str,
    /// The PKCS#11 module's path.
    pub module: PathBuf,
    /// How many processors this machine has for the appliance.
    pub processors: usize,
    /// The sandbox that the module was loaded in, which is that of the appliance.
    pub sandbox: Sandbox,
    /// What module and token tell of themselves.
    pub token: TokenSurvey,
    /// How the one login went.
    pub login: Login,
    /// Each key of the hand-off, those that are offline last; empty when nobody is logged in.
    pub keys: Vec<Key>,
    /// How many sessions there are; none when nobody is logged in.
    pub sessions: Option<Sessions>,
    /// How fast the token signs, for each kind of key.
    pub rates: Vec<Rate>,
    /// What to know or to mend, the worst first.
    pub findings: Vec<Finding>,
    /// Settings for `chanceryd.toml`; none when nothing was measured.
    pub recommendation: Option<Recommendation>,
}

impl Report {
    /// The name and version of the report's shape.
    pub const SCHEMA: &str = "chancery-token-probe/1";

    /// How many findings must be mended before the token is used.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }
}

/// What keeps the module from the rest of the machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Sandbox {
    /// What is enforced, a phrase each.
    pub enforced: Vec<String>,
    /// What should be, and is not.
    pub missing: Vec<String>,
}

/// How the one login went.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Login {
    /// The token took the PIN.
    Accepted,
    /// The token refused the PIN, or did so before, or its flags forbid to try it.
    Refused {
        /// The CKR_ name or the flag, and when, if it was not now.
        code: String,
    },
}

/// A key of the hand-off.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    /// Its place in the hand-off: `x509.issuing`, `ssh.users`, `raw.firmware`, `publication`.
    pub place: String,
    /// CKA_LABEL.
    pub label: KeyLabel,
    /// CKA_ID, hexadecimal.
    pub id: KeyId,
    /// The kind of key.
    pub algorithm: KeyAlgorithm,
    /// SHA-256 of the pinned SubjectPublicKeyInfo, hexadecimal.
    pub public_key_sha256: String,
    /// Whether the appliance signs with it. A root that is offline need not be in this token.
    pub online: bool,
    /// What the token tells of it; none if it could not be found.
    pub told: Option<KeySurvey>,
    /// Why it could not be found.
    pub failure: Option<String>,
}

/// How many sessions there are.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sessions {
    /// How many could be open at once; the probe opens 64 at most.
    pub opened: usize,
    /// Why there were no more, if it was fewer than 64.
    pub failure: Option<String>,
}

/// How fast the token signs with a kind of key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Rate {
    /// The kind of key.
    pub algorithm: KeyAlgorithm,
    /// What was signed with: what such keys sign with unless told otherwise.
    pub scheme: SignatureScheme,
    /// The key that signed.
    pub key: KeyLabel,
    /// By number of sessions: 1, 2, 4, … until more of them brought no more.
    pub levels: Vec<Level>,
    /// Why there is no further level, if signing failed.
    pub failure: Option<String>,
}

/// What so many sessions signed, each as fast as it could.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Level {
    /// How many sessions signed at once.
    pub sessions: usize,
    /// How many signatures they made.
    pub signatures: usize,
    /// Signatures a second, of all sessions together.
    pub per_second: f64,
    /// How long half of the signatures took at most, in milliseconds.
    pub median_ms: f64,
    /// How long the slowest signature took, in milliseconds.
    pub slowest_ms: f64,
    /// How long a processor of this machine was busy for each signature, in milliseconds: next to
    /// nothing if a device signs, all the time if the module computes by itself.
    pub processor_ms: f64,
}

/// Something to know or to mend.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The key's label, `token`, `pin` or `sessions`.
    pub about: String,
    /// What was found.
    pub what: String,
    /// What it means, or what to do.
    pub hint: &'static str,
}

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The token must not be used, or cannot be, before it is mended.
    Error,
    /// Somebody should know why it is so.
    Warning,
    /// Good to know.
    Note,
}

/// Settings for `chanceryd.toml`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Recommendation {
    /// `token.sessions`.
    pub sessions: usize,
    /// `token.keep_alive_seconds`; none to leave it out.
    pub keep_alive_seconds: Option<u16>,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// The lines to put into the file.
    pub toml: String,
}

/// What the worker tells of its token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Survey {
    pub(crate) sandbox: Sandbox,
    pub(crate) token: TokenSurvey,
    pub(crate) login: Login,
    /// In the order of the settings, then those that are offline.
    pub(crate) keys: Vec<Result<KeySurvey, TokenError>>,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) rates: Vec<Rate>,
}

/// A frame from the worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Told {
    /// It could not be done.
    Failed(TokenError),
    /// What is done next.
    Step(String),
    /// The end.
    Survey(Box<Survey>),
}

impl Survey {
    /// What is known before the login.
    pub(crate) fn new(sandbox: sandbox::Report, token: TokenSurvey) -> Self {
        let sandbox::Report { enforced, missing, .. } = sandbox;
        let (login, keys, sessions, rates) = (Login::Accepted, Vec::new(), None, Vec::new());
        Self { sandbox: Sandbox { enforced, missing }, token, login, keys, sessions, rates }
    }
}

impl Rate {
    pub(crate) fn new(key: &KeyRef) -> Self {
        Self {
            algorithm: key.public_key.algorithm(),
            scheme: key.public_key.default_scheme(),
            key: key.label.clone(),
            levels: Vec::new(),
            failure: None,
        }
    }

    /// The fewest sessions that come within a twentieth of the best rate; none if nothing was
    /// signed.
    pub fn enough(&self) -> Option<&Level> {
        let best = self.levels.iter().map(|level| level.per_second).fold(0.0, f64::max);
        self.levels.iter().find(|level| level.per_second >= best * 0.95)
    }

    /// Whether the module computes by itself, so that each session needs a processor.
    pub fn is_computed_here(&self) -> bool {
        self.levels.first().is_some_and(|one| one.processor_ms >= one.median_ms / 2.0)
    }

    /// Whether twice and four times as many sessions brought nothing.
    pub(crate) fn is_settled(&self) -> bool {
        let enough = self.enough().map_or(0, |level| level.sessions);
        self.levels.last().is_some_and(|last| last.sessions >= enough * 4)
    }
}

impl Level {
    /// Of how long each signature took, by session, and how long processors were busy for all.
    pub(crate) fn new(each: Vec<Vec<Duration>>, busy: Duration) -> Self {
        let sessions = each.len();
        let seconds: f64 = each
            .iter()
            .map(|took| took.iter().sum::<Duration>().as_secs_f64())
            .fold(f64::MIN_POSITIVE, f64::max);
        let mut all = each.concat();
        all.sort_unstable();
        let milliseconds = |took: Option<&Duration>| took.map_or(0.0, |it| it.as_secs_f64() * 1e3);
        Self {
            sessions,
            signatures: all.len(),
            per_second: all.len() as f64 / seconds,
            median_ms: milliseconds(all.get(all.len() / 2)),
            slowest_ms: milliseconds(all.last()),
            processor_ms: milliseconds(Some(&busy)) / all.len().max(1) as f64,
        }
    }
}
