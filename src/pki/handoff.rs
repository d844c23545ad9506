//! The hand-off: what a ceremony made, as the appliance reads it.
//!
//! A directory with `handoff.toml` and the certificates that it names. Everything is public; the
//! file pins the token's identity, and each key by CKA_ID and public key.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Component, Path},
};

use thiserror::Error;

use crate::{
    ssh::Usage,
    token::{IssuingKey, KeyId, KeyLabel, KeyRef, Purpose, pkcs11::TokenIdentity},
    x509::{self, Certificate, Publication},
};

/// `handoff.toml`.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// The ceremony's id and the head of its transcript (hexadecimal SHA-256).
    pub ceremony: Ceremony,
    /// The token that holds the keys.
    pub token: TokenIdentity,
    /// X.509 CAs by name.
    #[serde(default)]
    pub x509: BTreeMap<String, X509Authority>,
    /// SSH CAs by name.
    #[serde(default)]
    pub ssh: BTreeMap<String, SshAuthority>,
    /// The publication key.
    pub publication: KeyRef,
    /// Keys for raw digests, by name.
    #[serde(default)]
    pub raw: BTreeMap<String, KeyRef>,
    /// Certificates of these CAs by other CAs, by name: PEM files below the directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cross: BTreeMap<String, String>,
    /// Revocation lists of CAs that are offline, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub crls: BTreeMap<String, OfflineCrl>,
}

/// The revocation list of a CA that is offline: the appliance publishes it, and cannot renew it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct OfflineCrl {
    /// The list (DER) as a file below the directory.
    pub file: String,
    /// The certificate (PEM) of the CA that signed it, likewise.
    pub issuer: String,
}

/// Which ceremony made the keys.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ceremony {
    /// The plan's id.
    pub id: String,
    /// SHA-256 of the plan, hexadecimal.
    pub plan: String,
    /// The head of the transcript's hash chain, hexadecimal.
    pub transcript: String,
}

/// An X.509 CA.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct X509Authority {
    /// Its certificates as PEM files below the directory: its own first, then up to the root.
    pub chain: Vec<String>,
    /// Its key.
    pub key: KeyRef,
    /// Whether the appliance signs with it. A root that is in the same token is `false`.
    pub online: bool,
}

/// An SSH CA.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SshAuthority {
    /// What its certificates are for.
    pub usage: Usage,
    /// Its key.
    pub key: KeyRef,
}

/// A hand-off cannot be used.
#[derive(Debug, Error)]
pub enum HandoffError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file says something else than a hand-off.
    #[error("{path}: {what}")]
    Invalid {
        /// Which.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The file cannot be written, or is there already; an existing one is left as it was.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Handoff {
    /// The file in the directory that says everything else.
    pub const FILE: &str = "handoff.toml";

    /// Reads and checks a hand-off directory, with the certificates that it names.
    ///
    /// # Errors
    ///
    /// A file is missing, malformed, or names something outside the directory; a key stands where
    /// its label does not allow, or twice; a chain is not one of CA certificates, each signed by
    /// the next, from the authority's key to a root.
    pub fn read(directory: &Path) -> Result<Self, HandoffError> {
        Self::read_with(directory, &x509::Issuer::new)
    }

    /// As [`read`](Self::read), for what a rehearsal made, which nobody else may use.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_rehearsed(directory: &Path) -> Result<Self, HandoffError> {
        Self::read_with(directory, &x509::Issuer::rehearsed)
    }

    fn read_with(directory: &Path, issuer: &MakeIssuer) -> Result<Self, HandoffError> {
        let path = directory.join(Self::FILE);
        let text = read(&path)?;
        let handoff: Self =
            toml::from_str(&text).map_err(|error| invalid(&path, error.to_string()))?;
        handoff.check().map_err(|what| invalid(&path, what))?;
        for (name, authority) in &handoff.x509 {
            let chain = handoff.certificates(directory, name)?;
            check_chain(authority, &chain, issuer)
                .map_err(|what| invalid(&path, format!("x509.{name}: {what}")))?;
        }
        for (name, file) in &handoff.cross {
            let file = directory.join(file);
            check_cross(&read_certificate(&file)?, issuer)
                .map_err(|what| invalid(&file, format!("cross.{name}: {what}")))?;
        }
        for name in handoff.crls.keys() {
            handoff.crl_with(directory, name, issuer)?;
        }
        Ok(handoff)
    }

    /// Writes `handoff.toml`, durably, into a directory that has the certificates already.
    ///
    /// # Errors
    ///
    /// The file is there already, cannot be written, or would be refused by [`read`](Self::read).
    pub fn write(&self, directory: &Path) -> Result<(), HandoffError> {
        let path = directory.join(Self::FILE);
        self.check().map_err(|what| invalid(&path, what))?;
        let text =
            toml::to_string_pretty(self).map_err(|error| invalid(&path, error.to_string()))?;
        write_new(&path, &text)
            .map_err(|source| HandoffError::Write { path: path.display().to_string(), source })
    }

    /// The certificates of an X.509 CA in this directory: its own first, then up to the root. DER.
    ///
    /// # Errors
    ///
    /// There is no such CA, or a file is missing or is not PEM of one certificate.
    pub fn certificates(&self, directory: &Path, name: &str) -> Result<Vec<Vec<u8>>, HandoffError> {
        let authority = self.x509.get(name).ok_or_else(|| {
            invalid(&directory.join(Self::FILE), format!("there is no X.509 CA {name:?}"))
        })?;
        authority.chain.iter().map(|file| read_certificate(&directory.join(file))).collect()
    }

    /// The revocation list of a CA that is offline, verified under its certificate: DER, and what it
    /// was made of.
    ///
    /// # Errors
    ///
    /// There is no such list, a file is missing, or the list is not that CA's.
    pub fn crl(
        &self,
        directory: &Path,
        name: &str,
    ) -> Result<(Vec<u8>, x509::crl::Template), HandoffError> {
        self.crl_with(directory, name, &x509::Issuer::new)
    }

    /// The CA whose key is somewhere else that signed this revocation list (DER), and what the list was
    /// made of. For a list that the hand-off has by this name that is the CA that signed it there, for
    /// others any above its authorities; `None` if it is none of them.
    ///
    /// # Errors
    ///
    /// A certificate of the hand-off cannot be read.
    pub fn recognise_crl(
        &self,
        directory: &Path,
        name: &str,
        der: &[u8],
    ) -> Result<Option<(x509::Issuer, x509::crl::Template)>, HandoffError> {
        let above = self.x509.values().flat_map(|authority| {
            authority.chain.iter().skip(usize::from(authority.online)).collect::<Vec<_>>()
        });
        let signers = match self.crls.get(name) {
            Some(crl) => vec![&crl.issuer],
            None => above.collect(),
        };
        for file in signers {
            let path = directory.join(file);
            let signer = signer(read_certificate(&path)?, &x509::Issuer::new)
                .map_err(|what| invalid(&path, what))?;
            if let Some(template) = signer.recognise_crl(der) {
                return Ok(Some((signer, template)));
            }
        }
        Ok(None)
    }

    fn crl_with(
        &self,
        directory: &Path,
        name: &str,
        issuer: &MakeIssuer,
    ) -> Result<(Vec<u8>, x509::crl::Template), HandoffError> {
        let crl = self.crls.get(name).ok_or_else(|| {
            invalid(&directory.join(Self::FILE), format!("there is no revocation list {name:?}"))
        })?;
        let path = directory.join(&crl.file);
        let der = fs::read(&path)
            .map_err(|source| HandoffError::Read { path: path.display().to_string(), source })?;
        let signer = signer(read_certificate(&directory.join(&crl.issuer))?, issuer)
            .map_err(|what| invalid(&path, format!("crls.{name}: {what}")))?;
        match signer.recognise_crl(&der) {
            Some(template) => Ok((der, template)),
            None => Err(invalid(
                &path,
                format!("crls.{name}: it is no revocation list that {} signed", crl.issuer),
            )),
        }
    }

    /// Everything that can be checked without the certificates; says what is wrong.
    fn check(&self) -> Result<(), String> {
        self.ceremony.check()?;
        for (name, authority) in &self.x509 {
            check_name("x509", name)?;
            check_purpose(&format!("x509.{name}"), &authority.key, Purpose::Issuing)?;
            if authority.chain.is_empty() {
                return Err(format!("x509.{name}: the chain is empty"));
            }
            let place = format!("x509.{name}");
            authority.chain.iter().try_for_each(|file| check_inside(&place, file))?;
        }
        for (name, authority) in &self.ssh {
            check_name("ssh", name)?;
            check_purpose(&format!("ssh.{name}"), &authority.key, Purpose::Issuing)?;
        }
        for (name, file) in &self.cross {
            check_name("cross", name)?;
            check_inside(&format!("cross.{name}"), file)?;
        }
        for (name, crl) in &self.crls {
            check_name("crls", name)?;
            for file in [&crl.file, &crl.issuer] {
                check_inside(&format!("crls.{name}"), file)?;
            }
        }
        check_purpose("publication", &self.publication, Purpose::Publication)?;
        for (name, key) in &self.raw {
            check_name("raw", name)?;
            check_purpose(&format!("raw.{name}"), key, Purpose::Raw)?;
        }
        self.check_distinct()
    }

    /// No key stands twice: one signature must never be good for two formats.
    fn check_distinct(&self) -> Result<(), String> {
        let keys = self.keys().collect::<Vec<_>>();
        for (index, (place, key)) in keys.iter().enumerate() {
            for (other_place, other) in &keys[..index] {
                let same = [
                    ("label", key.label == other.label),
                    ("id", key.id == other.id),
                    ("public key", key.public_key == other.public_key),
                ];
                if let Some((what, _)) = same.iter().find(|(_, same)| *same) {
                    return Err(format!("{other_place} and {place} have the same {what}"));
                }
            }
        }
        Ok(())
    }

    /// Every key with its place in the file.
    pub fn keys(&self) -> impl Iterator<Item = (String, &KeyRef)> {
        let x509 = self.x509.iter().map(|(name, ca)| (format!("x509.{name}"), &ca.key));
        let ssh = self.ssh.iter().map(|(name, ca)| (format!("ssh.{name}"), &ca.key));
        let raw = self.raw.iter().map(|(name, key)| (format!("raw.{name}"), key));
        let publication = std::iter::once(("publication".to_owned(), &self.publication));
        x509.chain(ssh).chain(publication).chain(raw)
    }
}

impl Ceremony {
    fn check(&self) -> Result<(), String> {
        for (field, value) in [("plan", &self.plan), ("transcript", &self.transcript)] {
            let plain = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            if value.len() != 64 || !value.bytes().all(plain) {
                return Err(format!("ceremony.{field} is no SHA-256 in 64 hexadecimal digits"));
            }
        }
        Ok(())
    }
}

/// Names stand in requests, in the ledger and in paths of URLs.
fn check_name(table: &str, name: &str) -> Result<(), String> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if (1..=32).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(format!("{table}.{name:?}: a name has 1 to 32 of a-z, 0-9 and -"))
}

fn check_purpose(place: &str, key: &KeyRef, wanted: Purpose) -> Result<(), String> {
    if key.label.purpose() == wanted {
        return Ok(());
    }
    Err(format!("{place}: key {} is not for {} use", key.label, wanted.as_str()))
}

fn check_inside(place: &str, file: &str) -> Result<(), String> {
    let mut components = Path::new(file).components().peekable();
    let inside = components.peek().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)));
    if inside {
        return Ok(());
    }
    Err(format!("{place}: {file:?} is not a file below the directory"))
}

/// Own certificate first, each signed by the next, the last by itself.
fn check_chain(
    authority: &X509Authority,
    chain: &[Vec<u8>],
    issuer: &MakeIssuer,
) -> Result<(), String> {
    let key = IssuingKey::new(authority.key.clone()).map_err(|error| error.to_string())?;
    let own = chain.first().cloned().unwrap_or_default();
    issuer(own, key, Publication::default()).map_err(|error| error.to_string())?;
    let read = |der: &Vec<u8>| Certificate::from_der(der).map_err(|error| error.to_string());
    let parsed = chain.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    for (index, link) in parsed.iter().enumerate() {
        let signer = parsed.get(index + 1).unwrap_or(link);
        if link.issuer() != signer.subject() {
            return Err(format!(
                "{}: its issuer {} does not follow it in the chain, which goes up to the root",
                authority.chain[index],
                link.issuer()
            ));
        }
        link.check_signed_by(signer)
            .map_err(|what| format!("{}: {what}", authority.chain[index]))?;
    }
    Ok(())
}

/// A certificate of a CA by another: which one, is for those to find out who need it.
fn check_cross(der: &[u8], issuer: &MakeIssuer) -> Result<(), String> {
    signer(der.to_vec(), issuer).map(|_| ())
}

/// A CA whose key is somewhere else.
fn signer(der: Vec<u8>, issuer: &MakeIssuer) -> Result<x509::Issuer, String> {
    let certificate = Certificate::from_der(&der).map_err(|error| error.to_string())?;
    let public_key = certificate.public_key().clone();
    let label = KeyLabel::new(Purpose::Issuing, "offline").map_err(|error| error.to_string())?;
    let key = KeyRef { label, id: KeyId::from([0; 8]), public_key };
    let key = IssuingKey::new(key).map_err(|error| error.to_string())?;
    issuer(der, key, Publication::default()).map_err(|error| error.to_string())
}

/// How a certificate becomes an issuer: those of a rehearsal do not, but in a rehearsal.
type MakeIssuer =
    dyn Fn(Vec<u8>, IssuingKey, Publication) -> Result<x509::Issuer, x509::IssuerError>;

fn read_certificate(path: &Path) -> Result<Vec<u8>, HandoffError> {
    let certificate =
        Certificate::from_pem(&read(path)?).map_err(|error| invalid(path, error.to_string()))?;
    Ok(certificate.der().to_vec())
}

fn read(path: &Path) -> Result<String, HandoffError> {
    fs::read_to_string(path)
        .map_err(|source| HandoffError::Read { path: path.display().to_string(), source })
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn invalid(path: &Path, what: impl Into<String>) -> HandoffError {
    HandoffError::Invalid { path: path.display().to_string(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::KeyAlgorithm,
        serial::X509Serial,
        token::{Input, KeyId, KeyLabel, KeyStore, Token, software::SoftwareToken},
        x509::{Issuer, Profile, Template},
    };

    #[test]
    fn what_was_written_is_read_again_and_never_overwritten() {
        let made = Made::new();
        made.handoff.write(made.path()).unwrap();
        assert_eq!(Handoff::read(made.path()).unwrap(), made.handoff);
        let chain = made.handoff.certificates(made.path(), "issuing").unwrap();
        assert_eq!(chain.len(), 2);
        let text = fs::read(made.path().join(Handoff::FILE)).unwrap();
        let mut other = made.handoff.clone();
        other.ceremony.id = "other".to_owned();
        assert!(matches!(other.write(made.path()), Err(HandoffError::Write { .. })));
        assert_eq!(fs::read(made.path().join(Handoff::FILE)).unwrap(), text);
    }

    /// Breaks one rule.
    type Damage = fn(&mut Handoff);

    #[test]
    fn what_would_be_refused_is_not_written() {
        let made = Made::new();
        let cases: [(&str, Damage); 13] = [
            ("ceremony.plan is no SHA-256", |handoff| handoff.ceremony.plan = "AB".repeat(32)),
            ("ceremony.transcript is no SHA-256", |handoff| handoff.ceremony.transcript.clear()),
            ("x509.issuing: key raw/firmware is not for issuing use", |handoff| {
                ca(handoff).key = handoff.raw["firmware"].clone();
            }),
            ("ssh.user: key publication/log is not for issuing use", |handoff| {
                handoff.ssh.get_mut("user").unwrap().key = handoff.publication.clone();
            }),
            ("publication: key issuing/ssh-user is not for publication use", |handoff| {
                handoff.publication = handoff.ssh["user"].key.clone();
            }),
            ("raw.firmware: key issuing/root is not for raw use", |handoff| {
                handoff.raw.insert("firmware".to_owned(), handoff.x509["root"].key.clone());
            }),
            ("ssh.user and raw.firmware have the same public key", |handoff| {
                let public_key = handoff.ssh["user"].key.public_key.clone();
                handoff.raw.get_mut("firmware").unwrap().public_key = public_key;
            }),
            ("x509.root and publication have the same id", |handoff| {
                handoff.publication.id = handoff.x509["root"].key.id.clone();
            }),
            ("x509.issuing and ssh.user have the same label", |handoff| {
                handoff.ssh.get_mut("user").unwrap().key = handoff.x509["issuing"].key.clone();
            }),
            ("\"../root.pem\" is not a file below", |handoff| {
                ca(handoff).chain[1] = "../root.pem".to_owned();
            }),
            ("\"/root.pem\" is not a file below", |handoff| {
                ca(handoff).chain[1] = "/root.pem".to_owned();
            }),
            ("x509.issuing: the chain is empty", |handoff| ca(handoff).chain.clear()),
            ("ssh.\"a b\": a name has", |handoff| {
                let user = handoff.ssh["user"].clone();
                handoff.ssh.insert("a b".to_owned(), user);
            }),
        ];
        for (what, change) in cases {
            let mut handoff = made.handoff.clone();
            change(&mut handoff);
            let error = handoff.write(made.path()).unwrap_err();
            assert!(error.to_string().contains(what), "{what}: {error}");
            assert!(!made.path().join(Handoff::FILE).exists(), "{what}");
        }
    }

    #[test]
    fn chains_that_do_not_hold_are_not_read() {
        let made = Made::new();
        let cases: [(&str, Damage); 4] = [
            ("for another key than issuing/issuing", |handoff| ca(handoff).chain = root()),
            ("issuing.pem: its issuer", |handoff| {
                ca(handoff).chain.truncate(1);
            }),
            ("root.pem: its issuer", |handoff| ca(handoff).chain.push("issuing.pem".to_owned())),
            ("its signature does not verify", |handoff| {
                ca(handoff).chain[1] = "other-root.pem".to_owned();
            }),
        ];
        for (what, change) in cases {
            let mut handoff = made.handoff.clone();
            change(&mut handoff);
            handoff.write(made.path()).unwrap();
            let error = Handoff::read(made.path()).unwrap_err();
            assert!(error.to_string().contains(what), "{what}: {error}");
            fs::remove_file(made.path().join(Handoff::FILE)).unwrap();
        }
    }

    #[test]
    fn unknown_fields_and_missing_files_are_named() {
        let made = Made::new();
        let path = made.path().join(Handoff::FILE);
        assert!(matches!(Handoff::read(made.path()), Err(HandoffError::Read { .. })));
        made.handoff.write(made.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("surprise = 1\n{text}")).unwrap();
        let error = Handoff::read(made.path()).unwrap_err();
        assert!(error.to_string().contains("surprise"), "{error}");
        fs::write(&path, text).unwrap();
        fs::remove_file(made.path().join("root.pem")).unwrap();
        let error = Handoff::read(made.path()).unwrap_err();
        assert!(error.to_string().contains("root.pem"), "{error}");
    }

    fn ca(handoff: &mut Handoff) -> &mut X509Authority {
        handoff.x509.get_mut("issuing").unwrap()
    }

    fn root() -> Vec<String> {
        vec!["root.pem".to_owned()]
    }

    /// A directory with a root, another root of the same name, an issuing CA, and the hand-off
    /// that goes with them.
    struct Made {
        directory: tempfile::TempDir,
        handoff: Handoff,
    }

    impl Made {
        fn new() -> Self {
            let mut token = SoftwareToken::default();
            let mut count = 0;
            let mut make = |token: &mut SoftwareToken, label: &str| {
                count += 1;
                let label = label.parse::<KeyLabel>().unwrap();
                let id = KeyId::new(&[count]).unwrap();
                token.generate(KeyAlgorithm::EcP256, &label, &id).unwrap().key
            };
            let [root_key, other_root_key, issuing_key, user, log, firmware] = [
                "issuing/root",
                "issuing/other-root",
                "issuing/issuing",
                "issuing/ssh-user",
                "publication/log",
                "raw/firmware",
            ]
            .map(|label| make(&mut token, label));
            let directory = tempfile::tempdir().unwrap();
            let write = |name: &str, der: &[u8]| {
                fs::write(directory.path().join(name), x509::to_pem(der)).unwrap();
            };
            let root_der = self_sign(&mut token, &root_key);
            write("root.pem", &root_der);
            write("other-root.pem", &self_sign(&mut token, &other_root_key));
            let signer = IssuingKey::new(root_key.clone()).unwrap();
            let issuer = Issuer::new(root_der, signer, Publication::default()).unwrap();
            let profile = Profile::Issuing { path_len: 0 };
            write("issuing.pem", &sign(&mut token, &issuer, "CN=Issuing", &issuing_key, profile));
            let authority = |chain: &[&str], key, online| X509Authority {
                chain: chain.iter().map(|&file| file.to_owned()).collect(),
                key,
                online,
            };
            let handoff = Handoff {
                ceremony: Ceremony {
                    id: "first".to_owned(),
                    plan: "ab".repeat(32),
                    transcript: "cd".repeat(32),
                },
                token: TokenIdentity {
                    label: "chancery".to_owned(),
                    serial: None,
                    manufacturer: None,
                    model: None,
                },
                x509: [
                    ("root".to_owned(), authority(&["root.pem"], root_key, false)),
                    (
                        "issuing".to_owned(),
                        authority(&["issuing.pem", "root.pem"], issuing_key, true),
                    ),
                ]
                .into(),
                ssh: [("user".to_owned(), SshAuthority { usage: Usage::User, key: user })].into(),
                publication: log,
                raw: [("firmware".to_owned(), firmware)].into(),
                cross: BTreeMap::new(),
                crls: BTreeMap::new(),
            };
            Self { directory, handoff }
        }

        fn path(&self) -> &Path {
            self.directory.path()
        }
    }

    fn self_sign(token: &mut SoftwareToken, key: &KeyRef) -> Vec<u8> {
        let signer = IssuingKey::new(key.clone()).unwrap();
        let issuer = Issuer::self_signed("CN=Root".parse().unwrap(), signer);
        sign(token, &issuer, "CN=Root", key, Profile::Root { path_len: Some(1) })
    }

    fn sign(
        token: &mut SoftwareToken,
        issuer: &Issuer,
        subject: &str,
        key: &KeyRef,
        profile: Profile,
    ) -> Vec<u8> {
        let template = Template {
            serial: X509Serial::from_random([7; 16]),
            subject: Some(subject.parse().unwrap()),
            public_key: key.public_key.clone(),
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2030-01-01T00:00:00Z".parse().unwrap(),
            profile,
            policies: Vec::new(),
        };
        let prepared = issuer.prepare(template).unwrap();
        let input = Input::Message(prepared.bytes());
        let signature = token.sign(prepared.key().key(), prepared.scheme(), input).unwrap();
        prepared.seal(signature).unwrap().bytes().to_vec()
    }
}
