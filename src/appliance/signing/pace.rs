use std::time::Duration;

use tokio::time::Instant;

/// How fast a token signs, measured while it does.
#[derive(Debug)]
pub(super) struct Pace {
    /// How many signatures the token makes at once.
    sessions: usize,
    /// What one signature occupies a session for, in seconds; smoothed.
    signature: Option<f64>,
    /// How long sessions were busy since the last answer, in seconds, summed over them.
    busy: f64,
    /// Up to when that is known.
    since: Instant,
}

impl Pace {
    pub(super) fn new(sessions: usize, now: Instant) -> Self {
        Self { sessions: sessions.max(1), signature: None, busy: 0.0, since: now }
    }

    /// Up to now, so many jobs were at the token.
    pub(super) fn passed(&mut self, in_flight: usize, now: Instant) {
        let occupied = in_flight.min(self.sessions);
        let elapsed = now.saturating_duration_since(self.since);
        self.busy += elapsed.as_secs_f64() * as_f64(occupied);
        self.since = now;
    }

    /// So many of them were answered now.
    pub(super) fn answered(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let sample = self.busy / as_f64(count);
        let weight = (as_f64(count) / MEMORY).min(1.0);
        let smoothed = self.signature.map(|known| known + (sample - known) * weight);
        self.signature = Some(smoothed.unwrap_or(sample));
        self.busy = 0.0;
    }

    /// Signatures a second, with all sessions busy; `None` before the first.
    pub(super) fn rate(&self) -> Option<f64> {
        self.signature.map(|signature| as_f64(self.sessions) / signature.max(SHORTEST))
    }

    /// How many jobs to have at the token: for each session the one that is signed, one behind it,
    /// and as many more as are signed before another message reaches the worker.
    pub(super) fn in_flight(&self) -> usize {
        let behind = self.signature.map_or(1.0, |one| AHEAD.as_secs_f64() / one.max(SHORTEST));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between two small positive numbers"
        )]
        let behind = behind.ceil().clamp(1.0, as_f64(MOST_BEHIND)) as usize;
        self.sessions * (1 + behind)
    }

    /// Whether to send more when so many are at the token. A slow one gets each job when there is
    /// room for it; a fast one, when it has worked off half, many in one message.
    pub(super) fn wants_more(&self, in_flight: usize) -> bool {
        in_flight < (2 * self.sessions).max(self.in_flight() / 2 + 1)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs are far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// A signature counts for about as many answers.
const MEMORY: f64 = 32.0;

/// No token signs faster, in seconds.
const SHORTEST: f64 = 1e-6;

/// So much work lies ready behind the signature that is being made.
const AHEAD: Duration = Duration::from_millis(4);

/// The most jobs that do, for each session.
const MOST_BEHIND: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_flight_is_what_the_token_serves_at_once_and_little_more() {
        //           sessions, one signature, in flight, signatures a second
        let table = [
            (1, Duration::from_millis(70), 2, 14.3),
            (8, Duration::from_millis(10), 16, 800.0),
            (2, Duration::from_millis(1), 10, 2_000.0),
            (2, Duration::from_micros(100), 82, 20_000.0),
            (2, Duration::from_micros(10), 128, 200_000.0),
        ];
        for (sessions, signature, in_flight, rate) in table {
            let mut now = Instant::now();
            let mut pace = Pace::new(sessions, now);
            assert_eq!((pace.in_flight(), pace.rate()), (2 * sessions, None));
            for _ in 0..100 {
                now += signature;
                pace.passed(2 * sessions, now);
                pace.answered(sessions);
            }
            assert_eq!(pace.in_flight(), in_flight, "{signature:?}");
            assert!((pace.rate().unwrap() / rate - 1.0).abs() < 0.01, "{:?}", pace.rate());
            assert!(pace.wants_more(2 * sessions - 1), "none is ever without the next one");
            assert!(!pace.wants_more(in_flight));
            let refill = (0..).find(|jobs| !pace.wants_more(*jobs)).unwrap();
            assert!(refill == in_flight || refill == in_flight / 2 + 1, "{refill}");
        }
    }

    #[test]
    fn an_idle_session_is_not_taken_for_a_slow_one() {
        let mut now = Instant::now();
        let mut pace = Pace::new(8, now);
        for _ in 0..200 {
            now += Duration::from_millis(990);
            pace.passed(0, now);
            now += Duration::from_millis(10);
            pace.passed(1, now);
            pace.answered(1);
        }
        assert!((pace.rate().unwrap() - 800.0).abs() < 1.0, "{:?}", pace.rate());
    }

    #[test]
    fn a_token_that_becomes_slow_is_noticed_within_a_few_answers() {
        let mut now = Instant::now();
        let mut pace = Pace::new(1, now);
        for millis in [1; 100].into_iter().chain([100; 64]) {
            now += Duration::from_millis(millis);
            pace.passed(1, now);
            pace.answered(1);
        }
        assert!((9.0..13.0).contains(&pace.rate().unwrap()), "{:?}", pace.rate());
    }
}
