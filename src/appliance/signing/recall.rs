use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::Notify;

/// Takes back a signature that is not made yet.
///
/// One that waits is never made. One that a token has already is waited for: whoever recalled it
/// then knows that none comes after.
#[derive(Debug, Default)]
pub struct Recall {
    state: AtomicU8,
    told: Notify,
}

/// A token has it.
const TAKEN: u8 = 1;
const RECALLED: u8 = 2;

impl Recall {
    /// Takes it back.
    pub fn recall(&self) {
        self.state.fetch_or(RECALLED, Ordering::AcqRel);
        self.told.notify_one();
    }

    pub(super) fn is_recalled(&self) -> bool {
        self.state.load(Ordering::Acquire) & RECALLED != 0
    }

    /// A token is about to have it; not if it was recalled.
    pub(super) fn take(&self) -> bool {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state & RECALLED == 0).then_some(state | TAKEN)
            })
            .is_ok()
    }

    /// No token has it any more.
    pub(super) fn give_back(&self) {
        self.state.fetch_and(!TAKEN, Ordering::AcqRel);
        self.told.notify_one();
    }

    /// Waits until it is recalled and no token has it. Only one may wait.
    pub(super) async fn withdrawn(self: Arc<Self>) {
        while self.state.load(Ordering::Acquire) != RECALLED {
            self.told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recalled_is_not_taken_and_what_was_taken_is_waited_for() {
        let waits = Recall::default();
        waits.recall();
        assert!(!waits.take());

        let taken = Arc::new(Recall::default());
        assert!(taken.take());
        taken.recall();
        let mut withdrawn = Box::pin(Arc::clone(&taken).withdrawn());
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(withdrawn.as_mut().poll(&mut context).is_pending());
        taken.give_back();
        assert!(withdrawn.as_mut().poll(&mut context).is_ready());
        assert!(!taken.take());
    }
}
