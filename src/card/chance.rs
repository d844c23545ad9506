//! PINs and PUKs that chance makes, and that nobody would guess early.

use pki::secret::Secret;

use crate::{CardError, management_key::random};

/// Eight digits, which every keypad has and every card takes, and which are not weak: for a PIN or a
/// PUK.
///
/// # Errors
///
/// [`CardError::Random`].
pub fn code() -> Result<Secret, CardError> {
    loop {
        let mut digits = String::with_capacity(LENGTH);
        while digits.len() < LENGTH {
            // 250 is the last multiple of ten in a byte: each digit comes as often as each other.
            let byte = random(1)?[0];
            if byte < 250 {
                digits.push(char::from(b'0' + byte % 10));
            }
        }
        let code = Secret::new(digits);
        if !is_weak(code.expose()) {
            return Ok(code);
        }
    }
}

/// What people try first: few digits, repetitions, rows, and days of somebody's life.
fn is_weak(digits: &str) -> bool {
    let digits = digits.as_bytes();
    let mut seen = [false; 256];
    digits.iter().for_each(|&digit| seen[usize::from(digit)] = true);
    let different = seen.iter().filter(|&&seen| seen).count();
    different < 4 || has_row(digits) || repeats(digits) || is_day(digits)
}

/// Four digits in a row that are the same, or that count up or down.
fn has_row(digits: &[u8]) -> bool {
    let step = |pair: &[u8]| i16::from(pair[1]) - i16::from(pair[0]);
    digits.windows(4).any(|four| {
        let first = step(&four[..2]);
        (-1..=1).contains(&first) && four.windows(2).all(|pair| step(pair) == first)
    })
}

/// The second half is the first, forwards or backwards.
fn repeats(digits: &[u8]) -> bool {
    let (first, second) = digits.split_at(digits.len() / 2);
    first == second || first.iter().eq(second.iter().rev())
}

/// A day from 1900 to 2099: DDMMYYYY, MMDDYYYY or YYYYMMDD.
fn is_day(digits: &[u8]) -> bool {
    let number = |range: std::ops::Range<usize>| {
        digits[range].iter().fold(0, |sum, &digit| sum * 10 + u32::from(digit - b'0'))
    };
    let is = |year, month, day| {
        (1900..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
    };
    is(number(4..8), number(2..4), number(0..2))
        || is(number(4..8), number(0..2), number(2..4))
        || is(number(0..4), number(4..6), number(6..8))
}

/// As long as both may be.
const LENGTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pin, Puk};

    #[test]
    fn what_people_try_first_is_weak() {
        for weak in [
            "11111111", "12121212", "11112222", "12345678", "87654321", "90123418", "55559182",
            "83478347", "83477438", "55501234", "24121987", "12241987", "19871224",
        ] {
            assert!(is_weak(weak), "{weak}");
        }
        for strong in ["83621947", "40718263", "24131887", "55512409"] {
            assert!(!is_weak(strong), "{strong}");
        }
    }

    #[test]
    fn chance_makes_what_a_card_takes() {
        let made: Vec<_> = (0..200).map(|_| code().unwrap()).collect();
        for code in &made {
            assert!(!is_weak(code.expose()));
            assert!(!Pin::new(code).unwrap().is_default());
            assert!(!Puk::new(code).unwrap().is_default());
        }
        // Of 200 out of nearly a hundred million, not all are one.
        assert!(made.iter().any(|code| code.expose() != made[0].expose()));
    }
}
