//! BER-TLV as PIV has it: tags of one byte, lengths of up to three.

use thiserror::Error;

/// Data on a card is not of its form. Cards are written by many programs, so this is an answer,
/// not an accident.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("malformed: {0}")]
pub struct Malformed(pub(crate) String);

impl Malformed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// An element.
pub(crate) fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut element = vec![tag];
    match length {
        [0, low @ 0..=0x7f] => element.push(low),
        [0, low] => element.extend([0x81, low]),
        [high, low] => element.extend([0x82, high, low]),
    }
    element.extend_from_slice(value);
    element
}

/// The first element, as tag and value, and what follows it.
pub(crate) fn take(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Malformed> {
    let (tag, length, rest) = match *bytes {
        [tag, length @ 0..=0x7f, ref rest @ ..] => (tag, usize::from(length), rest),
        [tag, 0x81, length, ref rest @ ..] => (tag, usize::from(length), rest),
        [tag, 0x82, high, low, ref rest @ ..] => {
            (tag, usize::from(u16::from_be_bytes([high, low])), rest)
        }
        _ => return Err(Malformed::new("an element ends before its length does")),
    };
    let (value, rest) = rest.split_at_checked(length).ok_or_else(|| {
        Malformed::new(format!(
            "the element {tag:02x} has a length of {length} bytes, and {} are there",
            rest.len()
        ))
    })?;
    Ok((tag, value, rest))
}

/// The only element, which must have this tag.
pub(crate) fn only(bytes: &[u8], tag: u8) -> Result<&[u8], Malformed> {
    match take(bytes)? {
        (found, value, []) if found == tag => Ok(value),
        (found, ..) if found != tag => {
            Err(Malformed::new(format!("the element {found:02x} where {tag:02x} must be")))
        }
        _ => Err(Malformed::new(format!("bytes after the element {tag:02x}"))),
    }
}

/// Elements in a row; of several with one tag, the first counts.
pub(crate) struct Elements<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Elements<'a> {
    pub(crate) fn read(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut elements = Vec::new();
        while !bytes.is_empty() {
            let (tag, value, rest) = take(bytes)?;
            elements.push((tag, value));
            bytes = rest;
        }
        Ok(Self(elements))
    }

    pub(crate) fn find(&self, tag: u8) -> Option<&'a [u8]> {
        self.0.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value)
    }

    pub(crate) fn need(&self, tag: u8) -> Result<&'a [u8], Malformed> {
        self.find(tag).ok_or_else(|| Malformed::new(format!("there is no element {tag:02x}")))
    }

    /// An element of so many bytes.
    pub(crate) fn need_array<const N: usize>(&self, tag: u8) -> Result<[u8; N], Malformed> {
        let value = self.need(tag)?;
        value.try_into().map_err(|_| {
            let length = value.len();
            Malformed::new(format!("the element {tag:02x} has {length} bytes instead of {N}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_at_every_form_of_length() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 3_000] {
            let value = vec![7; length];
            assert_eq!(only(&element(0x53, &value), 0x53).unwrap(), value);
        }
    }

    #[test]
    fn what_is_cut_anywhere_is_malformed() {
        let whole = element(0x53, &element(0x70, &[7; 300]));
        assert!(only(&whole, 0x70).is_err());
        for length in 0..whole.len() {
            assert!(only(&whole[..length], 0x53).is_err(), "{length}");
        }
        let with_more = [whole.as_slice(), &[0]].concat();
        assert!(only(&with_more, 0x53).is_err());
        // Indefinite lengths and those of more than 65,535 bytes are not PIV's.
        assert!(take(&[0x53, 0x80, 0, 0]).is_err());
        assert!(take(&[0x53, 0x83, 0, 0, 1, 7]).is_err());
    }
}
