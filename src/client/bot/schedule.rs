//! What is done next, from what is known and the time: nothing here waits, asks or writes.

use jiff::{SignedDuration, Timestamp};

use super::{
    place::Record,
    state::{Held, Identities},
};
use crate::{Error, TlsFault};

/// How the agent stands with the appliance.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Standing {
    /// Nothing is known against it.
    #[default]
    Good,
    /// It is locked: it serves nothing until it is told otherwise.
    Locked,
    /// Its own certificate is good no more: it joins anew.
    Out {
        /// Whether what was given to the bot was taken back, too.
        taken_back: bool,
    },
}

impl Standing {
    /// Whether outputs may be there.
    pub(super) fn serves(&self) -> bool {
        match self {
            Self::Good => true,
            Self::Locked => false,
            Self::Out { taken_back } => !taken_back,
        }
    }
}

/// What a request that was not granted means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// The role's schedule is closed: wait for its opening.
    Closed,
    /// Try later; keep what is held.
    Later,
    /// Stop serving; ask again later.
    Locked,
    /// The certificate is good no more: join anew.
    Out {
        /// Whether what was given to the bot was taken back, too.
        taken_back: bool,
    },
    /// A newer certificate is in use: look for it.
    Superseded,
}

impl Refusal {
    /// Tells what the appliance said apart from all else that can go wrong.
    pub(super) fn of(error: &Error) -> Self {
        let problem = match error {
            Error::Problem(problem) => problem,
            Error::Tls { fault, .. } if is_over(fault) => return Self::Out { taken_back: false },
            _ => return Self::Later,
        };
        match problem.reason.as_deref() {
            Some("locked") => Self::Locked,
            Some("outside-schedule") => Self::Closed,
            Some("superseded") => Self::Superseded,
            Some("certificate-revoked" | "no-such-bot" | "replaced") => {
                Self::Out { taken_back: true }
            }
            // An appliance whose ledger came from a backup may not know what is good elsewhere.
            Some("certificate-expired" | "no-such-instance" | "not-renewable") => {
                Self::Out { taken_back: false }
            }
            _ => Self::Later,
        }
    }
}

/// A certificate that is over by the appliance's clock is so, whatever this machine's says.
fn is_over(fault: &TlsFault) -> bool {
    match fault {
        TlsFault::ClientExpired { .. } => true,
        TlsFault::ClientRefused { alert, .. } => alert == "CertificateExpired",
        _ => false,
    }
}

/// What is tried in vain, and when it is tried again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Attempts {
    failures: u32,
    again_at: Option<Timestamp>,
}

impl Attempts {
    /// Whether it may be tried now. A clock that was set back keeps nobody waiting.
    pub(super) fn may(&self, now: Timestamp) -> bool {
        self.again_at.is_none_or(|at| now >= at || at.duration_since(now) > LONGEST_WAIT)
    }

    /// When it is tried again, if it was tried in vain.
    pub(super) fn again_at(&self) -> Option<Timestamp> {
        self.again_at
    }

    /// It failed; the appliance may have said for how many seconds not to ask.
    pub(super) fn failed(&mut self, now: Timestamp, chance: u8, told: Option<u32>) {
        let told = SignedDuration::from_secs(told.unwrap_or_default().into()).min(LONGEST_WAIT);
        self.wait(now, pause(self.failures, chance).max(told));
        self.failures = self.failures.saturating_add(1);
    }

    /// It is no use to try for so long.
    pub(super) fn wait(&mut self, now: Timestamp, pause: SignedDuration) {
        self.again_at = now.checked_add(pause).ok();
    }

    /// It succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

/// How long to wait after so many failures before this one: 1, 2, 4 … 60 seconds, of which chance
/// takes up to a half, so that those who failed together do not come back together.
pub(super) fn pause(failures: u32, chance: u8) -> SignedDuration {
    let whole = 1_000_i64.checked_shl(failures.min(16)).map_or(60_000, |it| it.min(60_000));
    SignedDuration::from_millis(whole - whole * i64::from(chance) / 510)
}

/// What is next for the bot's own certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Ask how things stand, with the newest certificate: that confirms it.
    Ask,
    /// Join as a new instance.
    Join,
    /// Have a new key certified.
    Renew,
    /// Nothing yet.
    Wait,
}

/// What is next for the bot's own certificate. `asked_at`: when it last asked how things stand.
pub(super) fn next(
    identities: &Identities,
    standing: &Standing,
    attempts: &Attempts,
    asked_at: Option<Timestamp>,
    now: Timestamp,
) -> Step {
    if !attempts.may(now) {
        return Step::Wait;
    }
    let Some(newest) = identities.newest().filter(|it| now <= it.not_after) else {
        return Step::Join;
    };
    match standing {
        Standing::Locked => Step::Ask,
        Standing::Out { .. } => Step::Join,
        Standing::Good if identities.fresh.is_some() => Step::Ask,
        Standing::Good if now >= newest.due && newest.renewable => Step::Renew,
        Standing::Good if now >= newest.due => Step::Join,
        Standing::Good if asked_at.is_none_or(|at| is_past(at, LOOK, now)) => Step::Ask,
        Standing::Good => Step::Wait,
    }
}

/// What is known of an output.
#[derive(Clone, Debug, Default)]
pub(super) struct OutputState {
    /// The bundle in place.
    pub(super) bundle: Option<Record>,
    /// Whether its hook and its probe have run.
    pub(super) settled: bool,
    /// What is tried in vain.
    pub(super) attempts: Attempts,
    /// Until when its role is closed.
    pub(super) opens_at: Option<Timestamp>,
}

/// What is next for an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum OutputStep {
    /// Make a bundle, and put it in place.
    Make,
    /// Run hook and probe for the bundle in place.
    Settle,
    /// Nothing yet.
    Wait,
}

/// What is next for an output. `identity`: the bot's own certificate, if it may be used;
/// `made_from`: what a bundle would be made from now, if that is known.
pub(super) fn next_for_output(
    output: &OutputState,
    identity: Option<&Held>,
    made_from: Option<&str>,
    now: Timestamp,
) -> OutputStep {
    if !output.attempts.may(now) {
        return OutputStep::Wait;
    }
    let closed = output.opens_at.is_some_and(|at| now < at);
    let wanted = match (&output.bundle, identity, made_from) {
        (_, None, _) | (_, _, None) => false,
        (None, ..) => true,
        (Some(bundle), Some(identity), Some(made_from)) => {
            now >= bundle.due
                || bundle.instance != identity.instance
                || bundle.made_from != made_from
        }
    };
    match &output.bundle {
        _ if wanted && !closed => OutputStep::Make,
        Some(bundle) if !output.settled && now <= bundle.not_after => OutputStep::Settle,
        _ => OutputStep::Wait,
    }
}

/// Whether so much time has passed, or the clock was set back.
fn is_past(then: Timestamp, length: SignedDuration, now: Timestamp) -> bool {
    let passed = now.duration_since(then);
    passed >= length || passed.is_negative()
}

/// Between two questions how things stand: whether the bot is locked, when its roles close, and
/// which authorities there are.
pub(super) const LOOK: SignedDuration = SignedDuration::from_mins(5);

/// Between two questions of a bot that is locked, or that cannot join without its operator.
pub(super) const LOCKED_LOOK: SignedDuration = SignedDuration::from_secs(60);

/// The longest that an appliance may keep a bot waiting.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(10);

#[cfg(test)]
mod tests;
