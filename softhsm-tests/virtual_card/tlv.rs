//! BER-TLV with tags of one byte, as PIV and DER have it.

use super::Status;

/// An element.
pub(super) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    match value.len() {
        length @ 0..0x80 => element.push(length as u8),
        length @ 0x80..0x100 => element.extend([0x81, length as u8]),
        length => element.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    element.extend_from_slice(value);
    element
}

/// The first element, as tag and value, and what follows it.
pub(super) fn take(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Status> {
    let (tag, length, rest) = match *bytes {
        [tag, length @ 0..=0x7f, ref rest @ ..] => (tag, usize::from(length), rest),
        [tag, 0x81, length, ref rest @ ..] => (tag, usize::from(length), rest),
        [tag, 0x82, high, low, ref rest @ ..] => {
            (tag, usize::from(u16::from_be_bytes([high, low])), rest)
        }
        _ => return Err(Status::WRONG_DATA),
    };
    let (value, rest) = rest.split_at_checked(length).ok_or(Status::WRONG_DATA)?;
    Ok((tag, value, rest))
}

/// The value of the first element with this tag.
pub(super) fn find(mut bytes: &[u8], tag: u8) -> Option<&[u8]> {
    while let Ok((found, value, rest)) = take(bytes) {
        if found == tag {
            return Some(value);
        }
        bytes = rest;
    }
    None
}
