//! What is between its intent and its release, so that a lock can say: from now on, none.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{policy::Subject, signing::Recall};

/// All that is on its way; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Flights(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    landed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    all: HashMap<u64, (Arc<Subject>, Arc<Recall>)>,
}

/// One that is on its way, until it is dropped.
pub(super) struct Flight {
    flights: Flights,
    number: u64,
}

impl Flights {
    /// Sets out. To be done before the intent is written down: then a lock that the intent did not
    /// see sees the flight.
    pub(super) fn board(&self, subject: Arc<Subject>, recall: Arc<Recall>) -> Flight {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.all.insert(number, (subject, recall));
        drop(state);
        Flight { flights: self.clone(), number }
    }

    /// Recalls what a condition hits, and waits until it has landed: signed and withheld, or never
    /// signed.
    pub(super) async fn ground(&self, hits: impl Fn(&Subject) -> bool) {
        let recalled: Vec<u64> = {
            let state = self.lock();
            let hit = state.all.iter().filter(|(_, (subject, _))| hits(subject));
            hit.map(|(number, (_, recall))| {
                recall.recall();
                *number
            })
            .collect()
        };
        for number in recalled {
            loop {
                let landed = self.0.landed.notified();
                if !self.lock().all.contains_key(&number) {
                    break;
                }
                landed.await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.lock().all.remove(&self.number);
        self.flights.0.landed.notify_waiters();
    }
}
