//! Logins and their ends, on their way to the appliance.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use api::{Login, LoginReport};
use tokio::sync::Notify;

/// What is still to be told, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Reports {
    queue: Mutex<Queue>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    logins: VecDeque<Login>,
    /// How many were given up, for want of room.
    lost: u64,
}

impl Reports {
    /// Adds one; the oldest goes when there are too many.
    pub(super) fn add(&self, login: Login) {
        let mut queue = self.queue();
        if queue.logins.len() == CAPACITY {
            queue.logins.pop_front();
            queue.lost += 1;
        }
        queue.logins.push_back(login);
        drop(queue);
        self.more.notify_one();
    }

    /// Waits until there is something, and copies the oldest of it.
    pub(super) async fn next(&self) -> LoginReport {
        loop {
            let logins: Vec<_> = self.queue().logins.iter().take(AT_ONCE).cloned().collect();
            if !logins.is_empty() {
                return LoginReport { logins };
            }
            self.more.notified().await;
        }
    }

    /// Forgets what was told; gives how many were lost since the last time.
    pub(super) fn told(&self, report: &LoginReport) -> u64 {
        let mut queue = self.queue();
        for login in &report.logins {
            // What was given up meanwhile is not there any more.
            if queue.logins.front() == Some(login) {
                queue.logins.pop_front();
            }
        }
        std::mem::take(&mut queue.lost)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some megabytes: a day and more of a busy host.
const CAPACITY: usize = 20_000;

/// As many as one report may have.
const AT_ONCE: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn login(number: usize) -> Login {
        Login {
            connection: number.to_string(),
            issuer: "users".to_owned(),
            serial: 1,
            user: "root".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
            ended: false,
        }
    }

    #[tokio::test]
    async fn the_oldest_go_when_there_are_too_many_and_what_is_told_is_not_told_again() {
        let reports = Reports::default();
        for number in 0..CAPACITY {
            reports.add(login(number));
        }
        let report = reports.next().await;
        assert_eq!(report.logins.len(), AT_ONCE);
        reports.add(login(CAPACITY));
        assert_eq!(reports.told(&report), 1);
        // The first of the report was lost while it was told; the rest is not there any more.
        assert_eq!(reports.next().await.logins[0], login(AT_ONCE));
    }
}
