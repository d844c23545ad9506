//! Reads to-be-signed bytes as a stranger would, and refuses what breaks a rule.
//!
//! Nothing here looks at the template: what is signed is what was read.

use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp};

use crate::{
    keys::PublicKey,
    names::{DnsName, Principal, SourceAddress},
    seal::Summary,
    serial::{Serial, SshSerial},
    ssh::{
        CERTIFICATE_SUFFIX, EXTENSIONS, FORCE_COMMAND, ONE_USE, Refused, SOURCE_ADDRESS, TARGETS,
        Usage,
        wire::{Reader, Writer},
    },
};

/// What the bytes say.
pub(super) struct Content<'a> {
    pub(super) usage: Usage,
    /// The type name of the certified key, for example `ssh-ed25519`.
    key_name: &'a str,
    /// The certified key's own fields.
    key_fields: &'a [u8],
    pub(super) serial: SshSerial,
    pub(super) key_id: &'a str,
    pub(super) principals: Vec<&'a str>,
    pub(super) valid_after: Timestamp,
    pub(super) last_second: Timestamp,
    pub(super) one_use: bool,
    pub(super) targets: Vec<&'a str>,
    /// The key of the CA, in its wire form.
    pub(super) signature_key: &'a [u8],
}

impl Content<'_> {
    /// What the ledger keeps; `public_key` is the certified key.
    pub(super) fn summary(&self, public_key: &PublicKey) -> Summary {
        Summary {
            kind: self.usage.kind(),
            serial: Serial::Ssh(self.serial),
            subject: self.key_id.to_owned(),
            names: self.principals.iter().map(|&principal| principal.to_owned()).collect(),
            key_fingerprint: public_key.fingerprint(),
            not_before: self.valid_after,
            not_after: self.last_second,
        }
    }

    /// The certified key.
    ///
    /// # Errors
    ///
    /// Its numbers are no key, for example no point of the curve.
    pub(super) fn public_key(&self) -> Result<PublicKey, Refused> {
        public_key(&key_blob(self.key_name, self.key_fields))
    }
}

/// The key in a wire form.
///
/// # Errors
///
/// It is none that is certified or certifies here.
pub(crate) fn public_key(blob: &[u8]) -> Result<PublicKey, Refused> {
    ssh_key::PublicKey::from_bytes(blob)
        .map_err(|error| error.to_string())
        .and_then(|key| {
            PublicKey::from_ssh_key_data(key.key_data()).map_err(|error| error.to_string())
        })
        // A second form of one key would be another key to a KRL, which knows bytes only.
        .and_then(|key| {
            let canonical = key.openssh_blob() == blob;
            canonical.then_some(key).ok_or_else(|| "not the key's canonical form".to_owned())
        })
        .map_err(|error| Refused::new("key-form", error))
}

/// Reads the bytes that this CA is to sign and holds them against every rule.
///
/// # Errors
///
/// The first rule that they break.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    usage: Usage,
    ca_blob: &[u8],
) -> Result<Content<'a>, Refused> {
    let mut reader = Reader::new(bytes);
    let content = read_from(&mut reader, &[usage])?;
    if content.signature_key != ca_blob {
        return Err(Refused::new("signature-key", "the signature key is another CA's"));
    }
    if !reader.is_empty() {
        return Err(Refused::new("form", "bytes follow the signature key"));
    }
    Ok(content)
}

/// Reads what is signed of a certificate for one of these uses, up to and with the signature key,
/// and holds it against every rule that does not depend on the CA.
///
/// # Errors
///
/// The first rule that it breaks.
pub(super) fn read_from<'a>(
    reader: &mut Reader<'a>,
    usages: &[Usage],
) -> Result<Content<'a>, Refused> {
    let key_name = key_name(field(reader.string())?)?;
    check_nonce(field(reader.string())?)?;
    let key_fields = check_key(key_name, reader)?;
    let serial = SshSerial::new(field(reader.u64())?)
        .ok_or_else(|| Refused::new("serial-not-zero", "serial 0 cannot be revoked by a KRL"))?;
    let usage = usage(field(reader.u32())?, usages)?;
    let key_id = key_id(field(reader.string())?)?;
    let principals = principals(field(reader.string())?)?;
    let (valid_after, last_second) = validity(field(reader.u64())?, field(reader.u64())?)?;
    let critical_options = field(reader.string())?;
    let extensions = field(reader.string())?;
    if usage == Usage::Host && !(critical_options.is_empty() && extensions.is_empty()) {
        return Err(Refused::new("host-options", "host certificates have no options"));
    }
    for_options(critical_options, check_critical_option)?;
    let mut one_use = false;
    let mut targets = Vec::new();
    for_options(extensions, |name, data| {
        if name == ONE_USE.as_bytes() && data.is_empty() {
            one_use = true;
        } else if name == TARGETS.as_bytes() {
            targets = read_targets(data)?;
        } else {
            check_extension(name, data)?;
        }
        Ok(())
    })?;
    if !field(reader.string())?.is_empty() {
        return Err(Refused::new("reserved-empty", "the reserved field is not empty"));
    }
    let signature_key = field(reader.string())?;
    if key_blob(key_name, key_fields) == signature_key {
        return Err(Refused::new("key-of-ca", "a CA never certifies its own key"));
    }
    Ok(Content {
        usage,
        key_name,
        key_fields,
        serial,
        key_id,
        principals,
        valid_after,
        last_second,
        one_use,
        targets,
        signature_key,
    })
}

fn field<T>(value: Option<T>) -> Result<T, Refused> {
    value.ok_or_else(|| Refused::new("form", "a field ends after the bytes do"))
}

/// The plain key type of a certificate type. A certificate of a certificate has no type.
fn key_name(certificate_name: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(certificate_name)
        .ok()
        .and_then(|name| name.strip_suffix(CERTIFICATE_SUFFIX))
        .filter(|name| KEY_NAMES.contains(name))
        .ok_or_else(|| {
            let name = String::from_utf8_lossy(certificate_name);
            Refused::new("key-type", format!("no certificates of type {name:?} are signed"))
        })
}

/// PROTOCOL.certkeys: random bytes against collisions, "typically 16 or 32".
fn check_nonce(nonce: &[u8]) -> Result<(), Refused> {
    match nonce.len() {
        32 => Ok(()),
        length => Err(Refused::new("nonce-length", format!("{length} bytes instead of 32"))),
    }
}

/// Reads the fields between nonce and serial, and gives them as they stand.
fn check_key<'a>(name: &str, reader: &mut Reader<'a>) -> Result<&'a [u8], Refused> {
    let before = reader.rest();
    match name {
        "ssh-ed25519" => check_length(field(reader.string())?, 32)?,
        "ecdsa-sha2-nistp256" => check_point(reader, b"nistp256", 65)?,
        "ecdsa-sha2-nistp384" => check_point(reader, b"nistp384", 97)?,
        _ => check_rsa(reader)?,
    }
    Ok(&before[..before.len() - reader.rest().len()])
}

fn check_point(reader: &mut Reader<'_>, curve: &[u8], length: usize) -> Result<(), Refused> {
    if field(reader.string())? != curve {
        return Err(Refused::new("key-form", "the curve is not that of the key type"));
    }
    let point = field(reader.string())?;
    check_length(point, length)?;
    // SEC 1 section 2.3.3: 04 begins an uncompressed point, the only form of RFC 5656 section 3.1.
    if point[0] != 0x04 {
        return Err(Refused::new("key-form", "the point is not uncompressed"));
    }
    Ok(())
}

fn check_length(bytes: &[u8], length: usize) -> Result<(), Refused> {
    if bytes.len() == length {
        return Ok(());
    }
    Err(Refused::new("key-form", format!("{} bytes instead of {length}", bytes.len())))
}

fn check_rsa(reader: &mut Reader<'_>) -> Result<(), Refused> {
    let not_a_number = || Refused::new("key-form", "not a positive number in its shortest form");
    let exponent = reader.positive_mpint().ok_or_else(not_a_number)?;
    let modulus = reader.positive_mpint().ok_or_else(not_a_number)?;
    let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
    if !(2048..=4096).contains(&bits) {
        return Err(Refused::new("key-size", format!("RSA of {bits} bits, not 2048 to 4096")));
    }
    let even = |number: &[u8]| number.last().is_none_or(|byte| byte & 1 == 0);
    if even(modulus) || even(exponent) || exponent == [1] {
        return Err(Refused::new("key-form", "an even modulus, or an exponent that is even or 1"));
    }
    Ok(())
}

fn usage(found: u32, usages: &[Usage]) -> Result<Usage, Refused> {
    let known = usages.iter().find(|usage| usage.certificate_type() == found);
    known.copied().ok_or_else(|| {
        Refused::new("certificate-type", format!("type {found} where {usages:?} is signed"))
    })
}

fn key_id(bytes: &[u8]) -> Result<&str, Refused> {
    printable(bytes, 1..=256).ok_or_else(|| {
        Refused::new("key-id-printable", "a key id has 1 to 256 printable ASCII characters")
    })
}

/// An empty list would be valid for every user or host (PROTOCOL.certkeys, "As a special case");
/// CVE-2024-7594 was that.
fn principals(bytes: &[u8]) -> Result<Vec<&str>, Refused> {
    let mut principals: Vec<&str> = Vec::with_capacity(4);
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let bytes = field(reader.string())?;
        let principal = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| Principal::check(text).is_ok())
            .ok_or_else(|| {
                let text = String::from_utf8_lossy(bytes);
                Refused::new("principals-valid", format!("{text:?} is no principal"))
            })?;
        if principals.last().is_some_and(|last| *last >= principal) {
            return Err(Refused::new("principals-order", "not in order, or one twice"));
        }
        principals.push(principal);
    }
    // SSHKEY_CERT_MAX_PRINCIPALS of OpenSSH: it cannot read a certificate with more.
    if principals.is_empty() || principals.len() > 256 {
        let what = format!("{} principals; a certificate has 1 to 256", principals.len());
        return Err(Refused::new("principals-count", what));
    }
    Ok(principals)
}

/// The first and the last second. "Forever" (all bits set) is no time.
fn validity(valid_after: u64, valid_before: u64) -> Result<(Timestamp, Timestamp), Refused> {
    let time = |seconds: u64| {
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or_else(|| Refused::new("validity-order", "a time after the year 9999"))
    };
    let (first, end) = (time(valid_after)?, time(valid_before)?);
    if first >= end {
        let what = format!("valid before {end} is not after valid after {first}");
        return Err(Refused::new("validity-order", what));
    }
    Ok((first, end - SignedDuration::from_secs(1)))
}

/// PROTOCOL.certkeys: options are "lexically ordered by name", each once.
fn for_options<'a>(
    bytes: &'a [u8],
    mut check: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let mut reader = Reader::new(bytes);
    let mut last: Option<&[u8]> = None;
    while !reader.is_empty() {
        let name = field(reader.string())?;
        if last.is_some_and(|last| last >= name) {
            return Err(Refused::new("options-order", "not in order, or one twice"));
        }
        check(name, field(reader.string())?)?;
        last = Some(name);
    }
    Ok(())
}

fn check_critical_option(name: &[u8], data: &[u8]) -> Result<(), Refused> {
    if name == FORCE_COMMAND.as_bytes() {
        check_force_command(one_string(data, "force-command-printable")?)
    } else if name == SOURCE_ADDRESS.as_bytes() {
        check_source_addresses(one_string(data, "source-address-valid")?)
    } else {
        let name = String::from_utf8_lossy(name);
        Err(Refused::new("critical-options-known", format!("{name:?} is not known")))
    }
}

/// The data of an option with a value: a string in the string.
fn one_string<'a>(data: &'a [u8], rule: &'static str) -> Result<&'a [u8], Refused> {
    let mut reader = Reader::new(data);
    let string = reader.string().filter(|_| reader.is_empty());
    string.ok_or_else(|| Refused::new(rule, "not one string"))
}

fn check_force_command(command: &[u8]) -> Result<(), Refused> {
    let printable = std::str::from_utf8(command)
        .is_ok_and(|text| !text.trim().is_empty() && !text.chars().any(char::is_control));
    if printable && command.len() <= 4096 {
        return Ok(());
    }
    Err(Refused::new(
        "force-command-printable",
        "a command has 1 to 4096 bytes without control characters",
    ))
}

/// sshd refuses a certificate with a malformed list outright.
fn check_source_addresses(list: &[u8]) -> Result<(), Refused> {
    let valid = std::str::from_utf8(list)
        .is_ok_and(|list| list.split(',').all(|entry| SourceAddress::check(entry).is_ok()));
    if valid {
        return Ok(());
    }
    let list = String::from_utf8_lossy(list);
    Err(Refused::new("source-address-valid", format!("{list:?} is no list of addresses")))
}

fn check_extension(name: &[u8], data: &[u8]) -> Result<(), Refused> {
    if EXTENSIONS.iter().any(|known| known.name().as_bytes() == name) && data.is_empty() {
        return Ok(());
    }
    let name = String::from_utf8_lossy(name);
    Err(Refused::new("extensions-known", format!("{name:?} is not known, or has data")))
}

/// The names of hosts between commas, in their order, each once.
fn read_targets(data: &[u8]) -> Result<Vec<&str>, Refused> {
    let list = one_string(data, "targets-valid")?;
    let names = std::str::from_utf8(list).map(|list| list.split(',').collect::<Vec<_>>());
    names
        .ok()
        .filter(|names| {
            names.len() <= MOST_TARGETS
                && names.iter().all(|name| DnsName::check(name).is_ok() && !name.starts_with('*'))
                && names.is_sorted_by(|a, b| a < b)
        })
        .ok_or_else(|| {
            let list = String::from_utf8_lossy(list);
            Refused::new("targets-valid", format!("{list:?} is no list of 1 to 64 hosts in order"))
        })
}

/// The text, if it is of printable ASCII characters and not blank.
pub(crate) fn printable(bytes: &[u8], length: RangeInclusive<usize>) -> Option<&str> {
    let printable = bytes.iter().all(|c| c.is_ascii_graphic() || *c == b' ');
    let text = std::str::from_utf8(bytes).ok()?;
    (printable && length.contains(&text.len()) && !text.trim().is_empty()).then_some(text)
}

fn key_blob(name: &str, fields: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(4 + name.len() + fields.len());
    writer.string(name.as_bytes());
    writer.raw(fields);
    writer.into_bytes()
}

/// The most hosts that a certificate is held to. sshd reads one into a packet of 256 KiB; so many
/// names of 253 bytes stay far below.
pub const MOST_TARGETS: usize = 64;

const KEY_NAMES: [&str; 4] =
    ["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-ed25519", "ssh-rsa"];
