use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// A bounded set of connections. When it is full, a new connection takes the place of another
/// that keeps the appliance waiting; a connection whose request is being worked on is never put
/// out. A quarter of the places is kept for those that have not shown a certificate yet: beyond
/// it, the oldest of these goes, and within it, one of the client that has the most connections.
#[derive(Debug)]
pub(super) struct Slots {
    capacity: usize,
    /// Grows with each event, so that a greater value is a later one.
    ticks: AtomicU64,
    house: Mutex<House>,
    emptied: Notify,
}

/// All connections, and how many of them are whose.
#[derive(Debug, Default)]
struct House {
    open: BTreeMap<u64, Arc<Open>>,
    clients: BTreeMap<Fingerprint, Arc<Client>>,
}

/// What is known of one connection.
#[derive(Debug)]
struct Open {
    /// [`HANDSHAKING`], [`BUSY`], or the tick since which its client keeps the appliance waiting.
    state: AtomicU64,
    /// Its client does not take what is written to it.
    stalled: AtomicBool,
    client: OnceLock<Arc<Client>>,
    evicted: Notify,
}

const HANDSHAKING: u64 = 0;
const BUSY: u64 = u64::MAX;

/// Who has shown one certificate.
#[derive(Debug)]
struct Client {
    fingerprint: Fingerprint,
    /// How many connections; changed only by who holds the lock of the house.
    connections: AtomicUsize,
}

/// SHA-256 of a client certificate.
pub(super) type Fingerprint = [u8; 32];

/// A connection's place; given back when it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Slot(Arc<Place>);

#[derive(Debug)]
struct Place {
    slots: Arc<Slots>,
    id: u64,
    open: Arc<Open>,
}

/// A request in flight; over when it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    slot: Slot,
    /// When it began.
    tick: u64,
}

impl Slots {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            ticks: AtomicU64::new(HANDSHAKING + 1),
            house: Mutex::default(),
            emptied: Notify::new(),
        })
    }

    /// A place for a new connection; none when every connection is at work.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        let mut house = self.lock();
        if house.open.len() >= self.capacity {
            let crowded = house.handshaking() > self.quarter();
            house.put_out(|open| (open.is_handshaking() != crowded, open.greed()), |_| true)?;
        }
        let open = Arc::new(Open {
            state: AtomicU64::new(HANDSHAKING),
            stalled: AtomicBool::new(false),
            client: OnceLock::new(),
            evicted: Notify::new(),
        });
        let id = self.tick();
        house.open.insert(id, open.clone());
        Some(Slot(Arc::new(Place { slots: self.clone(), id, open })))
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Waits until there is no connection.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// The most places of one client, and what is kept for those that are not known yet.
    fn quarter(&self) -> usize {
        (self.capacity / 4).max(1)
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, House> {
        // Nothing that holds the lock can leave the house half changed.
        self.house.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl House {
    fn handshaking(&self) -> usize {
        self.open.values().filter(|open| open.is_handshaking()).count()
    }

    /// How many have shown a certificate.
    fn known(&self) -> usize {
        self.clients.values().map(|client| client.connections.load(Ordering::Relaxed)).sum()
    }

    /// Puts out one of those that keep the appliance waiting and may go: the first in this order,
    /// and of equal ones that which waits longest.
    fn put_out<O: Ord>(
        &mut self,
        order: impl Fn(&Open) -> O,
        may_go: impl Fn(&Open) -> bool,
    ) -> Option<()> {
        let (id, _) = self
            .open
            .iter()
            .map(|(id, open)| (*id, open.state.load(Ordering::Relaxed), open))
            .filter(|(_, state, open)| *state != BUSY || open.stalled.load(Ordering::Relaxed))
            .filter(|(_, _, open)| may_go(open))
            .map(|(id, state, open)| (id, (order(open), state, id)))
            .min_by(|(_, one), (_, other)| one.cmp(other))?;
        // The permit of `notify_one` is kept if the connection does not listen yet.
        self.remove(id)?.evicted.notify_one();
        Some(())
    }

    fn add_to(&mut self, fingerprint: Fingerprint) -> Arc<Client> {
        let new = || Arc::new(Client { fingerprint, connections: AtomicUsize::new(0) });
        let client = self.clients.entry(fingerprint).or_insert_with(new);
        client.connections.fetch_add(1, Ordering::Relaxed);
        client.clone()
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Open>> {
        let open = self.open.remove(&id)?;
        if let Some(client) = open.client.get()
            && client.connections.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.clients.remove(&client.fingerprint);
        }
        Some(open)
    }
}

impl Open {
    fn is_handshaking(&self) -> bool {
        self.state.load(Ordering::Relaxed) == HANDSHAKING
    }

    fn is_of(&self, fingerprint: &Fingerprint) -> bool {
        self.client.get().is_some_and(|client| client.fingerprint == *fingerprint)
    }

    /// How many connections its client has: the most come first.
    fn greed(&self) -> Reverse<usize> {
        let connections = |client: &Arc<Client>| client.connections.load(Ordering::Relaxed);
        Reverse(self.client.get().map_or(0, connections))
    }
}

impl Slot {
    /// Says whose connection it is. `false` means that it must be closed: it was put out before,
    /// or this client has as many as it may have and all of them are at work. That is a quarter of
    /// all places, and where three quarters are at work already, one.
    #[must_use]
    pub(super) fn identify(&self, fingerprint: Fingerprint) -> bool {
        let Place { slots, id, open } = &*self.0;
        let mut house = slots.lock();
        if !house.open.contains_key(id) {
            return false;
        }
        let client = house.clients.get(&fingerprint);
        let own = client.map_or(0, |client| client.connections.load(Ordering::Relaxed));
        let crowded = house.known() >= slots.capacity.saturating_sub(slots.quarter());
        let room = if own >= slots.quarter() {
            house.put_out(|_| (), |open| open.is_of(&fingerprint))
        } else if own > 0 && crowded {
            house.put_out(Open::greed, |open| !open.is_handshaking())
        } else {
            Some(())
        };
        if room.is_none() {
            return false;
        }
        open.state.store(slots.tick(), Ordering::Relaxed);
        open.client.set(house.add_to(fingerprint)).is_ok()
    }

    /// A request begins.
    pub(super) fn begin(&self) -> InFlight {
        let in_flight = InFlight { slot: self.clone(), tick: self.0.slots.tick() };
        in_flight.works();
        in_flight
    }

    /// Whether the client takes nothing of what is written to it now: the connection may then be
    /// put out, also while the appliance is at work for it.
    pub(super) fn set_stalled(&self, stalled: bool) {
        self.0.open.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Waits until the connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.0.open.evicted.notified().await;
    }

    fn set_state(&self, state: u64) {
        self.0.open.state.store(state, Ordering::Relaxed);
    }
}

impl InFlight {
    /// The appliance waits for the client, which has not sent all of its request: the connection
    /// may be put out, as one that idles since the request began.
    pub(super) fn waits(&self) {
        self.slot.set_state(self.tick);
    }

    /// The appliance is at work on what the client has sent.
    pub(super) fn works(&self) {
        self.slot.set_state(BUSY);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.slot.set_state(self.slot.0.slots.tick());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut house = self.slots.lock();
        house.remove(self.id);
        if house.open.is_empty() {
            self.slots.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_quarter_of_the_places_is_for_those_that_shake_hands() {
        let slots = Slots::new(8);
        let known: Vec<_> = (0..5).map(|_| slots.take().unwrap()).collect();
        for (number, slot) in known.iter().enumerate() {
            assert!(slot.identify([number as u8; 32]));
        }
        let silent: Vec<_> = (0..3).map(|_| slots.take().unwrap()).collect();
        let _newcomer = slots.take().unwrap();
        assert!(evicted(&silent[0]), "they are more than a quarter");
        assert!(silent[1].identify([5; 32]));
        let _newcomer = slots.take().unwrap();
        assert!(!evicted(&silent[2]), "they are a quarter, two of eight");
        assert!(evicted(&known[0]) && known[1..].iter().all(|slot| !evicted(slot)));
        assert_eq!(slots.len(), 8);
    }

    #[test]
    fn the_client_with_the_most_connections_gives_way_and_never_one_at_work() {
        let slots = Slots::new(12);
        let take = |client: u8| {
            let slot = slots.take().unwrap();
            assert!(slot.identify([client; 32]));
            slot
        };
        let good = take(0);
        let greedy: Vec<_> = [1, 1, 2, 2, 3, 3, 4, 4].map(take).into();
        drop(greedy[0].begin());
        let silent: Vec<_> = (0..3).map(|_| slots.take().unwrap()).collect();
        let _newcomer = take(5);
        assert!(evicted(&greedy[1]), "of those with two, it idles longest");
        let work: Vec<_> = greedy[2..].iter().map(Slot::begin).collect();
        let _newcomer = take(6);
        assert!(evicted(&good) && !evicted(&greedy[0]), "the others are at work");
        work[3].waits();
        let _newcomer = take(7);
        assert!(evicted(&greedy[5]), "it has not sent all of its request");
        work[4].waits();
        work[4].works();
        let _newcomer = take(8);
        assert!(evicted(&greedy[0]) && !evicted(&greedy[6]), "all of its request is there");
        greedy[2].set_stalled(true);
        greedy[3].set_stalled(true);
        greedy[3].set_stalled(false);
        let _newcomer = take(9);
        assert!(evicted(&greedy[2]) && !evicted(&greedy[3]), "it takes nothing of its answer");
        assert!(silent.iter().all(|slot| !evicted(slot)));
    }

    #[test]
    fn where_three_quarters_are_at_work_each_client_has_one_place() {
        let slots = Slots::new(8);
        let take = |client: u8| {
            let slot = slots.take().unwrap();
            let known = slot.identify([client; 32]);
            (slot, known)
        };
        let busy: Vec<_> = [1, 1, 2, 2, 3, 3].map(take).into();
        let _work: Vec<_> = busy.iter().map(|(slot, _)| slot.begin()).collect();
        assert!(busy.iter().all(|(_, known)| *known));
        let (first, known) = take(4);
        assert!(known);
        let (second, known) = take(4);
        assert!(known && evicted(&first), "its own idle one has gone");
        let _work = second.begin();
        assert!(!take(4).1 && take(5).1);
    }

    #[test]
    fn one_client_has_at_most_a_quarter_of_the_places() {
        let slots = Slots::new(8);
        let mine: Vec<_> = (0..2).map(|_| slots.take().unwrap()).collect();
        assert!(mine.iter().all(|slot| slot.identify([1; 32])));
        let third = slots.take().unwrap();
        assert!(third.identify([1; 32]));
        assert!(evicted(&mine[0]) && !evicted(&mine[1]), "it makes room for itself");
        let _work = (mine[1].begin(), third.begin());
        assert!(!slots.take().unwrap().identify([1; 32]), "all its connections work");
        assert!(!mine[0].identify([2; 32]), "it was put out");
        assert!(slots.take().unwrap().identify([2; 32]), "others are not in its way");
    }

    #[tokio::test]
    async fn the_house_is_empty_when_the_last_one_has_gone() {
        let slots = Slots::new(2);
        let last = slots.take().unwrap();
        let mut emptied = Box::pin(slots.emptied());
        assert!(emptied.as_mut().now_or_never().is_none());
        drop(last);
        emptied.await;
    }

    fn evicted(slot: &Slot) -> bool {
        let evicted = slot.evicted().now_or_never().is_some();
        if evicted {
            slot.0.open.evicted.notify_one();
        }
        evicted
    }
}
