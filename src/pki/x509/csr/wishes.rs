//! What a request asks for besides its key. None of it goes into a certificate unless a role says so;
//! but who asks for more than there is to have is told so.

use const_oid::ObjectIdentifier;
use der::{Decode, Tag, Tagged};
use thiserror::Error;
use x509_cert::ext::{
    Extension,
    pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::GeneralName},
};

use super::super::{extension, oid};
use crate::names::{Sid, Upn};

/// The extensions that a request asks for.
#[derive(Clone, Debug, Default)]
pub struct Wishes(Vec<Extension>);

/// A request for a logon certificate asks for something that such a certificate never has.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Excess {
    /// To be a CA's.
    #[error("it asks for a CA's certificate")]
    Authority,
    /// An extension that is no other's to ask for.
    #[error("it asks for the extension {0}")]
    Extension(ObjectIdentifier),
    /// An extension that cannot be read.
    #[error("it asks for the extension {0}, which cannot be read")]
    Malformed(ObjectIdentifier),
    /// A name besides the user principal name.
    #[error("it asks for {0}, besides the user principal name")]
    Name(String),
    /// To be used for something else than logging on.
    #[error("it asks for the key purpose {0}")]
    Purpose(ObjectIdentifier),
    /// A SID that is not the account's.
    #[error("it asks for a SID that is not the account's")]
    Sid,
    /// A user principal name that is not the account's.
    #[error("it asks for the user principal name {0:?}")]
    Upn(String),
}

impl Excess {
    /// The stable word for programs and the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Authority => "csr-authority",
            Self::Extension(_) => "csr-extension",
            Self::Malformed(_) => "csr-malformed-extension",
            Self::Name(_) => "csr-name",
            Self::Purpose(_) => "csr-key-purpose",
            Self::Sid => "csr-sid",
            Self::Upn(_) => "csr-upn",
        }
    }
}

impl Wishes {
    pub(super) fn new(extensions: Vec<Extension>) -> Self {
        Self(extensions)
    }

    /// The alternative names.
    pub(super) fn alternative_names(&self) -> der::Result<Vec<GeneralName>> {
        let asked = self.0.iter().filter(|it| it.extn_id == oid::SUBJECT_ALTERNATIVE_NAME);
        let names = asked.map(|it| SubjectAltName::from_der(it.extn_value.as_bytes()));
        Ok(names.collect::<der::Result<Vec<_>>>()?.into_iter().flat_map(|names| names.0).collect())
    }

    /// Whether all that is asked for is what a logon certificate of this account has anyway.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn check_logon(&self, upn: &Upn, sid: &Sid) -> Result<(), Excess> {
        let mut upns = 0;
        for asked in &self.0 {
            let name = asked.extn_id;
            let malformed = |_| Excess::Malformed(name);
            let value = asked.extn_value.as_bytes();
            match name {
                oid::BASIC_CONSTRAINTS => {
                    if BasicConstraints::from_der(value).map_err(malformed)?.ca {
                        return Err(Excess::Authority);
                    }
                }
                // What tools of Windows write into their requests; it says nothing of names or purposes.
                oid::CERTIFICATE_TEMPLATE
                | oid::CERTIFICATE_TEMPLATE_NAME
                | oid::SUBJECT_KEY_IDENTIFIER => {}
                oid::EXTENDED_KEY_USAGE => {
                    let usage = ExtendedKeyUsage::from_der(value).map_err(malformed)?;
                    let usual = [oid::CLIENT_AUTH, oid::SMARTCARD_LOGON];
                    if let Some(other) = usage.0.iter().find(|it| !usual.contains(it)) {
                        return Err(Excess::Purpose(*other));
                    }
                }
                oid::KEY_USAGE => {
                    let usage = KeyUsage::from_der(value).map_err(malformed)?;
                    if usage.key_cert_sign() || usage.crl_sign() {
                        return Err(Excess::Authority);
                    }
                }
                oid::NTDS_CA_SECURITY => {
                    let own = extension::security_identifier(sid).map_err(malformed)?;
                    if own.extn_value != asked.extn_value {
                        return Err(Excess::Sid);
                    }
                }
                oid::SUBJECT_ALTERNATIVE_NAME => {
                    for name in SubjectAltName::from_der(value).map_err(malformed)?.0 {
                        check_name(&name, upn)?;
                        upns += 1;
                    }
                }
                other => return Err(Excess::Extension(other)),
            }
        }
        match upns {
            0 | 1 => Ok(()),
            _ => Err(Excess::Name("a second name".to_owned())),
        }
    }
}

/// The name is this user principal name, whatever the case of its domain.
fn check_name(name: &GeneralName, upn: &Upn) -> Result<(), Excess> {
    let GeneralName::OtherName(other) = name else {
        return Err(Excess::Name(match name {
            GeneralName::DnsName(name) => format!("the DNS name {:?}", name.as_str()),
            GeneralName::Rfc822Name(name) => format!("the mail address {:?}", name.as_str()),
            GeneralName::UniformResourceIdentifier(uri) => format!("the URI {:?}", uri.as_str()),
            other => format!("a name with tag {}", other.tag()),
        }));
    };
    if other.type_id != oid::USER_PRINCIPAL_NAME {
        return Err(Excess::Name(format!("a name of type {}", other.type_id)));
    }
    let text = String::from_utf8_lossy(other.value.value()).into_owned();
    let is_own = |asked: Upn| (asked.account(), asked.domain()) == (upn.account(), upn.domain());
    let own = other.value.tag() == Tag::Utf8String && text.parse().is_ok_and(is_own);
    if own { Ok(()) } else { Err(Excess::Upn(text.chars().take(LONGEST).collect())) }
}

/// So much of a foreign name is told.
const LONGEST: usize = 100;
