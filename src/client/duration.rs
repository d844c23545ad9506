//! Lengths of time, as people write them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// As [`duration`], in seconds.
///
/// # Errors
///
/// The text is something else: what to write.
pub fn seconds(text: &str) -> Result<u32, String> {
    u32::try_from(duration(text)?.as_secs()).map_err(|_| "it is too long".to_owned())
}

/// Whole seconds, at least one; a day is 24 hours.
///
/// # Errors
///
/// The text is something else: what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: Span =
        text.parse().map_err(|_| "write it as 90s, 15m, 8h, 1h30m or 7d".to_owned())?;
    let duration =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    if duration.as_secs() < 1 || duration.subsec_nanos() != 0 {
        return Err("it must be whole seconds, at least one".to_owned());
    }
    Duration::try_from(duration).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations() {
        for (text, seconds) in [("90s", 90), ("8h", 28_800), ("1h30m", 5_400), ("7d", 604_800)] {
            assert_eq!(super::seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "8", "0s", "-1h", "1.5s", "1 month", "200y", "9999999h"] {
            assert!(super::seconds(text).is_err(), "{text}");
        }
    }
}
