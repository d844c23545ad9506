//! Whether a kind of token can do what a plan wants of it: said before anybody comes together.

use pki::{
    keys::KeyAlgorithm,
    token::pkcs11::{ATTEMPTS, CHANGES, PinOwner, Said, Trial},
    x509::lint::Finding,
};

use super::KnownToken;
use crate::{
    failure::Failure,
    plan::{BackUpKey, DestroyKey, Plan, Split, Step},
    shares::Purpose,
};

impl KnownToken {
    /// Checks that such a token can do all steps of a plan. `changeable_keys` says that keys whose
    /// attributes can be changed are meant.
    ///
    /// # Errors
    ///
    /// It cannot do some: each is named, and why.
    pub fn check_plan(&self, plan: &Plan, changeable_keys: bool) -> Result<(), Failure> {
        let mut judge = Judge { known: self, changeable_keys, findings: Vec::new() };
        judge.sessions();
        for (number, step) in plan.steps() {
            judge.step(plan, number, step);
        }
        match judge.findings {
            findings if findings.is_empty() => Ok(()),
            findings => Err(Failure::Unable(findings)),
        }
    }
}

struct Judge<'a> {
    known: &'a KnownToken,
    changeable_keys: bool,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    /// One of the ceremony's own, one that writes, and a fresh one that looks at what was written.
    fn sessions(&mut self) {
        let sessions = self.known.file.profile.sessions;
        if sessions < SESSIONS {
            let what = format!("the token gives {sessions} sessions; a ceremony takes {SESSIONS}");
            self.findings.push(Finding { rule: "token-sessions", what });
        }
    }

    fn step(&mut self, plan: &Plan, number: u32, step: &Step) {
        let why = match step {
            Step::BackUpKey(BackUpKey { key }) => self.key(key.algorithm).or_else(|| self.backup()),
            Step::DestroyKey(DestroyKey { key }) => {
                let made = plan.keys().find(|made| made.name == *key).map(|made| made.algorithm);
                self.destruction(made)
            }
            Step::GenerateKey(key) => self.key(key.algorithm),
            Step::PinRotate(rotation) => {
                let mut steps = plan.script().steps.iter();
                let split = steps.find_map(|step| match step {
                    Step::SplitShares(split) if split.set == rotation.set => Some(split),
                    _ => None,
                });
                self.pin_change().or_else(|| split.and_then(|split| self.pin(split)))
            }
            Step::SplitShares(split) => self.pin(split),
            Step::TokenInit => self.initialization(),
            _ => None,
        };
        if let Some(why) = why {
            let what = format!("step {number} ({step}): {why}");
            self.findings.push(Finding { rule: "token-can", what });
        }
    }

    fn key(&self, algorithm: KeyAlgorithm) -> Option<String> {
        let Some(key) = self.known.file.profile.keys.get(&algorithm) else {
            return Some(format!("nobody tried to make a key of {algorithm}"));
        };
        if key.made != Said::Done {
            return Some(format!("the token makes no such key ({})", key.made));
        }
        let changes = if self.changeable_keys { &[][..] } else { &CHANGES[..] };
        let mut attempts = ATTEMPTS.iter().chain(changes);
        let done = attempts.find(|what| match key.misuse.get(**what) {
            Some(said) => matches!(said, Said::Done),
            None => true,
        });
        done.map(|what| format!("the token lets everybody {what}"))
    }

    fn backup(&self) -> Option<String> {
        let token = &self.known.file.profile.token;
        let wraps = token.mechanisms.iter().any(|it| it.name == "CKM_AES_KEY_WRAP_PAD");
        if !wraps {
            return Some("the token has no CKM_AES_KEY_WRAP_PAD".to_owned());
        }
        if self.said(Trial::WrapByUntrusted) == Some(&Said::Done) {
            return Some(
                "the token wraps under any key what only trusted ones may wrap".to_owned(),
            );
        }
        self.refused(Trial::TrustByOfficer).or_else(|| self.refused(Trial::WrapByTrusted))
    }

    fn destruction(&self, made: Option<KeyAlgorithm>) -> Option<String> {
        let keys = self.known.file.profile.keys.iter();
        let mut of_kind = keys.filter(|(kind, _)| made.is_none_or(|made| made == **kind));
        of_kind.find_map(|(kind, key)| match &key.destroyed {
            Said::Refused(code) => Some(format!("the token destroys no key of {kind} ({code})")),
            _ => None,
        })
    }

    fn initialization(&self) -> Option<String> {
        self.refused(Trial::Initialize).or_else(|| self.refused(Trial::InitializePin))
    }

    /// A PIN of any length is refused where none can be set.
    fn pin_change(&self) -> Option<String> {
        match self.said(Trial::ShortestPin)? {
            Said::Refused(code) if code == "CKR_FUNCTION_NOT_SUPPORTED" => {
                Some(format!("the token changes no PIN ({code})"))
            }
            _ => None,
        }
    }

    fn pin(&self, split: &Split) -> Option<String> {
        let (owner, form) = match split.purpose {
            Purpose::SoPin(form) => (PinOwner::SecurityOfficer, form),
            Purpose::UserPin(form) => (PinOwner::User, form),
            Purpose::WrappingKey => return None,
        };
        let (least, most) = self.known.file.profile.token.pin_length;
        let length = usize::from(form.length);
        // CK_EFFECTIVELY_INFINITE is 0.
        let fits = length >= least && (most == 0 || length <= most);
        let whose = match owner {
            PinOwner::SecurityOfficer => "security officer's",
            PinOwner::User => "user's",
        };
        let range =
            if most == 0 { format!("{least} or more") } else { format!("{least} to {most}") };
        (!fits).then(|| format!("the token takes a {whose} PIN of {range} bytes, not of {length}"))
    }

    fn said(&self, trial: Trial) -> Option<&Said> {
        self.known.file.profile.trials.get(&trial)
    }

    /// Why a trial is nothing that the token does, if it was tried.
    fn refused(&self, trial: Trial) -> Option<String> {
        match self.said(trial)? {
            Said::Done | Said::Untried(_) => None,
            said => Some(format!("asked whether it {trial}, the token says {said}")),
        }
    }
}

const SESSIONS: usize = 3;
