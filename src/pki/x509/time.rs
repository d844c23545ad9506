//! Times of certificates: whole seconds, UTC.

use std::time::Duration;

use der::{DateTime, ErrorKind};
use jiff::Timestamp;
use x509_cert::time::Time;

/// A time as RFC 5280 section 4.1.2.5 writes it: UTCTime through 2049, GeneralizedTime after.
/// Fractions of a second are dropped.
///
/// # Errors
///
/// The time is before 1970.
pub(super) fn encode(time: Timestamp) -> der::Result<Time> {
    let seconds = u64::try_from(time.as_second()).map_err(|_| ErrorKind::DateTime)?;
    Ok(DateTime::from_unix_duration(Duration::from_secs(seconds))?.into())
}

/// The reverse; `None` beyond what a [`Timestamp`] holds (99991231235959Z, "no expiry").
pub(super) fn decode(time: &Time) -> Option<Timestamp> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok()?;
    Timestamp::from_second(seconds).ok()
}

/// The reverse, with the last [`Timestamp`] for "no expiry".
pub(super) fn clamped(time: &Time) -> Timestamp {
    decode(time).unwrap_or(Timestamp::MAX)
}
