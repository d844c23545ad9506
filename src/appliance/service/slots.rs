use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

/// A bounded set of connections. When it is full, a new connection takes the place of the oldest
/// one that has not shown a certificate yet, or else of the one that has idled longest; a
/// connection with a request in flight is never put out.
#[derive(Debug)]
pub(super) struct Slots {
    capacity: usize,
    /// Grows with each event, so that a greater value is a later one.
    ticks: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Open>>>,
    emptied: Notify,
}

/// What is known of one connection.
#[derive(Debug)]
struct Open {
    /// [`HANDSHAKING`], [`BUSY`], or the tick since which it idles.
    state: AtomicU64,
    client: OnceLock<Fingerprint>,
    evicted: Notify,
}

const HANDSHAKING: u64 = 0;
const BUSY: u64 = u64::MAX;

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
pub(super) struct InFlight(Slot);

impl Slots {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            ticks: AtomicU64::new(HANDSHAKING + 1),
            open: Mutex::default(),
            emptied: Notify::new(),
        })
    }

    /// A place for a new connection; none when every connection is at work.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        let mut connections = self.lock();
        if connections.len() >= self.capacity {
            evict(&mut connections, |_| true)?;
        }
        let open = Arc::new(Open {
            state: AtomicU64::new(HANDSHAKING),
            client: OnceLock::new(),
            evicted: Notify::new(),
        });
        let id = self.tick();
        connections.insert(id, open.clone());
        Some(Slot(Arc::new(Place { slots: self.clone(), id, open })))
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
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

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Open>>> {
        // Nothing that holds the lock can leave the map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Says whose connection it is. `false` means that this client has a quarter of all places and
    /// none of its connections idles: this one must be closed.
    #[must_use]
    pub(super) fn identify(&self, client: Fingerprint) -> bool {
        let Place { slots, open, .. } = &*self.0;
        let mut connections = slots.lock();
        let same = |open: &Open| open.client.get() == Some(&client);
        let share = (slots.capacity / 4).max(1);
        let full = connections.values().filter(|open| same(open)).count() >= share;
        if full && evict(&mut connections, same).is_none() {
            return false;
        }
        open.state.store(slots.tick(), Ordering::Relaxed);
        open.client.set(client).is_ok()
    }

    /// A request begins.
    pub(super) fn begin(&self) -> InFlight {
        self.0.open.state.store(BUSY, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Waits until the connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.0.open.evicted.notified().await;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Place { slots, open, .. } = &*self.0.0;
        open.state.store(slots.tick(), Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.slots.lock();
        connections.remove(&self.id);
        if connections.is_empty() {
            self.slots.emptied.notify_waiters();
        }
    }
}

/// Puts out the connection that waits longest, of those that may be chosen.
fn evict(connections: &mut BTreeMap<u64, Arc<Open>>, may_go: impl Fn(&Open) -> bool) -> Option<()> {
    let (id, _) = connections
        .iter()
        .map(|(id, open)| (*id, open.state.load(Ordering::Relaxed), open))
        .filter(|(_, state, open)| *state != BUSY && may_go(open))
        .map(|(id, state, _)| (id, state))
        .min_by_key(|(id, state)| (*state, *id))?;
    // The permit of `notify_one` is kept if the connection does not listen yet.
    connections.remove(&id)?.evicted.notify_one();
    Some(())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_full_house_puts_out_the_oldest_handshake_first() {
        let slots = Slots::new(3);
        let idle = slots.take().unwrap();
        assert!(idle.identify([1; 32]));
        let silent = [slots.take().unwrap(), slots.take().unwrap()];
        let newcomer = slots.take().unwrap();
        assert!(evicted(&silent[0]));
        assert!(!evicted(&silent[1]) && !evicted(&idle) && !evicted(&newcomer));
        assert_eq!(slots.len(), 3);
    }

    #[test]
    fn a_full_house_puts_out_the_longest_idle_and_never_one_at_work() {
        let slots = Slots::new(2);
        let (first, second) = (slots.take().unwrap(), slots.take().unwrap());
        assert!(first.identify([1; 32]) && second.identify([2; 32]));
        drop(first.begin());
        let third = slots.take().unwrap();
        assert!(evicted(&second) && !evicted(&first), "first has worked since");
        let _work = (first.begin(), third.begin());
        assert!(slots.take().is_none());
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
