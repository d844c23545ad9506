//! When certificates are valid, and when in their lives they are renewed.

use der::DecodePem as _;
use jiff::{SignedDuration, Timestamp};

/// From when to when something is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Life {
    /// The first moment.
    pub(crate) not_before: Timestamp,
    /// The last.
    pub(crate) not_after: Timestamp,
}

impl Life {
    /// That of a certificate in PEM, the first if there are more.
    pub(crate) fn of_certificate(pem: &str) -> Result<Self, String> {
        let start = pem.find("-----BEGIN CERTIFICATE-----");
        let first = start.and_then(|start| pem[start..].split_inclusive(PEM_END).next());
        let first = first.ok_or("there is no certificate in it")?;
        let certificate =
            x509_cert::Certificate::from_pem(first).map_err(|error| error.to_string())?;
        let validity = certificate.tbs_certificate().validity();
        let time = |time: x509_cert::time::Time| {
            let since_epoch = SignedDuration::try_from(time.to_unix_duration());
            since_epoch.ok().and_then(|it| Timestamp::from_duration(it).ok())
        };
        match (time(validity.not_before), time(validity.not_after)) {
            (Some(not_before), Some(not_after)) => Ok(Self { not_before, not_after }),
            _ => Err("its validity is out of range".to_owned()),
        }
    }

    /// When it is renewed. What was set up together shall not renew together: `chance` moves the
    /// middle of the life by a tenth of its half at most.
    pub(crate) fn middle(&self, chance: u8) -> Timestamp {
        let length = self.not_after.duration_since(self.not_before).as_millis();
        let part = length * (450 + i128::from(chance) * 100 / 255) / 1_000;
        let part = SignedDuration::from_millis(i64::try_from(part).unwrap_or(i64::MAX));
        self.not_before.saturating_add(part).unwrap_or(self.not_after)
    }
}

/// A byte of chance; without any, the middle.
pub(crate) fn chance() -> u8 {
    let mut byte = [128];
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}

const PEM_END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_in_the_middle_and_not_together() {
        let not_before: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let not_after: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let life = Life { not_before, not_after };
        for (chance, due) in [(0, "2026-01-01T04:30:00Z"), (255, "2026-01-01T05:30:00Z")] {
            assert_eq!(life.middle(chance), due.parse().unwrap());
        }
    }
}
