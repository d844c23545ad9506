//! Names that go into certificates, each parsed once and then known to be right.

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
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(text) {
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
    /// be `*` (RFC 5280 section 4.2.1.6, RFC 6125).
    DnsName, "DNS name", |_| todo!()
);
name!(
    /// A user principal name `account@domain` (MS-PKCA 3.1.5.2.1): one `@`, a DNS domain, an
    /// account without control characters, NUL, spaces at the ends or non-NFC text.
    Upn, "user principal name", |_| todo!()
);
name!(
    /// A security identifier of a domain account as text: `S-1-5-21-A-B-C-RID` (MS-DTYP 2.4.2.1).
    /// RIDs below 1000 (built-in accounts, -500 among them) are refused.
    Sid, "SID", |_| todo!()
);
name!(
    /// A SPIFFE id `spiffe://trust-domain/path` (SPIFFE-ID sections 2.1 to 2.3), at most 2048 bytes.
    SpiffeId, "SPIFFE id", |_| todo!()
);
name!(
    /// An SSH principal: 1 to 255 printable characters without space, comma, `*`, `?` and `!`.
    Principal, "SSH principal", |_| todo!()
);
name!(
    /// An SSH `source-address` entry: an address or a network in CIDR form.
    SourceAddress, "source address", |_| todo!()
);
name!(
    /// A distinguished name as RFC 4514 text (`CN=Example Root,O=Example,C=DE`) of the attributes
    /// CN, O, OU, C, ST, L, DC, serialNumber; never empty.
    DistinguishedName, "distinguished name", |_| todo!()
);
name!(
    /// An HTTP URL, for CRL distribution points and authority information: `http://host[:port]/path`.
    HttpUrl, "HTTP URL", |_| todo!()
);
name!(
    /// An object identifier in dotted form.
    Oid, "object identifier", |_| todo!()
);
name!(
    /// A Kerberos realm: upper-case DNS name (RFC 4120 section 6.1).
    Realm, "Kerberos realm", |_| todo!()
);

impl SpiffeId {
    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        todo!()
    }

    /// The path, with its leading slash; empty for the trust domain itself.
    pub fn path(&self) -> &str {
        todo!()
    }
}

impl Upn {
    /// The part before the `@`.
    pub fn account(&self) -> &str {
        todo!()
    }

    /// The part after it, in lower case.
    pub fn domain(&self) -> String {
        todo!()
    }
}
