//! Commands to a card and its answers (ISO 7816-4).

use std::fmt;

use zeroize::Zeroizing;

/// A command, of whatever length: it is sent in as many parts as it takes. Its data may be a PIN,
/// so it has no `Debug`.
pub(crate) struct Command {
    pub(crate) instruction: u8,
    pub(crate) parameters: [u8; 2],
    pub(crate) data: Zeroizing<Vec<u8>>,
}

impl Command {
    pub(crate) fn new(instruction: u8, parameters: [u8; 2], data: impl Into<Vec<u8>>) -> Self {
        Self { instruction, parameters, data: Zeroizing::new(data.into()) }
    }

    /// The APDUs that make up the command: short ones, since some cards and readers know no
    /// others, chained by CLA (section 5.3.3).
    pub(crate) fn parts(&self) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
        let mut parts: Vec<&[u8]> = self.data.chunks(LONGEST_PART).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let last = parts.len() - 1;
        let [p1, p2] = self.parameters;
        parts.into_iter().enumerate().map(move |(number, data)| {
            let class = if number < last { MORE_FOLLOWS } else { 0 };
            // With its whole size from the start: a vector that grows leaves copies behind.
            let mut apdu = Zeroizing::new(Vec::with_capacity(HEADER + LONGEST_PART + 1));
            apdu.extend([class, self.instruction, p1, p2]);
            if !data.is_empty() {
                apdu.push(u8::try_from(data.len()).unwrap_or(u8::MAX));
                apdu.extend_from_slice(data);
            }
            if number == last {
                // Le: all that there is.
                apdu.push(0);
            }
            apdu
        })
    }

    /// Asks for the rest of an answer.
    pub(crate) fn get_response(length: u8) -> [u8; 5] {
        [0, GET_RESPONSE, 0, 0, length]
    }
}

/// SW1 and SW2, with which every answer ends.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Status(pub u16);

impl Status {
    pub(crate) const SUCCESS: Self = Self(0x9000);
    pub(crate) const BLOCKED: Self = Self(0x6983);
    pub(crate) const NOT_FOUND: Self = Self(0x6a82);
    pub(crate) const NO_SUCH_KEY: Self = Self(0x6a88);

    /// So many bytes more are there (61xx); 0 stands for 256 or more.
    pub(crate) fn more(self) -> Option<u8> {
        let [first, second] = self.0.to_be_bytes();
        (first == 0x61).then_some(second)
    }

    /// A wrong PIN or PUK, and so many tries are left (63Cx).
    pub(crate) fn tries_left(self) -> Option<u8> {
        match self.0 {
            0x63c0..=0x63cf => Some((self.0 & 0x0f) as u8),
            _ if self == Self::BLOCKED => Some(0),
            _ => None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.0 {
            0x6700 => "wrong length",
            0x6982 => "security condition not satisfied",
            0x6983 => "blocked",
            0x6985 => "conditions of use not satisfied",
            0x6a80 => "wrong data",
            0x6a81 => "function not supported",
            0x6a82 => "not found",
            0x6a84 => "not enough memory",
            0x6a86 => "wrong parameters",
            0x6a88 => "key not found",
            0x6d00 => "unknown command",
            _ => "",
        };
        write!(f, "{:04X}", self.0)?;
        if meaning.is_empty() { Ok(()) } else { write!(f, ", {meaning}") }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}", self.0)
    }
}

const HEADER: usize = 5;
const LONGEST_PART: usize = 255;
const MORE_FOLLOWS: u8 = 0x10;
const GET_RESPONSE: u8 = 0xc0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_sent_in_chained_parts() {
        let parts: Vec<_> = Command::new(0xdb, [0x3f, 0xff], vec![7; 600]).parts().collect();
        let heads: Vec<_> = parts.iter().map(|part| (part[0], part[4], part.len())).collect();
        assert_eq!(heads, [(0x10, 255, 260), (0x10, 255, 260), (0, 90, 96)]);
        let empty: Vec<_> = Command::new(0xfd, [0, 0], []).parts().collect();
        assert_eq!(*empty[0], [0, 0xfd, 0, 0, 0]);
    }

    #[test]
    fn a_status_says_what_it_means() {
        assert_eq!(Status(0x63c2).tries_left(), Some(2));
        assert_eq!(Status::BLOCKED.tries_left(), Some(0));
        assert_eq!(Status::SUCCESS.tries_left(), None);
        assert_eq!(Status(0x6a84).to_string(), "6A84, not enough memory");
    }
}
