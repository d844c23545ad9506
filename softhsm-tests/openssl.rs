//! Keys, requests and second opinions from OpenSSL.

use std::{path::Path, process::Command};

use crate::{
    failure::Failure,
    peers::peer,
    process::{Answer, run},
};

/// Generates a private key (PKCS#8 PEM, mode 0600): `kind` is `rsa:2048`, `ec:P-256` or `ed25519`.
///
/// # Errors
///
/// OpenSSL refuses.
pub fn generate(kind: &str, path: &Path) -> Result<(), Failure> {
    let mut command = openssl()?;
    command.arg("genpkey").arg("-out").arg(path);
    match kind.split_once(':') {
        Some(("rsa", bits)) => {
            command.args(["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
        }
        Some(("ec", curve)) => {
            command.args(["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")])
        }
        _ => command.args(["-algorithm", kind]),
    };
    run(&mut command)?.success().map(drop)
}

/// Writes a certificate request (PEM) by `key`; `extensions` as `-addext` takes them.
///
/// # Errors
///
/// OpenSSL refuses.
pub fn request(key: &Path, subject: &str, extensions: &[&str], path: &Path) -> Result<(), Failure> {
    let mut command = openssl()?;
    command.args(["req", "-new", "-batch", "-sha256", "-subj", subject]);
    command.arg("-key").arg(key).arg("-out").arg(path);
    for extension in extensions {
        command.args(["-addext", extension]);
    }
    run(&mut command)?.success().map(drop)
}

/// A public key file (DER) as PEM.
///
/// # Errors
///
/// OpenSSL cannot read it.
pub fn public_key_pem(der: &Path) -> Result<String, Failure> {
    let mut command = openssl()?;
    command.args(["pkey", "-pubin", "-inform", "DER", "-in"]).arg(der);
    Ok(run(&mut command)?.success()?.stdout)
}

/// Asks whether a certificate is good for `purpose` (`sslserver`, `sslclient`, `any`) under `root`
/// through the certificates in `untrusted`, by the letter (`-x509_strict`).
///
/// # Errors
///
/// OpenSSL is not installed. That it says no is an answer.
pub fn verify(
    root: &Path,
    untrusted: Option<&Path>,
    purpose: &str,
    certificate: &Path,
) -> Result<Answer, Failure> {
    let mut command = openssl()?;
    command.args(["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-purpose", purpose]);
    command.arg("-CAfile").arg(root);
    if let Some(untrusted) = untrusted {
        command.arg("-untrusted").arg(untrusted);
    }
    run(command.arg(certificate))
}

/// What OpenSSL reads in a certificate.
///
/// # Errors
///
/// It is none.
pub fn describe(certificate: &Path) -> Result<String, Failure> {
    let mut command = openssl()?;
    command.args(["x509", "-noout", "-text", "-in"]).arg(certificate);
    Ok(run(&mut command)?.success()?.stdout)
}

/// OpenSSL, for what has no function here.
///
/// # Errors
///
/// It is not installed.
pub fn openssl() -> Result<Command, Failure> {
    let mut command = Command::new(peer("openssl")?);
    // The machine's own defaults are not part of the story.
    command.env("OPENSSL_CONF", "/dev/null");
    Ok(command)
}
