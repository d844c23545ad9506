//! How the token is, and what changes it.

use metrics::gauge;

/// How the token is, with what a person needs to know of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// It signs, but less well than it should, or it failed a short while ago.
    Degraded(String),
    /// It does not sign; a worker is started again and again.
    Down(String),
    /// It does not sign, and nothing is tried until a person has seen to the PIN.
    PinBlocked(String),
    /// Its worker was lost, and another is being started.
    Recovering(String),
    /// The worker is being started for the first time.
    Starting,
    /// It signs.
    Up,
}

/// What happened to the token.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Nothing, for a while.
    Calm(Sessions),
    /// A worker could not be started.
    Failed(String),
    /// The worker is gone.
    Lost(String),
    /// The token refused the PIN, or its flags forbid a try.
    Refused(String),
    /// A session was lost, and another opened.
    Reopened,
    /// A worker serves.
    Started(Sessions),
}

/// How many signatures the worker makes at once, and how many it was to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sessions {
    pub(super) open: usize,
    pub(super) wanted: usize,
}

/// That the token has changed from one kind of state to another.
#[derive(Clone, Debug)]
pub struct Change {
    /// The token's name: its label, and a replica's serial number.
    pub token: String,
    /// How it was.
    pub before: State,
    /// How it is.
    pub after: State,
}

impl State {
    /// Whether it signs.
    pub fn signs(&self) -> bool {
        matches!(self, Self::Degraded(_) | Self::Up)
    }

    /// Its name in the audit log, in metrics and for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Degraded(_) => "degraded",
            Self::Down(_) => "down",
            Self::PinBlocked(_) => "pin-blocked",
            Self::Recovering(_) => "recovering",
            Self::Starting => "starting",
            Self::Up => "up",
        }
    }

    /// Why it is not simply up.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Degraded(why)
            | Self::Down(why)
            | Self::PinBlocked(why)
            | Self::Recovering(why) => Some(why),
            Self::Starting | Self::Up => None,
        }
    }

    /// What to tell whoever asks whether all is well; none when it is.
    pub fn remark(&self, token: &str) -> Option<String> {
        match (self, self.detail()) {
            (Self::Up, _) => None,
            (_, Some(detail)) => Some(format!("token {token:?} is {}: {detail}", self.name())),
            (_, None) => Some(format!("token {token:?} is {}", self.name())),
        }
    }

    /// The state after an event. An event that cannot happen in a state changes nothing.
    pub(super) fn after(&self, event: Event) -> Self {
        match (self, event) {
            (Self::PinBlocked(_), _) => self.clone(),
            (_, Event::Refused(why)) => Self::PinBlocked(why),
            (Self::Starting, Event::Started(sessions)) => sessions.state(),
            (Self::Down(why) | Self::Recovering(why), Event::Started(_)) => {
                Self::Degraded(format!("its worker was replaced: {why}"))
            }
            (Self::Degraded(_) | Self::Up, Event::Lost(why)) => Self::Recovering(why),
            (Self::Degraded(_) | Self::Up, Event::Reopened) => {
                Self::Degraded("a session was lost and opened anew".to_owned())
            }
            (Self::Degraded(_), Event::Calm(sessions)) => sessions.state(),
            (Self::Down(_) | Self::Recovering(_) | Self::Starting, Event::Failed(why)) => {
                Self::Down(why)
            }
            (_, Event::Calm(_) | Event::Failed(_) | Event::Lost(_)) => self.clone(),
            (_, Event::Reopened | Event::Started(_)) => self.clone(),
        }
    }

    /// Sets `chancery_token_state` of a token: 1 for this state, 0 for all others.
    pub(super) fn measure(&self, token: &str) {
        for name in NAMES {
            gauge!("chancery_token_state", "token" => token.to_owned(), "state" => name)
                .set(u8::from(name == self.name()));
        }
    }
}

impl Sessions {
    fn state(self) -> State {
        if self.open >= self.wanted {
            return State::Up;
        }
        State::Degraded(format!("it has {} of {} sessions", self.open, self.wanted))
    }
}

const NAMES: [&str; 6] = ["degraded", "down", "pin-blocked", "recovering", "starting", "up"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_in_each_state() {
        let why = || "why".to_owned();
        let all = Sessions { open: 2, wanted: 2 };
        let few = Sessions { open: 1, wanted: 2 };
        let states = [
            State::Starting,
            State::Up,
            State::Degraded(why()),
            State::Recovering(why()),
            State::Down(why()),
            State::PinBlocked(why()),
        ];
        let (same, degraded) = ("", "degraded");
        #[rustfmt::skip]
        let table = [
            //                          starting       up             degraded       recovering     down           pin-blocked
            (Event::Calm(all),         [same,          same,          "up",          same,          same,          same]),
            (Event::Calm(few),         [same,          same,          degraded,      same,          same,          same]),
            (Event::Failed(why()),     ["down",        same,          same,          "down",        "down",        same]),
            (Event::Lost(why()),       [same,          "recovering",  "recovering",  same,          same,          same]),
            (Event::Refused(why()),    ["pin-blocked", "pin-blocked", "pin-blocked", "pin-blocked", "pin-blocked", same]),
            (Event::Reopened,          [same,          degraded,      degraded,      same,          same,          same]),
            (Event::Started(all),      ["up",          same,          same,          degraded,      degraded,      same]),
            (Event::Started(few),      [degraded,      same,          same,          degraded,      degraded,      same]),
        ];
        for (event, wanted) in table {
            for (state, wanted) in states.iter().zip(wanted) {
                let after = state.after(event.clone());
                let wanted = if wanted.is_empty() { state.name() } else { wanted };
                assert_eq!(after.name(), wanted, "{state:?} {event:?}");
                assert_eq!(after.remark("t").is_none(), after == State::Up);
            }
        }
        let names: std::collections::BTreeSet<_> = states.iter().map(State::name).collect();
        assert_eq!(names, NAMES.into(), "a state is not measured");
    }
}
