//! Security identifiers: as LDAP gives them (MS-DTYP 2.4.2.2), as text (2.4.2.1), as patterns.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A security identifier of whatever it be: `S-1-5-32-544`, `S-1-5-21-1-2-3-512`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AnySid {
    authority: u64,
    parts: Vec<u32>,
}

impl AnySid {
    /// Reads the value of `objectSid` or `tokenGroups`: revision, number of parts, authority (six
    /// bytes, big endian), parts (four bytes each, little endian), and nothing more.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn from_ldap(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, rest) = bytes.split_at_checked(8).ok_or("it is shorter than eight bytes")?;
        let &[revision, count, a, b, c, d, e, f] = head else { return Err("it has no head") };
        if revision != 1 {
            return Err("its revision is not 1");
        }
        if !(1..=MOST_PARTS).contains(&usize::from(count)) {
            return Err("it has not 1 to 15 parts");
        }
        let (parts, left) = rest.as_chunks::<4>();
        if parts.len() != usize::from(count) || !left.is_empty() {
            return Err("its length is not that of its parts");
        }
        let authority = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        if authority > u64::from(u32::MAX) {
            return Err("its authority has more than 32 bits");
        }
        Ok(Self { authority, parts: parts.iter().copied().map(u32::from_le_bytes).collect() })
    }

    /// A group that each domain controller has: `S-1-5-32-RID`.
    pub fn built_in(rid: u32) -> Self {
        Self { authority: NT, parts: vec![BUILT_IN, rid] }
    }
}

impl fmt::Display for AnySid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S-1-{}", self.authority)?;
        self.parts.iter().try_for_each(|part| write!(f, "-{part}"))
    }
}

impl FromStr for AnySid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is no SID; write S-1-5-32-544 or S-1-5-21-1-2-3-512");
        let mut numbers = text.strip_prefix("S-1-").ok_or_else(form)?.split('-').map(number);
        let authority = numbers.next().flatten().ok_or_else(form)?;
        let parts = numbers.collect::<Option<Vec<_>>>().ok_or_else(form)?;
        if !(1..=MOST_PARTS).contains(&parts.len()) {
            return Err(form());
        }
        Ok(Self { authority: authority.into(), parts })
    }
}

impl TryFrom<String> for AnySid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AnySid> for String {
    fn from(sid: AnySid) -> Self {
        sid.to_string()
    }
}

/// One group, or the group of a number in whatever domain: `S-1-5-21-*-512`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum SidPattern {
    /// The group with this relative identifier of any domain: well-known ones have the same in
    /// each, and some are in the root domain of a forest only.
    InAnyDomain(u32),
    /// This one.
    Exact(AnySid),
}

impl SidPattern {
    /// Whether it is this group.
    pub fn matches(&self, sid: &AnySid) -> bool {
        match self {
            Self::InAnyDomain(wanted) => {
                matches!((sid.authority, &*sid.parts), (NT, [DOMAIN, _, _, _, rid]) if rid == wanted)
            }
            Self::Exact(exact) => exact == sid,
        }
    }
}

impl TryFrom<String> for SidPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("S-1-5-21-*-").map(number) {
            Some(Some(rid)) => Ok(Self::InAnyDomain(rid)),
            Some(None) => Err(format!("{text:?} is no SID; write S-1-5-21-*-512")),
            None => text.parse().map(Self::Exact),
        }
    }
}

/// A decimal number in its one form.
fn number(text: &str) -> Option<u32> {
    let parsed: u32 = text.parse().ok()?;
    (parsed.to_string() == text).then_some(parsed)
}

/// The most parts of a SID (MS-DTYP 2.4.2.2).
const MOST_PARTS: usize = 15;

/// The authority of Windows, and its parts for what domains have and for what is built in.
const NT: u64 = 5;
const DOMAIN: u32 = 21;
const BUILT_IN: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "010500000000000515000000010000000200000003000000 50040000";

    #[test]
    fn what_ldap_gives_is_one_sid_or_none() {
        for (bytes, expected) in [
            (ALICE, Ok("S-1-5-21-1-2-3-1104")),
            ("01020000000000052000000020020000", Ok("S-1-5-32-544")),
            ("0101000000000005 0b000000", Ok("S-1-5-11")),
            (
                "0105000000000005 15000000 ffffffff 0000 0080 01000000 f4010000",
                Ok("S-1-5-21-4294967295-2147483648-1-500"),
            ),
            ("0101 0000ffffffff 00000000", Ok("S-1-4294967295-0")),
            ("", Err("shorter")),
            ("01", Err("shorter")),
            ("0100000000000005", Err("1 to 15")),
            ("0110000000000005", Err("1 to 15")),
            ("02010000000000050b000000", Err("revision")),
            ("00010000000000050b000000", Err("revision")),
            ("01010001000000050b000000", Err("32 bits")),
            ("01010000000000050b0000", Err("length")),
            ("01010000000000050b00000000", Err("length")),
            ("01020000000000050b000000", Err("length")),
            ("0101000000000005 0b000000 0b000000", Err("length")),
        ] {
            let read = AnySid::from_ldap(&hex::decode(bytes.replace(' ', "")).unwrap());
            match (read, expected) {
                (Ok(sid), Ok(text)) => {
                    assert_eq!(sid.to_string(), text, "{bytes}");
                    assert_eq!(text.parse::<AnySid>().unwrap(), sid, "{bytes}");
                }
                (Err(why), Err(words)) => assert!(why.contains(words), "{bytes}: {why}"),
                (read, _) => panic!("{bytes}: {read:?}"),
            }
        }
        // Each part of the one of alice, cut anywhere, is none.
        let whole = hex::decode(ALICE.replace(' ', "")).unwrap();
        for length in 0..whole.len() {
            assert!(AnySid::from_ldap(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn texts_have_one_form() {
        for text in ["S-1-5-32-544", "S-1-5-21-1-2-3-512", "S-1-0-0", "S-1-5-18"] {
            assert_eq!(text.parse::<AnySid>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "S-1-5",
            "S-2-5-18",
            "s-1-5-18",
            "S-1-5-",
            "S-1-5-018",
            "S-1-5-+18",
            "S-1-5-18 ",
            "S-1-5-4294967296",
            "S-1-5--18",
            "S-1-0x5-18",
            "S-1-5-21-*-512",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
        ] {
            assert!(text.parse::<AnySid>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_the_groups_of_domains_and_no_other() {
        for (pattern, sid, wanted) in [
            ("S-1-5-21-*-512", "S-1-5-21-1-2-3-512", true),
            ("S-1-5-21-*-512", "S-1-5-21-7-8-9-512", true),
            ("S-1-5-21-*-512", "S-1-5-21-1-2-3-513", false),
            ("S-1-5-21-*-512", "S-1-5-21-1-2-512", false),
            ("S-1-5-21-*-512", "S-1-5-21-1-2-3-4-512", false),
            ("S-1-5-21-*-544", "S-1-5-32-544", false),
            ("S-1-5-32-544", "S-1-5-32-544", true),
            ("S-1-5-32-544", "S-1-5-32-545", false),
            ("S-1-5-21-1-2-3-512", "S-1-5-21-1-2-3-512", true),
            ("S-1-5-21-1-2-3-512", "S-1-5-21-1-2-4-512", false),
        ] {
            let parsed = SidPattern::try_from(pattern.to_owned()).unwrap();
            assert_eq!(parsed.matches(&sid.parse().unwrap()), wanted, "{pattern} on {sid}");
        }
        for text in ["S-1-5-21-*-", "S-1-5-21-*-0512", "S-1-5-*-512", "*", "512", "S-1-5-21-*-*"] {
            assert!(SidPattern::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
