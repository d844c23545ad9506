//! Reads a list back: total, strict, and without help from what wrote it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    Authority, CERT_KEY_ID, CERT_SERIAL_BITMAP, CERT_SERIAL_LIST, CERT_SERIAL_RANGE, CERTIFICATES,
    COMMENT, FINGERPRINT_SHA256, FORMAT_VERSION, KEY_ID_LENGTH, Krl, MAGIC,
    serials::{MOST_BITS, Run, Serials},
};
use crate::ssh::{self, wire::Reader};

/// What is wrong with the bytes.
type Wrong = &'static str;

pub(super) fn krl(bytes: &[u8]) -> Result<Krl, Wrong> {
    let magic = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a KRL does")?;
    let mut reader = Reader::new(magic);
    let (version, generated) = header(&mut reader)?;
    let mut authorities = BTreeMap::new();
    let fingerprints = loop {
        let kind = reader.u8().ok_or("it ends before the section of fingerprints")?;
        let section = reader.string().ok_or(CUT)?;
        match kind {
            CERTIFICATES => certificates(section, &mut authorities)?,
            FINGERPRINT_SHA256 => break fingerprints(section)?,
            _ => return Err("it has a section of another kind"),
        }
    };
    if authorities.is_empty() {
        return Err("it names no CA");
    }
    if !reader.is_empty() {
        return Err("bytes follow the section of fingerprints");
    }
    Ok(Krl { version, generated, authorities, fingerprints })
}

fn header(reader: &mut Reader<'_>) -> Result<(u64, Timestamp), Wrong> {
    if reader.u32().ok_or(CUT)? != FORMAT_VERSION {
        return Err("it is of another version of the format");
    }
    let version = reader.u64().ok_or(CUT)?;
    let generated = reader.u64().ok_or(CUT)?;
    let generated = i64::try_from(generated).map_err(|_| "its time is none")?;
    let generated = Timestamp::from_second(generated).map_err(|_| "its time is none")?;
    if reader.u64().ok_or(CUT)? != 0 || !reader.string().ok_or(CUT)?.is_empty() {
        return Err("its flags or its reserved field are not empty");
    }
    if reader.string().ok_or(CUT)? != COMMENT {
        return Err("its comment says that it is another's");
    }
    Ok((version, generated))
}

/// The CAs stand in the order of their keys, each once.
fn certificates(
    section: &[u8],
    authorities: &mut BTreeMap<Vec<u8>, Authority>,
) -> Result<(), Wrong> {
    let mut reader = Reader::new(section);
    let ca = reader.string().ok_or(CUT)?;
    // An empty key would mean every CA; one that OpenSSH cannot read makes the list broken.
    ssh::read_key(ca).map_err(|_| "a CA's key cannot be read")?;
    if authorities.last_key_value().is_some_and(|(last, _)| last.as_slice() >= ca) {
        return Err("the CAs are not in order, or one stands twice");
    }
    if !reader.string().ok_or(CUT)?.is_empty() {
        return Err("the reserved field of a CA is not empty");
    }
    let mut authority = Authority::default();
    while !reader.is_empty() {
        let kind = reader.u8().ok_or(CUT)?;
        let data = reader.string().ok_or(CUT)?;
        if data.is_empty() {
            return Err("a section is empty");
        }
        if !authority.key_ids.is_empty() {
            return Err("a section follows the key ids of a CA");
        }
        match kind {
            CERT_SERIAL_LIST => list(data, &mut authority.serials)?,
            CERT_SERIAL_RANGE => range(data, &mut authority.serials)?,
            CERT_SERIAL_BITMAP => bitmap(data, &mut authority.serials)?,
            CERT_KEY_ID => authority.key_ids = key_ids(data)?,
            _ => return Err("a CA has a section of another kind"),
        }
    }
    authorities.insert(ca.to_vec(), authority);
    Ok(())
}

fn list(data: &[u8], serials: &mut Serials) -> Result<(), Wrong> {
    let mut reader = Reader::new(data);
    while !reader.is_empty() {
        let serial = reader.u64().ok_or(CUT)?;
        serials.push(Run { first: serial, last: serial }).ok_or(ORDER)?;
    }
    Ok(())
}

fn range(data: &[u8], serials: &mut Serials) -> Result<(), Wrong> {
    let mut reader = Reader::new(data);
    let (first, last) = (reader.u64().ok_or(CUT)?, reader.u64().ok_or(CUT)?);
    if !reader.is_empty() {
        return Err("a range has more than two ends");
    }
    serials.push(Run { first, last }).ok_or(ORDER)
}

fn bitmap(data: &[u8], serials: &mut Serials) -> Result<(), Wrong> {
    let mut reader = Reader::new(data);
    let offset = reader.u64().ok_or(CUT)?;
    let number =
        reader.positive_mpint().ok_or("a bitmap is no positive number in shortest form")?;
    if !reader.is_empty() {
        return Err("bytes follow a bitmap");
    }
    let bits = number.len() * 8 - number.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = u64::try_from(bits).unwrap_or(u64::MAX);
    if bits > MOST_BITS || offset.checked_add(bits - 1).is_none() {
        return Err("a bitmap spans more than 16,000 serial numbers, or goes beyond the last");
    }
    if number.last().is_none_or(|byte| byte & 1 == 0) {
        return Err("a bitmap does not begin with a serial number");
    }
    let bytes = (0..).zip(number.iter().rev());
    for (place, byte) in bytes {
        for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
            let serial = offset + 8 * place + bit;
            serials.push(Run { first: serial, last: serial }).ok_or(ORDER)?;
        }
    }
    Ok(())
}

fn key_ids(data: &[u8]) -> Result<BTreeSet<String>, Wrong> {
    let mut reader = Reader::new(data);
    let mut key_ids = BTreeSet::new();
    while !reader.is_empty() {
        let key_id = ssh::printable(reader.string().ok_or(CUT)?, KEY_ID_LENGTH);
        let key_id = key_id.ok_or("a key id has other than 1 to 256 printable characters")?;
        if key_ids.last().is_some_and(|last: &String| last.as_str() >= key_id) {
            return Err("the key ids are not in order, or one stands twice");
        }
        key_ids.insert(key_id.to_owned());
    }
    Ok(key_ids)
}

fn fingerprints(section: &[u8]) -> Result<BTreeSet<[u8; 32]>, Wrong> {
    let mut reader = Reader::new(section);
    let mut fingerprints = BTreeSet::new();
    while !reader.is_empty() {
        let fingerprint = <[u8; 32]>::try_from(reader.string().ok_or(CUT)?)
            .map_err(|_| "a fingerprint has other than 32 bytes")?;
        if fingerprints.last().is_some_and(|last| *last >= fingerprint) {
            return Err("the fingerprints are not in order, or one stands twice");
        }
        fingerprints.insert(fingerprint);
    }
    Ok(fingerprints)
}

const CUT: Wrong = "a field ends after the bytes do";
const ORDER: Wrong = "the serial numbers are not in ascending order, or one is 0";
