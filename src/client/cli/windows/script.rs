//! The script of `chancery windows bootstrap`: a text with places, and what goes there.
//!
//! Whatever a name says, it stays a name: in the script it is a literal of ASCII, and in a comment it
//! is in one line. PowerShell 5.1 reads a file without a mark in the code page of the machine, so that
//! the whole script is ASCII.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::output::printable;
use pki::{names::HttpUrl, x509::certificate::Certificate};

use super::{Failure, usage};

/// What the script is to do.
pub(super) struct Plan {
    /// The appliance's name for the authority.
    pub(super) authority: String,
    /// The authority's certificate first, the root last.
    pub(super) chain: Vec<Trusted>,
    pub(super) crl_url: HttpUrl,
    pub(super) gpo: String,
    pub(super) ecc: bool,
    pub(super) lock_on_removal: bool,
    pub(super) what_if: bool,
}

/// A CA's certificate.
pub(super) struct Trusted {
    subject: String,
    der: Vec<u8>,
}

impl Trusted {
    pub(super) fn read(pem: &str) -> Result<Self, Failure> {
        let read = Certificate::from_pem(pem).map_err(|error| {
            usage(&format!("the appliance's answer: {error}"), "ask its operators")
        })?;
        Ok(Self { subject: read.subject().to_owned(), der: read.der().to_vec() })
    }
}

impl Plan {
    /// The script, with lines that end as they do on Unix.
    pub(super) fn script(&self) -> String {
        let what_if = match self.what_if {
            true => {
                "\n# Asked for with --what-if: it changes nothing.\n$WhatIfPreference = $true\n\n"
            }
            false => "",
        };
        let mut script = String::new();
        for line in TEMPLATE.lines() {
            let line = match line {
                "@CERTIFICATE_COMMENTS@" => self.comments(),
                "@CERTIFICATES@" => self.certificates(),
                "@SETTINGS@" => self.settings(),
                "@WHAT_IF@" => what_if.to_owned(),
                _ => self.filled(line),
            };
            script.push_str(line.strip_suffix('\n').unwrap_or(&line));
            script.push('\n');
        }
        script
    }

    /// A line with a place for one value; what is in a value is looked at no more.
    fn filled(&self, line: &str) -> String {
        let values = [
            ("@AUTHORITY@", comment(&self.authority)),
            ("@GPO@", literal(&self.gpo)),
            ("@CRL_URL@", literal(self.crl_url.as_str())),
        ];
        match values.iter().find_map(|(place, value)| Some((line.split_once(place)?, value))) {
            Some(((before, after), value)) => format!("{before}{value}{after}"),
            None => line.to_owned(),
        }
    }

    fn comments(&self) -> String {
        self.chain.iter().fold(String::new(), |text, it| {
            let hash = hex::encode(digest(&SHA256, &it.der));
            text + &format!("#   {}\n#     SHA-256 {hash}\n", comment(&it.subject))
        })
    }

    /// The authority is in NTAuth; the root is trusted; what is below the root is found.
    fn certificates(&self) -> String {
        let last = self.chain.len().saturating_sub(1);
        let mut rows = String::new();
        for (place, it) in self.chain.iter().enumerate().rev() {
            let (store, container) = match place == last {
                true => ("RootCA", "Certification Authorities"),
                false => ("SubCA", "AIA"),
            };
            let what = match place == last {
                true => format!("the root is trusted: {}", it.subject),
                false => format!("the CA is found: {}", it.subject),
            };
            row(&mut rows, &what, store, container, &it.der);
        }
        if let Some(it) = self.chain.first() {
            let what = format!("NTAuth has the authority: {}", it.subject);
            row(&mut rows, &what, "NTAuthCA", "NTAuthCertificates", &it.der);
        }
        rows
    }

    fn settings(&self) -> String {
        let mut settings = vec![Setting {
            what: "certificates of an inserted card are known to programs",
            key: r"HKLM\SOFTWARE\Policies\Microsoft\Windows\CertProp",
            name: "CertPropEnabled",
            value: Value::Number(1),
        }];
        if self.ecc {
            settings.push(Setting {
                what: "certificates with elliptic curves may log on",
                key: r"HKLM\SOFTWARE\Policies\Microsoft\Windows\SmartCardCredentialProvider",
                name: "EnumerateECCCerts",
                value: Value::Number(1),
            });
        }
        if self.lock_on_removal {
            settings.push(Setting {
                what: "a workstation is locked when the card is taken out",
                key: r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon",
                name: "ScRemoveOption",
                value: Value::Text("1"),
            });
            settings.push(Setting {
                what: "the service that notices it starts with Windows",
                key: r"HKLM\SYSTEM\CurrentControlSet\Services\SCPolicySvc",
                name: "Start",
                value: Value::Number(2),
            });
        }
        settings.iter().map(Setting::row).collect()
    }
}

/// A value of a group policy.
struct Setting {
    what: &'static str,
    key: &'static str,
    name: &'static str,
    value: Value,
}

enum Value {
    Number(u32),
    Text(&'static str),
}

impl Setting {
    fn row(&self) -> String {
        let (kind, value) = match self.value {
            Value::Number(number) => ("DWord", number.to_string()),
            Value::Text(text) => ("String", literal(text)),
        };
        format!(
            "    @{{\n        What = {}\n        Key = {}\n        Name = {}\n        \
             Type = '{kind}'\n        Value = {value}\n    }}\n",
            literal(self.what),
            literal(self.key),
            literal(self.name),
        )
    }
}

fn row(rows: &mut String, what: &str, store: &str, container: &str, der: &[u8]) {
    let der = STANDARD.encode(der);
    // Writing to a String does not fail.
    let _ = writeln!(
        rows,
        "    @{{\n        What = {}\n        Store = '{store}'\n        Container = '{container}'\n        \
         Der = '{der}'\n    }}",
        literal(what),
    );
}

/// A text as an expression of PowerShell that is that text. Between single quotes nothing but a
/// quote means anything, and PowerShell takes four characters for one (about_Quoting_Rules); what is
/// not printable ASCII is written by its number.
fn literal(text: &str) -> String {
    let mut parts = Vec::new();
    let mut plain = String::new();
    for unit in text.encode_utf16() {
        match char::from_u32(unit.into()).filter(|c| matches!(c, ' '..='~')) {
            Some('\'') => plain.push_str("''"),
            Some(c) => plain.push(c),
            None => {
                parts.push(format!("'{}'", std::mem::take(&mut plain)));
                parts.push(format!("[char] 0x{unit:04X}"));
            }
        }
    }
    if parts.is_empty() {
        return format!("'{plain}'");
    }
    parts.push(format!("'{plain}'"));
    format!("({})", parts.join(" + "))
}

/// A text in a comment: one line of ASCII.
fn comment(text: &str) -> String {
    let ascii = |c: char| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() };
    printable(text).chars().map(ascii).collect()
}

const TEMPLATE: &str = include_str!("bootstrap.ps1");

#[cfg(test)]
mod tests;
