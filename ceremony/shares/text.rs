//! A share as text: five lines of four groups of four characters, each with two that check it.
//!
//! ```text
//! 1   1M42 0800 7K3Q 9XWE   4F
//! ```
//!
//! The characters are Crockford's: digits and capital letters without I, L, O and U. What is typed may
//! be in small letters, with `o` for 0 and `i` or `l` for 1, and without the number of the line. The check
//! of a line is a CRC of 10 bits over its number and its ten bytes: it finds every wrong character, and
//! every two neighbours that were exchanged, so that a slip is known at the end of the line. Four more
//! bytes check the whole.

use zeroize::Zeroizing;

use super::{Share, ShareError, Terms};
use crate::digest::Digest;

/// How many lines a share has.
pub const LINES: u8 = 5;

/// The 32 characters, by value.
pub(super) const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A line of a share.
pub type Line = Zeroizing<[u8; 10]>;

impl Share {
    /// The lines as they are printed, without their numbers.
    pub fn to_lines(&self) -> Vec<Zeroizing<String>> {
        let bytes = self.to_bytes();
        (1..).zip(bytes.chunks_exact(10)).map(|(number, line)| print(number, line)).collect()
    }

    /// The share of these lines.
    ///
    /// # Errors
    ///
    /// They are not of one share.
    pub fn from_lines(lines: &[Line; LINES as usize]) -> Result<Self, ShareError> {
        let mut bytes = Zeroizing::new([0; 50]);
        for (place, line) in bytes.chunks_exact_mut(10).zip(lines) {
            place.copy_from_slice(&line[..]);
        }
        let (header, rest) = bytes.split_first_chunk::<10>().ok_or(ShareError::Whole)?;
        let (secret, rest) = rest.split_first_chunk::<32>().ok_or(ShareError::Whole)?;
        let (commitment, check) = rest.split_first_chunk::<4>().ok_or(ShareError::Whole)?;
        let (terms, index) = Terms::from_header(*header).ok_or(ShareError::Whole)?;
        let value = Zeroizing::new(*secret);
        let share = Self { terms, index, value, commitment: *commitment };
        if share.checksum() == *check { Ok(share) } else { Err(ShareError::Whole) }
    }

    /// The share of a whole text, one line each, with or without their numbers.
    ///
    /// # Errors
    ///
    /// A line is not as it was printed, and is named; or they are not of one share.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let mut lines: [Line; LINES as usize] = std::array::from_fn(|_| Zeroizing::new([0; 10]));
        let mut typed = text.lines().filter(|line| !line.trim().is_empty());
        for (number, line) in (1..).zip(&mut lines) {
            *line = parse_line(number, typed.next().unwrap_or_default())?;
        }
        if typed.next().is_some() {
            return Err(ShareError::Whole);
        }
        Self::from_lines(&lines)
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Written once: a vector that grows leaves copies of itself behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(50));
        bytes.extend_from_slice(&self.terms.header(self.index));
        bytes.extend_from_slice(&self.value[..]);
        bytes.extend_from_slice(&self.commitment);
        bytes.extend_from_slice(&self.checksum());
        bytes
    }

    fn checksum(&self) -> [u8; 4] {
        let header = self.terms.header(self.index);
        let parts = [&header[..], &self.value[..], &self.commitment];
        let [a, b, c, d, ..] = *Digest::of("chancery-ceremony-share-text-v1", &parts).as_bytes();
        [a, b, c, d]
    }
}

/// The bytes of a line, if it was typed as it is printed; the lines are numbered from 1.
///
/// # Errors
///
/// It was not.
pub fn parse_line(number: u8, typed: &str) -> Result<Line, ShareError> {
    let wrong = ShareError::Line(number);
    let typed = typed.trim();
    let numbered = |rest: &&str| rest.starts_with([' ', '.', ':']);
    let unnumbered = typed.strip_prefix(char::from(b'0' + number)).filter(numbered);
    let characters = unnumbered.unwrap_or(typed);
    let characters = characters.bytes().filter(|c| !b" -.:\t".contains(c));
    let (mut bits, mut count) = (Zeroizing::new(0_u128), 0);
    for character in characters {
        let value = value(character).ok_or(wrong)?;
        *bits = *bits << 5 | u128::from(value);
        count += 1;
        if count > 18 {
            return Err(wrong);
        }
    }
    let mut line = Zeroizing::new([0; 10]);
    line.copy_from_slice(&(*bits >> 10).to_be_bytes()[6..]);
    if count == 18 && (*bits & 0x3ff) as u16 == crc(number, &*line) { Ok(line) } else { Err(wrong) }
}

fn print(number: u8, line: &[u8]) -> Zeroizing<String> {
    let bits = Zeroizing::new(line.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte)));
    let bits = Zeroizing::new(*bits << 10 | u128::from(crc(number, line)));
    let mut text = Zeroizing::new(String::with_capacity(24));
    for at in 0..18 {
        text.push_str(match at {
            0 => "",
            16 => "   ",
            at if at % 4 == 0 => " ",
            _ => "",
        });
        text.push(char::from(ALPHABET[(*bits >> (85 - 5 * at)) as usize & 31]));
    }
    text
}

fn value(character: u8) -> Option<u8> {
    let character = match character.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    ALPHABET.iter().position(|known| *known == character).and_then(|at| at.try_into().ok())
}

/// CRC-10 (ITU-T I.610: x^10 + x^9 + x^5 + x^4 + x + 1) over the number of the line and its bytes.
fn crc(number: u8, line: &[u8]) -> u16 {
    [number].iter().chain(line).fold(0, |crc, byte| {
        (0..8).rev().fold(crc, |crc, bit| {
            let top = crc >> 9 & 1 ^ u16::from(byte >> bit & 1);
            ((crc << 1) & 0x3ff) ^ (top * 0x233)
        })
    })
}
