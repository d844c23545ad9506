use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::wire::Job;

/// The jobs that wait for a session.
pub(super) struct Queue {
    sessions: usize,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(sessions: usize) -> Self {
        Self { sessions: sessions.max(1), waiting: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn add(&self, jobs: Vec<Job>) {
        let many = jobs.len() > 1;
        self.lock().jobs.extend(jobs);
        if many { self.changed.notify_all() } else { self.changed.notify_one() }
    }

    /// The next job, when there is one. `None` at the end.
    pub(super) fn take(&self) -> Option<Job> {
        let idle = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.closed;
        let mut waiting =
            self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if waiting.closed { None } else { waiting.jobs.pop_front() }
    }

    /// The next job, if there is one already and another session would not be idle without it.
    pub(super) fn try_take(&self) -> Option<Job> {
        let mut waiting = self.lock();
        if waiting.closed || waiting.jobs.len() < self.sessions {
            None
        } else {
            waiting.jobs.pop_front()
        }
    }

    /// Drops what waits: nobody is there to be answered.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
