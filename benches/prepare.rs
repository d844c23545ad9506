//! What the pure steps of one issuance cost: reading the key, prepare with its lint, seal with its
//! verification; and what long lists cost. No token, no network, no disk.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

mod krl;

use std::{
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use harness::{Failure, failure::Doing};
use pki::{
    keys::{KeyAlgorithm, PublicKey},
    serial::{SshSerial, X509Serial},
    ssh,
    token::{Input, IssuingKey, KeyId, KeyLabel, KeyRef, KeyStore, Token, software::SoftwareToken},
    x509,
};

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        #[expect(clippy::print_stderr, reason = "a program for a terminal")]
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Failure> {
    let mut token = SoftwareToken::default();
    let ca = generate(&mut token, "issuing/ca", 1)?;
    let root = generate(&mut token, "issuing/root", 2)?;
    let subject = generate(&mut token, "raw/subject", 3)?.public_key;
    let line = subject.to_openssh();
    print("read_key", || PublicKey::from_openssh(&line).is_ok());

    let issuer = ssh::Issuer::new(issuing(ca.clone())?, ssh::Usage::User);
    let template = ssh_template(&subject)?;
    print("ssh_prepare", || issuer.prepare(template.clone(), [7; 32]).is_ok());
    let prepared = issuer.prepare(template, [7; 32]).doing("prepare")?;
    let input = Input::Message(prepared.bytes());
    let signature = token.sign(&ca, prepared.scheme(), input).doing("sign")?;
    print("ssh_resume", || issuer.resume(prepared.bytes().to_vec()).is_ok());
    print("ssh_resume_and_seal", || {
        let prepared = issuer.resume(prepared.bytes().to_vec());
        prepared.is_ok_and(|prepared| prepared.seal(signature.clone()).is_ok())
    });

    let issuer = x509_issuer(&mut token, &root)?;
    let template = x509_template(&subject)?;
    print("x509_prepare", || issuer.prepare(template.clone()).is_ok());
    let prepared = issuer.prepare(template).doing("prepare")?;
    print("x509_resume", || issuer.resume(prepared.bytes().to_vec()).is_ok());
    let list = crl_template()?;
    print("crl_10k_prepare", || issuer.prepare_crl(&list).is_ok());
    let krl::Measured { bytes, build } = krl::measure()?;
    println!("figure krl_100k_build {:.2} us", build.as_secs_f64() * 1e6);
    println!("figure krl_100k_bytes {bytes} B");
    Ok(())
}

/// Runs a step for a while and prints its mean time; a step that fails is no measurement.
fn print(name: &str, step: impl Fn() -> bool) {
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < Duration::from_secs(1) {
        for _ in 0..64 {
            assert!(black_box(step()), "{name} failed");
        }
        count += 64;
    }
    let microseconds = start.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    println!("figure {name} {microseconds:.2} us");
}

fn ssh_template(subject: &PublicKey) -> Result<ssh::Template, Failure> {
    Ok(ssh::Template {
        serial: SshSerial::MIN,
        public_key: subject.clone(),
        key_id: "spiffe://example.test/user/alice".to_owned(),
        principals: ["alice".parse().doing("read a principal")?].into(),
        valid_after: "2026-03-01T08:00:00Z".parse().doing("read a time")?,
        valid_before: "2026-03-01T16:00:00Z".parse().doing("read a time")?,
        critical_options: ssh::CriticalOptions::default(),
        extensions: [ssh::Extension::PermitPty, ssh::Extension::PermitPortForwarding].into(),
        restrictions: ssh::Restrictions::default(),
    })
}

fn x509_template(subject: &PublicKey) -> Result<x509::Template, Failure> {
    Ok(x509::Template {
        serial: X509Serial::from_random([7; 16]),
        subject: None,
        public_key: subject.clone(),
        not_before: "2026-03-01T08:00:00Z".parse().doing("read a time")?,
        not_after: "2026-03-01T16:00:00Z".parse().doing("read a time")?,
        profile: x509::Profile::TlsServer {
            dns_names: ["web.example.test".parse().doing("read a name")?].into(),
            addresses: [].into(),
            spiffe_id: None,
        },
        policies: Vec::new(),
    })
}

/// 10,000 revoked certificates, in no order.
fn crl_template() -> Result<x509::crl::Template, Failure> {
    let this_update: jiff::Timestamp = "2026-03-01T08:00:00Z".parse().doing("read a time")?;
    let serial = |n: u64| X509Serial::from_random(u128::from(n * 7_919 % 10_000 + 1).to_be_bytes());
    let revoked = (0..10_000).map(|n| x509::crl::Revoked {
        serial: serial(n),
        at: this_update,
        reason: x509::crl::Reason::CessationOfOperation,
    });
    Ok(x509::crl::Template {
        number: 1,
        this_update,
        next_update: this_update + jiff::SignedDuration::from_hours(1),
        revoked: revoked.collect(),
    })
}

/// A CA that has just signed itself.
fn x509_issuer(token: &mut SoftwareToken, key: &KeyRef) -> Result<x509::Issuer, Failure> {
    let name: pki::names::DistinguishedName = "CN=Bench".parse().doing("read a name")?;
    let template = x509::Template {
        subject: Some(name.clone()),
        public_key: key.public_key.clone(),
        not_after: "2036-03-01T08:00:00Z".parse().doing("read a time")?,
        profile: x509::Profile::Root { path_len: Some(0) },
        ..x509_template(&key.public_key)?
    };
    let prepared = x509::Issuer::self_signed(name, issuing(key.clone())?)
        .prepare(template)
        .doing("prepare a root")?;
    let input = Input::Message(prepared.bytes());
    let signature = token.sign(key, prepared.scheme(), input).doing("sign")?;
    let sealed = prepared.seal(signature).doing("seal a root")?;
    x509::Issuer::new(sealed.bytes().to_vec(), issuing(key.clone())?, x509::Publication::default())
        .doing("make an issuer")
}

fn issuing(key: KeyRef) -> Result<IssuingKey, Failure> {
    IssuingKey::new(key).doing("take an issuing key")
}

fn generate(token: &mut SoftwareToken, label: &str, id: u8) -> Result<KeyRef, Failure> {
    let label: KeyLabel = label.parse().doing("read a label")?;
    let id = KeyId::new(&[id]).doing("make a key id")?;
    Ok(token.generate(KeyAlgorithm::EcP256, &label, &id).doing("make a key")?.key)
}
