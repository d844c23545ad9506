//! What the tests of certificates share: a root, an issuing CA below it, templates.

mod broken;
mod crl;
mod flipped;
mod ocsp;
mod openssl;
mod properties;
mod rehearsed;
mod requests;

use std::{collections::BTreeSet, fmt::Debug, str::FromStr};

use jiff::{SignedDuration, Timestamp};

use super::{Certificate, Issuer, Profile, Publication, Template, profile::CertificateTemplate};
use crate::{
    keys::{KeyAlgorithm, PublicKey, SignatureScheme},
    seal::{Kind, Prepared, Sealed},
    serial::X509Serial,
    token::{
        Input, IssuingKey, KeyId, KeyLabel, KeyStore as _, Purpose, Token as _,
        software::SoftwareToken,
    },
};

/// A root, an issuing CA below it, and a key of a subject, all in a software token.
struct Hierarchy {
    token: SoftwareToken,
    root: Issuer,
    issuing: Issuer,
    subject_key: PublicKey,
}

impl Hierarchy {
    fn new(authorities: KeyAlgorithm, subject: KeyAlgorithm) -> Self {
        Self::with_scheme(authorities, authorities.default_scheme(), subject)
    }

    fn with_scheme(
        authorities: KeyAlgorithm,
        scheme: SignatureScheme,
        subject: KeyAlgorithm,
    ) -> Self {
        let mut token = SoftwareToken::default();
        let root_key = issuing_key(&mut token, authorities, "root");
        let root = Issuer::self_signed(parse("CN=Test Root,O=Example,C=DE"), root_key.clone())
            .with_scheme(scheme);
        let root_certificate = seal(&mut token, root.prepare(root_template(&root)).unwrap());
        let publication = publication("root");
        let root = Issuer::new(root_certificate.bytes().to_vec(), root_key, publication)
            .unwrap()
            .with_scheme(scheme);

        let key = issuing_key(&mut token, authorities, "issuing");
        let template = issuing_template(key.key().public_key.clone());
        let certificate = seal(&mut token, root.prepare(template).unwrap());
        let issuing = Issuer::new(certificate.bytes().to_vec(), key, publication_of_issuing())
            .unwrap()
            .with_scheme(scheme);
        let subject_key = issuing_key(&mut token, subject, "subject").key().public_key.clone();
        Self { token, root, issuing, subject_key }
    }

    fn issue(&mut self, profile: Profile) -> Sealed {
        let prepared = self.issuing.prepare(self.template(profile)).unwrap();
        seal(&mut self.token, prepared)
    }

    fn template(&self, profile: Profile) -> Template {
        template(profile, self.subject_key.clone())
    }
}

/// Signs in the token and seals.
fn seal(token: &mut SoftwareToken, prepared: Prepared) -> Sealed {
    let message = Input::Message(prepared.bytes());
    let signature = token.sign(prepared.key().key(), prepared.scheme(), message).unwrap();
    prepared.seal(signature).unwrap()
}

fn issuing_key(token: &mut SoftwareToken, algorithm: KeyAlgorithm, name: &str) -> IssuingKey {
    let label = KeyLabel::new(Purpose::Issuing, name).unwrap();
    let id = KeyId::new(&name.as_bytes()[..4]).unwrap();
    IssuingKey::new(token.generate(algorithm, &label, &id).unwrap().key).unwrap()
}

fn root_template(root: &Issuer) -> Template {
    Template {
        subject: None,
        not_after: at("2046-01-01T00:00:00Z"),
        ..template(Profile::Root { path_len: None }, root.key().key().public_key.clone())
    }
}

fn issuing_template(key: PublicKey) -> Template {
    Template {
        subject: Some(parse("CN=Test Issuing CA,O=Example,C=DE")),
        not_after: at("2036-01-01T00:00:00Z"),
        ..template(Profile::Issuing { path_len: 0 }, key)
    }
}

fn ocsp_signer_template(key: PublicKey) -> Template {
    let subject = Some(parse("CN=OCSP responder of Test Issuing CA,O=Example"));
    Template { subject, ..template(Profile::OcspSigner, key) }
}

/// A template that is valid for a day.
fn template(profile: Profile, public_key: PublicKey) -> Template {
    Template {
        serial: X509Serial::from_random([0x5a; 16]),
        subject: None,
        public_key,
        not_before: NOW(),
        not_after: NOW() + SignedDuration::from_hours(24),
        profile,
        policies: Vec::new(),
    }
}

/// One template of each end entity's profile.
fn leaves() -> [Profile; 4] {
    [kdc(), smartcard_logon(), tls_client(), tls_server()]
}

fn kdc() -> Profile {
    Profile::Kdc {
        dns_names: set(&["dc1.win.example.test", "win.example.test"]),
        realm: Some(parse("WIN.EXAMPLE.TEST")),
    }
}

fn smartcard_logon() -> Profile {
    Profile::SmartcardLogon {
        upn: parse("alice@win.example.test"),
        sid: parse("S-1-5-21-1-2-3-1104"),
        template: Some(CertificateTemplate {
            oid: parse("1.3.6.1.4.1.311.21.8.1.2.3"),
            major: 100,
            minor: 7,
        }),
    }
}

fn tls_client() -> Profile {
    Profile::TlsClient {
        spiffe_id: parse("spiffe://example.test/bot/deploy"),
        dns_names: set(&["deploy.example.test"]),
    }
}

fn tls_server() -> Profile {
    Profile::TlsServer {
        dns_names: set(&["*.example.test", "www.example.test"]),
        addresses: set(&["192.0.2.7", "2001:db8::7"]),
        spiffe_id: Some(parse("spiffe://example.test/service/web")),
    }
}

fn publication(name: &str) -> Publication {
    let url = |end: &str| Some(parse(&format!("http://pki.example.test/{name}.{end}")));
    Publication { crl_url: url("crl"), issuer_url: url("cer"), ocsp_url: None }
}

fn publication_of_issuing() -> Publication {
    Publication { ocsp_url: Some(parse("http://pki.example.test/ocsp")), ..publication("issuing") }
}

fn set<T: FromStr<Err: Debug> + Ord>(texts: &[&str]) -> BTreeSet<T> {
    texts.iter().copied().map(parse).collect()
}

fn parse<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    parse(text)
}

const NOW: fn() -> Timestamp = || at("2026-06-01T12:00:00Z");
