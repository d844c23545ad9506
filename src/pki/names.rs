//! Names that go into certificates, each parsed once and then known to be right.

mod directory;
mod internet;
mod windows;

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A text is not a name of the kind that it stands for.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{kind} {text:?}: {why}")]
pub struct NameError {
    /// What it should be.
    pub kind: &'static str,
    /// What it is; cut at 64 characters.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub why: &'static str,
}

/// Declares a text type: `FromStr` through `$check`, `Display`, `AsRef<str>`, and serde as text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// What is wrong with a text, if anything: for readers that need no name of their own.
            pub(crate) fn check(text: &str) -> Result<(), &'static str> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match Self::check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(why) => Err(NameError {
                        kind: $kind,
                        text: text.chars().take(64).collect(),
                        why,
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A DNS name in lower case, at most 253 characters, labels of `a-z 0-9 -`; the first label may
    /// be `*` (RFC 5280 section 4.2.1.6, RFC 6125 section 6.4.3).
    DnsName, "DNS name", internet::dns_name
);
name!(
    /// A user principal name `account@domain` (MS-PKCA 3.1.5.2.1): one `@`, a DNS domain in any
    /// case, an account of 1 to 64 letters (of one script), digits and `'.-_!#^~+ `, in NFC, that
    /// neither begins nor ends with a dot or a space.
    Upn, "user principal name", windows::upn
);
name!(
    /// A security identifier of a domain account as text: `S-1-5-21-A-B-C-RID` (MS-DTYP 2.4.2.1).
    /// RIDs below 1000 (built-in accounts, -500 among them) are refused.
    Sid, "SID", windows::sid
);
name!(
    /// A SPIFFE id `spiffe://trust-domain/path` (SPIFFE-ID sections 2.1 to 2.3), at most 2048 bytes.
    SpiffeId, "SPIFFE id", internet::spiffe_id
);
name!(
    /// An SSH principal: 1 to 255 printable ASCII characters without space, comma, `*`, `?` and `!`,
    /// that does not begin with `-` or `#`.
    Principal, "SSH principal", principal
);
name!(
    /// A host pattern of `known_hosts` (PATTERNS in ssh_config(5)): 1 to 255 printable ASCII
    /// characters without space and comma, in which `*` and `?` match; not a negated one (`!`).
    HostPattern, "host pattern", host_pattern
);
name!(
    /// An SSH `source-address` entry: an address or a network in CIDR form without host bits.
    SourceAddress, "source address", internet::source_address
);
name!(
    /// A distinguished name as RFC 4514 text (`CN=Example Root,O=Example,C=DE`, the most specific
    /// part first) of the attributes CN, O, OU, C, ST, L, DC, serialNumber; never empty, one
    /// attribute in each part.
    DistinguishedName, "distinguished name", directory::distinguished_name
);
name!(
    /// An HTTP URL, for CRL distribution points and authority information: `http://host[:port]/path`,
    /// at most 2048 characters.
    HttpUrl, "HTTP URL", internet::http_url
);
name!(
    /// An object identifier in dotted form.
    Oid, "object identifier", directory::oid
);
name!(
    /// A Kerberos realm: upper-case DNS name (RFC 4120 section 6.1).
    Realm, "Kerberos realm", windows::realm
);

impl SpiffeId {
    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        let (domain, _) = self.parts();
        domain
    }

    /// The path, with its leading slash; empty for the trust domain itself.
    pub fn path(&self) -> &str {
        let (_, path) = self.parts();
        path
    }

    fn parts(&self) -> (&str, &str) {
        let rest = self.0.strip_prefix(internet::SPIFFE_SCHEME).unwrap_or_default();
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }
}

impl Upn {
    /// The part before the `@`.
    pub fn account(&self) -> &str {
        self.0.split_once('@').map_or("", |(account, _)| account)
    }

    /// The part after it, in lower case.
    pub fn domain(&self) -> String {
        self.0.split_once('@').map_or_else(String::new, |(_, domain)| domain.to_ascii_lowercase())
    }
}

/// sshd compares principals as text, and splits and matches lists of them by the refused
/// characters (PATTERNS in ssh_config(5); `#` begins a comment in sshd's principals file).
fn principal(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 255 {
        return Err("it has 1 to 255 characters");
    }
    if !text.bytes().all(|c| c.is_ascii_graphic() && !b",*?!".contains(&c)) {
        return Err("only printable ASCII without space, comma, *, ? and ! may stand in it");
    }
    if text.starts_with(['-', '#']) {
        return Err("it cannot begin with - or #");
    }
    Ok(())
}

/// `@` begins a marker, `#` a comment, and `|` a hashed name (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
fn host_pattern(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 255 {
        return Err("it has 1 to 255 characters");
    }
    if !text.bytes().all(|c| c.is_ascii_graphic() && c != b',') {
        return Err("only printable ASCII without space and comma may stand in it");
    }
    if text.starts_with(['!', '@', '#', '|']) {
        return Err("it cannot begin with !, @, # or |");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals() {
        let longest = "a".repeat(255);
        check::<Principal>(
            &["alice", "root", "web1.example", "2001:db8::1", "DOMAIN\\alice", "a@b", &longest],
            &[
                "",
                "a b",
                "a,b",
                "*",
                "host-*",
                "?",
                "!root",
                "-l",
                "#x",
                "a\0",
                "a\n",
                "ä",
                &"a".repeat(256),
            ],
        );
    }

    #[test]
    fn host_patterns() {
        check::<HostPattern>(
            &["*", "*.example", "web?", "10.0.0.*", "[web]:2222"],
            &["", "a b", "a,b", "!web", "@cert-authority", "#web", "|1|a", "a\n", "ä"],
        );
    }

    #[test]
    fn an_error_says_what_was_wrong_and_cuts_long_text() {
        let error = "ä".repeat(300).parse::<Principal>().unwrap_err();
        assert_eq!(error.text, "ä".repeat(64));
        let error = error_in_a_file::<DnsName>("Web.example");
        assert!(error.contains("DNS name \"Web.example\": "), "{error}");
    }

    /// Reads a name through serde, as configuration files do, and gives the error.
    fn error_in_a_file<T: serde::de::DeserializeOwned + fmt::Debug>(text: &str) -> String {
        #[derive(Debug, serde::Deserialize)]
        struct File<T> {
            #[expect(dead_code, reason = "only the error is looked at")]
            name: T,
        }
        toml::from_str::<File<T>>(&format!("name = {text:?}")).unwrap_err().to_string()
    }

    /// Every good text is taken unchanged, and every bad one refused.
    pub(super) fn check<T: FromStr<Err = NameError> + fmt::Display>(good: &[&str], bad: &[&str]) {
        for text in good {
            match text.parse::<T>() {
                Ok(name) => assert_eq!(name.to_string(), *text),
                Err(error) => panic!("refused: {error}"),
            }
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "taken: {text:?}");
        }
    }
}
