//! What the worker does when it is asked to tell of its token instead of serving.

use std::{
    collections::BTreeMap,
    io,
    num::NonZero,
    os::unix::net::UnixStream,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use pki::{
    keys::KeyAlgorithm,
    token::{
        Input, KeyRef, Purpose, Token, TokenError,
        pkcs11::{Module, Session},
    },
};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::{
    sandbox,
    signer::{self, open},
    wire::{self, Settings},
};
use crate::probe::{Level, Login, Rate, Sessions, Survey, Told};

/// Surveys the token and tells of it; the worker ends then.
pub(super) fn tell(
    socket: &mut UnixStream,
    settings: &Settings,
    asked: &wire::Probe,
) -> io::Result<()> {
    let time = Duration::from_secs(asked.seconds.into());
    let probe = Probe { settings, offline: &asked.offline, time };
    let survey = probe.survey(&mut |step| {
        // The other end is gone when it cannot be told, and hears nothing of the outcome either.
        let _ = wire::write_json(socket, &Told::Step(step));
    });
    let told = match survey {
        Ok(survey) => Told::Survey(Box::new(survey)),
        Err(error) => Told::Failed(error),
    };
    wire::write_json(socket, &told)
}

/// Says what is done next.
type Tell<'a> = &'a mut dyn FnMut(String);

struct Probe<'a> {
    settings: &'a Settings,
    offline: &'a [KeyRef],
    /// How long to sign with each number of sessions; zero measures nothing.
    time: Duration,
}

impl Probe<'_> {
    fn survey(&self, tell: Tell<'_>) -> Result<Survey, TokenError> {
        let sandbox = sandbox::enter(self.settings)?;
        tell("loading the module".to_owned());
        let module = Module::load(&self.settings.module)?;
        tell("asking the token".to_owned());
        let mut survey = Survey::new(sandbox, module.survey(&self.settings.identity)?);
        tell("logging in".to_owned());
        // It stays open until the end: the login ends with the last session.
        let session = match open(self.settings, &module, &[]) {
            Ok(session) => session,
            Err(TokenError::Pin { code }) => {
                survey.login = Login::Refused { code };
                return Ok(survey);
            }
            Err(error) => return Err(error),
        };
        tell("reading the keys".to_owned());
        let keys = self.settings.keys.iter().chain(self.offline);
        survey.keys = keys.map(|key| session.survey(key)).collect();
        tell("opening sessions".to_owned());
        let sessions = count(&session);
        let most = sessions.opened;
        survey.sessions = Some(sessions);
        if !self.time.is_zero() {
            survey.rates = self.rates(&module, session, most, tell);
        }
        Ok(survey)
    }

    /// A rate for each kind of key that there is.
    fn rates(
        &self,
        module: &Module,
        mut session: Session,
        most: usize,
        tell: Tell<'_>,
    ) -> Vec<Rate> {
        let mut kinds: BTreeMap<KeyAlgorithm, Vec<&KeyRef>> = BTreeMap::new();
        for key in &self.settings.keys {
            kinds.entry(key.public_key.algorithm()).or_default().push(key);
        }
        let mut rates = Vec::new();
        for mut keys in kinds.into_values() {
            // A CA's key only where nothing else is there to measure with.
            keys.sort_by_key(|key| match key.label.purpose() {
                Purpose::Join | Purpose::Login | Purpose::Raw => 0,
                Purpose::Publication => 1,
                Purpose::Issuing => 2,
            });
            // What is wrong with the others is among what was read of them.
            let mut found = |key: &&KeyRef| {
                signer::find(&mut session, self.settings, std::slice::from_ref(*key)).is_ok()
            };
            if let Some(key) = keys.into_iter().find(|key| found(key)) {
                let (rate, kept) = self.rate(module, session, key, most, tell);
                rates.push(rate);
                session = kept;
            }
        }
        rates
    }

    /// Signs with 1, 2, 4, … sessions, as long as more of them bring more; gives the first back.
    fn rate(
        &self,
        module: &Module,
        first: Session,
        key: &KeyRef,
        most: usize,
        tell: Tell<'_>,
    ) -> (Rate, Session) {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let mut rate = Rate::new(key);
        let mut sessions = vec![first];
        let mut count = 1;
        while count <= most && !rate.is_settled() {
            tell(format!("measuring {} with {count} at once", rate.algorithm));
            match self.level(module, &mut sessions, count, key) {
                Ok(level) => rate.levels.push(level),
                Err(error) => {
                    rate.failure = Some(format!("with {count} sessions: {error}"));
                    break;
                }
            }
            count *= 2;
            if rate.is_computed_here() && count > 2 * processors {
                break;
            }
        }
        (rate, sessions.swap_remove(0))
    }

    fn level(
        &self,
        module: &Module,
        sessions: &mut Vec<Session>,
        count: usize,
        key: &KeyRef,
    ) -> Result<Level, TokenError> {
        while sessions.len() < count {
            sessions.push(open(self.settings, module, std::slice::from_ref(key))?);
        }
        for session in sessions.iter_mut() {
            sign_and_verify(session, key)?;
        }
        let start = Barrier::new(count);
        let busy = busy();
        let each: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = sessions
                .iter_mut()
                .map(|session| scope.spawn(|| sign_for(self.time, session, key, &start)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(crashed())))
                .collect()
        });
        let each = each.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Level::new(each, self::busy().saturating_sub(busy)))
    }
}

/// How many sessions can be open at once, this one included.
fn count(session: &Session) -> Sessions {
    let (more, failure) = session.spare(MOST_SESSIONS - 1);
    Sessions { opened: more + 1, failure: failure.map(|error| error.to_string()) }
}

/// A signature before the measurement, so that each session has found its key.
fn sign_and_verify(session: &mut Session, key: &KeyRef) -> Result<(), TokenError> {
    let scheme = key.public_key.default_scheme();
    let signature = session.sign(key, scheme, Input::Message(&TEXT))?;
    key.public_key.verify(scheme, &TEXT, &signature).map_err(|error| TokenError::KeyUnfit {
        label: key.label.clone(),
        what: format!("its signature does not verify: {error}"),
    })
}

/// How long each signature took.
fn sign_for(
    time: Duration,
    session: &mut Session,
    key: &KeyRef,
    start: &Barrier,
) -> Result<Vec<Duration>, TokenError> {
    let scheme = key.public_key.default_scheme();
    let mut took = Vec::new();
    start.wait();
    let begin = Instant::now();
    let mut last = begin;
    while last - begin < time {
        session.sign(key, scheme, Input::Message(&TEXT))?;
        let now = Instant::now();
        took.push(now - last);
        last = now;
    }
    Ok(took)
}

/// How long processors have been busy for this process.
fn busy() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(tv_nsec).unwrap_or_default())
}

fn crashed() -> TokenError {
    TokenError::Refused { call: "a thread of the probe".into(), code: "a panic".to_owned() }
}

/// As many as `token.sessions` can be.
const MOST_SESSIONS: usize = 64;

/// What is signed to measure: as long as a certificate, and such that no parser takes it for
/// anything that is signed in earnest. A certificate, an OCSP answer or a CRL begins with a DER
/// SEQUENCE, an SSH certificate with a length.
const TEXT: [u8; 512] = {
    let head = b"Chancery token probe 1: a measurement, which certifies nothing\0";
    let mut text = [0; 512];
    let mut at = 0;
    while at < head.len() {
        text[at] = head[at];
        at += 1;
    }
    text
};
