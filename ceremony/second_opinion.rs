//! A second opinion: whatever is to be signed is read by a parser that did not write it, and compared
//! with the plan; before the intent is written, and once more when it is signed.
//!
//! Our own lints and our own encoder may share a mistake. This parser shares no code with them.

use std::fmt::Display;

use pki::{keys::PublicKey, serial::X509Serial};
use thiserror::Error;
use x509_parser::{
    certificate::{TbsCertificate, X509Certificate},
    extensions::ParsedExtension,
    prelude::FromDer,
    x509::X509Version,
};

use crate::{name::Name, steps::sign_certificate::Certificate};

/// What every certificate passes before it is signed, as transcripts name it.
pub const LINTERS: [&str; 2] =
    [concat!("chancery-pki ", env!("CARGO_PKG_VERSION")), "x509-parser 0.18.1"];

/// What a certificate must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// As the plan has it.
    pub planned: &'a Certificate,
    /// The key that it certifies.
    pub key: &'a PublicKey,
    /// Its serial number.
    pub serial: X509Serial,
}

impl Expected<'_> {
    /// Reads a to-be-signed text.
    ///
    /// # Errors
    ///
    /// It says something else, or cannot be read.
    pub fn check_text(&self, der: &[u8]) -> Result<(), OpinionError> {
        let (rest, text) = TbsCertificate::from_der(der).map_err(|error| self.wrong(error))?;
        self.require(rest.is_empty() && text.as_ref() == der, "bytes that belong to nothing")?;
        self.check(&text)
    }

    /// Reads a signed certificate, in which this text must be.
    ///
    /// # Errors
    ///
    /// As [`check_text`](Self::check_text); or it is not of this text.
    pub fn check_certificate(&self, der: &[u8], to_be_signed: &[u8]) -> Result<(), OpinionError> {
        let (rest, read) = X509Certificate::from_der(der).map_err(|error| self.wrong(error))?;
        self.require(rest.is_empty() && read.as_raw() == der, "bytes that belong to nothing")?;
        self.require(read.tbs_certificate.as_ref() == to_be_signed, "another text")?;
        let same = read.signature_algorithm == read.tbs_certificate.signature;
        self.require(same, "two signature algorithms")?;
        self.check(&read.tbs_certificate)
    }

    fn check(&self, text: &TbsCertificate<'_>) -> Result<(), OpinionError> {
        let Certificate { not_before, not_after, kind, subject, .. } = self.planned;
        self.require(text.version == X509Version::V3, "another version than 3")?;
        self.require(text.raw_serial() == self.serial.as_bytes(), "another serial number")?;
        let validity = [text.validity.not_before, text.validity.not_after].map(|it| it.timestamp());
        let planned = [not_before.as_second(), not_after.as_second()];
        self.require(validity == planned, "another validity")?;
        self.require(text.subject_pki.raw == self.key.spki_der(), "another key")?;
        let subject = subject.to_string();
        for attribute in text.subject.iter_attributes() {
            let value = attribute.as_str().map_err(|error| self.wrong(error))?;
            self.require(subject.contains(value), "another subject")?;
        }
        self.require(text.subject.iter_attributes().next().is_some(), "no subject")?;

        // An extension that is there twice would be read once by some, and never by others.
        text.extensions_map().map_err(|error| self.wrong(error))?;
        for extension in text.extensions() {
            if let ParsedExtension::ParseError { error } = extension.parsed_extension() {
                return Err(self.wrong(error));
            }
        }
        let constraints = text.basic_constraints().map_err(|error| self.wrong(error))?;
        let path_length = kind.path_length().map(u32::from);
        let fits = constraints.is_some_and(|it| {
            it.critical && it.value.ca && it.value.path_len_constraint == path_length
        });
        self.require(fits, "other basic constraints")?;
        let usage = text.key_usage().map_err(|error| self.wrong(error))?;
        let fits =
            usage.is_some_and(|it| it.critical && it.value.key_cert_sign() && it.value.crl_sign());
        self.require(fits, "another key usage")
    }

    fn require(&self, holds: bool, found: &str) -> Result<(), OpinionError> {
        if holds { Ok(()) } else { Err(self.wrong(found)) }
    }

    fn wrong(&self, found: impl Display) -> OpinionError {
        let (certificate, parser) = (self.planned.name.clone(), LINTERS[1]);
        OpinionError { certificate, parser, found: found.to_string() }
    }
}

/// Another parser reads something else than was meant.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("certificate {certificate}, read by {parser}, has {found}")]
pub struct OpinionError {
    /// Which certificate.
    pub certificate: Name,
    /// Who reads it so.
    pub parser: &'static str,
    /// What it has.
    pub found: String,
}

#[cfg(test)]
mod tests;
