//! The queue in front of the tokens: who is let in, and who is next.
//!
//! A signature needs a [`Place`] before anything is written down for it: what cannot be signed in
//! time is refused while a refusal still costs nothing. Each token's supervisor takes jobs from the
//! one queue when its token has room, so that a faster token signs more, and one that is down none.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pki::{keys::Signature, token::TokenError};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{Recall, SigningError};
use crate::worker::wire::Work;

/// How urgent a signature is. What is more urgent is signed first, and lets itself be refused last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Priority {
    /// What takes certificates back, and what the appliance itself needs to do so.
    TakingBack,
    /// A person waits.
    Person,
    /// A program waits.
    Bot,
    /// One of many that nobody waits for singly.
    Bulk,
}

/// A signature that somebody waits for.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) deadline: Instant,
    /// How often a worker died or hung while it had this job alone.
    pub(super) attempts: u8,
    pub(super) recall: Arc<Recall>,
    pub(super) answer: oneshot::Sender<Result<Made, SigningError>>,
}

/// A signature, and the token that made it, by its place in the configuration.
#[derive(Debug)]
pub struct Made {
    /// It was not verified yet.
    pub signature: Signature,
    /// Which token, for [`Admission::distrust`](super::Admission::distrust).
    pub token: usize,
}

impl Job {
    pub(super) fn is_wanted(&self) -> bool {
        !self.answer.is_closed() && !self.recall.is_recalled() && Instant::now() < self.deadline
    }

    /// Whether a token may have it.
    fn goes(&self) -> bool {
        self.is_wanted() && self.recall.take()
    }

    pub(super) fn settle(self, outcome: Result<Made, SigningError>) {
        // Nobody waits any more when the deadline has just passed.
        let _ = self.answer.send(outcome);
    }
}

/// What a supervisor gets.
pub(super) enum Taken {
    /// Nobody is left who could ask.
    Closed,
    /// At least one, in their order.
    Jobs(Vec<Job>),
    /// One that may be why a worker died: to be sent alone.
    Suspect(Job),
}

/// What a supervisor can take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// How many jobs more.
    pub(super) jobs: usize,
    /// The token has none.
    pub(super) empty: bool,
}

/// Shared by those who ask and the supervisors of all tokens.
pub(super) struct Queue {
    state: Mutex<State>,
    /// There may be something to take.
    arrived: Notify,
}

struct State {
    waiting: Line<Job>,
    /// Jobs of a worker that is gone, which are not why.
    again: VecDeque<Job>,
    /// Jobs of a worker that died or hung: one of them may be why.
    suspects: VecDeque<Job>,
    places: Places,
    closed: bool,
    /// Tokens that may still sign some day.
    tokens: usize,
    /// Why none may: then nothing waits.
    refusal: Option<TokenError>,
}

impl Queue {
    /// For so many tokens.
    pub(super) fn new(tokens: usize) -> Self {
        let state = State {
            waiting: Line::default(),
            again: VecDeque::new(),
            suspects: VecDeque::new(),
            places: Places::new(tokens),
            closed: false,
            tokens,
            refusal: None,
        };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }

    /// A place for one signature of this client, to be signed within its patience.
    ///
    /// # Errors
    ///
    /// [`SigningError::Busy`], or that no token may sign any more.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: &str,
        priority: Priority,
        patience: Duration,
    ) -> Result<Place, SigningError> {
        let mut state = self.lock();
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone().into());
        }
        match state.places.take(client, priority, patience) {
            Ok(client) => Ok(Place { queue: Arc::clone(self), client, priority }),
            Err(retry_after) => Err(SigningError::Busy { retry_after }),
        }
    }

    /// Jobs for a token that has room; waits until there are some. Can be dropped while it waits
    /// without losing any.
    pub(super) async fn take(&self, room: Room) -> Taken {
        loop {
            if let Some(taken) = self.try_take(room) {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    /// Gives back jobs of a worker that is gone.
    pub(super) fn give_back(&self, jobs: impl IntoIterator<Item = Job>, suspects: bool) {
        let jobs = jobs.into_iter().inspect(|job| job.recall.give_back());
        let mut state = self.lock();
        if let Some(refusal) = state.refusal.clone() {
            drop(state);
            return jobs.into_iter().for_each(|job| job.settle(Err(refusal.clone().into())));
        }
        if suspects {
            state.suspects.extend(jobs)
        } else {
            state.again.extend(jobs)
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// A token signs at this rate, as far as it is known.
    pub(super) fn set_rate(&self, token: usize, rate: Option<f64>) {
        self.lock().places.set_rate(token, rate);
    }

    /// A token signs no more, for this reason. When it was the last, all that wait hear of it, and
    /// so does everybody who comes.
    pub(super) fn leave(&self, token: usize, reason: &TokenError) {
        let mut state = self.lock();
        state.places.set_rate(token, None);
        state.tokens -= 1;
        if state.tokens > 0 {
            return;
        }
        state.refusal = Some(reason.clone());
        let mut jobs: Vec<_> = state.again.drain(..).collect();
        jobs.extend(state.suspects.drain(..));
        jobs.extend(std::iter::from_fn(|| state.waiting.pop()));
        drop(state);
        jobs.into_iter().for_each(|job| job.settle(Err(reason.clone().into())));
    }

    /// Nobody is left who could ask.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many signatures were let in and not yet made.
    pub(super) fn places(&self) -> usize {
        self.lock().places.total()
    }

    fn try_take(&self, room: Room) -> Option<Taken> {
        let mut state = self.lock();
        let taken = state.take(room);
        let more = taken.is_some() && !state.is_empty();
        let closed = state.closed;
        drop(state);
        if more || closed {
            // Another token may have room for the rest, or has to hear of the end.
            self.arrived.notify_one();
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, room: Room) -> Option<Taken> {
        // Expired jobs never touch a token.
        while let Some(suspect) = self.suspects.front() {
            if suspect.is_wanted() {
                return if room.empty {
                    self.suspects.pop_front().filter(Job::goes).map(Taken::Suspect)
                } else {
                    None
                };
            }
            self.suspects.pop_front();
        }
        let next = std::iter::from_fn(|| self.again.pop_front().or_else(|| self.waiting.pop()));
        let jobs: Vec<_> = next.filter(Job::goes).take(room.jobs).collect();
        if !jobs.is_empty() {
            return Some(Taken::Jobs(jobs));
        }
        self.closed.then_some(Taken::Closed)
    }

    fn is_empty(&self) -> bool {
        self.suspects.is_empty() && self.again.is_empty() && self.waiting.is_empty()
    }
}

/// The right to have one text signed, also more than once. It counts against its client and its
/// priority until it is dropped.
pub(super) struct Place {
    queue: Arc<Queue>,
    client: Arc<str>,
    priority: Priority,
}

impl Place {
    /// Puts a job in line.
    pub(super) fn wait(&self, job: Job) {
        let mut state = self.queue.lock();
        if let Some(refusal) = state.refusal.clone() {
            drop(state);
            return job.settle(Err(refusal.into()));
        }
        state.waiting.push(&self.client, self.priority, job);
        drop(state);
        self.queue.arrived.notify_one();
    }

    /// When to come again: by then, half of what waits now is signed.
    pub(super) fn retry_after(&self) -> Duration {
        self.queue.lock().places.retry_after()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.lock().places.free(&self.client, self.priority);
    }
}

/// How many places are taken, by whom, and how fast they become free.
struct Places {
    taken: [usize; PRIORITIES],
    clients: HashMap<Arc<str>, usize>,
    /// Signatures a second of each token, as last measured. That of a token which is down stands
    /// for what it will do when it is back.
    rates: Vec<Option<f64>>,
}

impl Places {
    fn new(tokens: usize) -> Self {
        Self { taken: [0; PRIORITIES], clients: HashMap::new(), rates: vec![None; tokens] }
    }

    /// Takes a place, or says when to come again.
    fn take(
        &mut self,
        client: &str,
        priority: Priority,
        patience: Duration,
    ) -> Result<Arc<str>, Duration> {
        let known = self.clients.get_key_value(client);
        let (client, own) =
            known.map_or_else(|| (client.into(), 0), |(client, own)| (Arc::clone(client), *own));
        let ahead: usize = self.taken[..=priority as usize].iter().sum();
        let full = self.total() >= priority.limit();
        let unfair = own >= CLIENT_LIMIT && priority != Priority::TakingBack;
        // A quarter is left for what the measured rate does not know.
        let late = self.time_for(ahead + 1) > patience / 4 * 3;
        if full || unfair || late {
            return Err(self.retry_after());
        }
        self.taken[priority as usize] += 1;
        self.clients.insert(Arc::clone(&client), own + 1);
        Ok(client)
    }

    fn free(&mut self, client: &str, priority: Priority) {
        self.taken[priority as usize] -= 1;
        let last = self.clients.get_mut(client).is_none_or(|own| {
            *own -= 1;
            *own == 0
        });
        if last {
            self.clients.remove(client);
        }
    }

    fn total(&self) -> usize {
        self.taken.iter().sum()
    }

    fn set_rate(&mut self, token: usize, rate: Option<f64>) {
        if let Some(known) = self.rates.get_mut(token) {
            *known = rate;
        }
    }

    fn retry_after(&self) -> Duration {
        self.time_for(self.total() / 2).clamp(SOONEST, LATEST)
    }

    /// How long the tokens take for so many signatures; nothing as long as no rate is known.
    fn time_for(&self, signatures: usize) -> Duration {
        let rate: f64 = self.rates.iter().flatten().sum();
        #[expect(clippy::cast_precision_loss, reason = "at most CAPACITY")]
        let seconds = signatures as f64 / rate;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
    }
}

impl Priority {
    /// Up to how many places in all this one is let in: the rest is kept for what is more urgent.
    fn limit(self) -> usize {
        match self {
            Self::TakingBack => CAPACITY,
            Self::Person => CAPACITY / 16 * 15,
            Self::Bot => CAPACITY / 4 * 3,
            Self::Bulk => CAPACITY / 2,
        }
    }
}

/// What waits, by priority and client.
struct Line<T> {
    classes: [Class<T>; PRIORITIES],
    turn: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { classes: Default::default(), turn: 0 }
    }
}

impl<T> Line<T> {
    fn push(&mut self, client: &Arc<str>, priority: Priority, job: T) {
        self.classes[priority as usize].push(client, job);
    }

    /// The most urgent, and among these the clients in turn. Each eighth turn belongs to one class
    /// after the other, so that none starves: whatever waits first in its class is next at the
    /// latest after 32 others.
    fn pop(&mut self) -> Option<T> {
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(GUARD)
            && let Some(job) = self.classes[self.turn / GUARD % PRIORITIES].pop()
        {
            return Some(job);
        }
        self.classes.iter_mut().find_map(Class::pop)
    }

    fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.turns.is_empty())
    }
}

/// What waits with one priority.
struct Class<T> {
    /// Clients that have jobs here, the next one first.
    turns: VecDeque<Arc<str>>,
    jobs: HashMap<Arc<str>, VecDeque<T>>,
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), jobs: HashMap::new() }
    }
}

impl<T> Class<T> {
    fn push(&mut self, client: &Arc<str>, job: T) {
        match self.jobs.get_mut(client) {
            Some(jobs) => jobs.push_back(job),
            None => {
                self.jobs.insert(Arc::clone(client), VecDeque::from([job]));
                self.turns.push_back(Arc::clone(client));
            }
        }
    }

    fn pop(&mut self) -> Option<T> {
        let client = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&client)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        job
    }
}

/// How many kinds of priority there are.
const PRIORITIES: usize = Priority::Bulk as usize + 1;

/// The most places.
pub(super) const CAPACITY: usize = 4096;

/// The most places of one client.
const CLIENT_LIMIT: usize = CAPACITY / 4;

/// One in so many turns is not for the most urgent.
const GUARD: usize = 8;

/// A client is never told to come again sooner.
const SOONEST: Duration = Duration::from_secs(1);

/// Nor later: by then, things are not as they were.
const LATEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Priority; PRIORITIES] =
        [Priority::TakingBack, Priority::Person, Priority::Bot, Priority::Bulk];

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn the_urgent_is_first_and_the_clients_of_a_class_take_turns() {
        let mut line = Line::default();
        let (many, one): (Arc<str>, Arc<str>) = ("many".into(), "one".into());
        for number in 0..3 {
            line.push(&many, Priority::Bot, format!("many {number}"));
        }
        line.push(&one, Priority::Bot, "one".to_owned());
        line.push(&many, Priority::Bulk, "bulk".to_owned());
        line.push(&one, Priority::TakingBack, "lock".to_owned());
        line.push(&one, Priority::Person, "person".to_owned());
        let order: Vec<_> = std::iter::from_fn(|| line.pop()).collect();
        assert_eq!(order, ["lock", "person", "many 0", "one", "many 1", "many 2", "bulk"]);
        assert!(line.is_empty());
    }

    #[test]
    fn no_class_starves_however_much_of_another_comes() {
        for flood in ALL {
            for starving in ALL.into_iter().filter(|starving| *starving != flood) {
                let mut line = Line::default();
                let client: Arc<str> = "client".into();
                line.push(&client, starving, true);
                let turns = (0..100).take_while(|_| {
                    line.push(&client, flood, false);
                    line.pop() == Some(false)
                });
                assert!(turns.count() < GUARD * PRIORITIES, "{starving:?} behind {flood:?}");
            }
        }
    }

    #[test]
    fn one_client_takes_no_more_than_a_quarter_and_nobody_all() {
        let mut places = Places::new(1);
        let mut take = |client: &str, priority| places.take(client, priority, PATIENCE).is_ok();
        for _ in 0..CLIENT_LIMIT {
            assert!(take("greedy", Priority::Bulk));
        }
        assert!(!take("greedy", Priority::Bulk));
        assert!(!take("greedy", Priority::Person), "whatever its priority");
        let mut total = CLIENT_LIMIT;
        for (priority, limit) in
            [(Priority::Bulk, 2048), (Priority::Bot, 3072), (Priority::Person, 3840)]
        {
            while take(&format!("client {}", total / 100), priority) {
                total += 1;
            }
            assert_eq!(total, limit, "{priority:?}");
        }
        assert!(take("operator", Priority::TakingBack), "kept for what takes back");
    }

    #[test]
    fn a_place_is_free_again_and_a_client_without_any_forgotten() {
        let mut places = Places::new(1);
        for priority in ALL {
            let client = places.take("client", priority, PATIENCE).unwrap();
            assert_eq!(places.total(), 1);
            places.free(&client, priority);
        }
        assert_eq!((places.total(), places.clients.len()), (0, 0));
    }

    #[test]
    fn what_cannot_be_signed_in_time_is_refused_with_an_honest_delay() {
        let mut places = Places::new(2);
        let patience = Duration::from_secs(2);
        // 10 a second together: the 16th would be signed after three quarters of the two seconds.
        places.set_rate(0, Some(4.0));
        places.set_rate(1, Some(6.0));
        for number in 0..15 {
            places.take(&format!("client {number}"), Priority::Bot, patience).unwrap();
        }
        let retry_after = places.take("late", Priority::Bot, patience).unwrap_err();
        assert_eq!(retry_after, SOONEST, "seven of the fifteen take less than a second");
        places.take("ann", Priority::Person, patience).unwrap();
        assert!(places.take("late", Priority::Bulk, patience).is_err());
        places.set_rate(1, None);
        assert_eq!(places.retry_after(), Duration::from_secs(2), "eight at four a second");
    }
}
