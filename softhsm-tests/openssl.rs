//! Keys, requests and second opinions from OpenSSL.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    clock::Clock,
    failure::{Doing, Failure},
    https::{Identity, Request},
    office::{Office, http_send},
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

/// A signature over `message` with a private key, as OpenSSL writes it: ECDSA in DER. `options` are
/// those of `openssl pkeyutl`, for RSA its padding and hash.
///
/// # Errors
///
/// OpenSSL refuses, or the message cannot be written beside the key.
pub fn sign(key: &Path, options: &[&str], message: &[u8]) -> Result<Vec<u8>, Failure> {
    let (input, output) = (key.with_extension("message"), key.with_extension("signature"));
    fs::write(&input, message).doing("write a message")?;
    let mut command = openssl()?;
    command.args(["pkeyutl", "-sign", "-rawin", "-inkey"]).arg(key).args(options);
    run(command.arg("-in").arg(&input).arg("-out").arg(&output))?.success()?;
    fs::read(&output).doing("read a signature")
}

/// A CA that is none of Chancery's.
#[derive(Clone, Debug)]
pub struct Ca {
    directory: PathBuf,
}

impl Ca {
    /// Makes a CA, which holds for a month, in a new directory.
    ///
    /// # Errors
    ///
    /// OpenSSL refuses.
    pub fn new(directory: PathBuf, name: &str) -> Result<Self, Failure> {
        fs::create_dir(&directory).doing("make a directory")?;
        let ca = Self { directory };
        generate("ec:P-256", &ca.key())?;
        let mut command = openssl()?;
        command.args(["req", "-x509", "-batch", "-sha256", "-days", "30"]);
        command.args(["-subj", &format!("/CN={name}")]);
        command.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        command.arg("-key").arg(ca.key()).arg("-out").arg(ca.certificate());
        run(&mut command)?.success()?;
        Ok(ca)
    }

    /// Its own certificate (PEM).
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Makes a key of this name and has it certified for a month from now, or from what a clock
    /// shows: `extensions` are lines as `-extfile` takes them. Gives key and certificate.
    ///
    /// # Errors
    ///
    /// OpenSSL refuses.
    pub fn certify(
        &self,
        name: &str,
        extensions: &str,
        clock: Option<&Clock>,
    ) -> Result<Identity, Failure> {
        let at = |end: &str| self.directory.join(format!("{name}.{end}"));
        let identity = Identity { certificate: at("pem"), key: at("key") };
        generate("ec:P-256", &identity.key)?;
        request(&identity.key, &format!("/CN={name}"), &[], &at("csr"))?;
        fs::write(at("ext"), extensions).doing("write extensions")?;
        let mut command = match clock {
            None => openssl()?,
            Some(clock) => {
                let mut command = clock.command(&peer("openssl")?);
                command.env("OPENSSL_CONF", "/dev/null");
                command
            }
        };
        command.args(["x509", "-req", "-sha256", "-days", "30", "-CAcreateserial"]);
        command.arg("-in").arg(at("csr")).arg("-CA").arg(self.certificate());
        command.arg("-CAkey").arg(self.key()).arg("-extfile").arg(at("ext"));
        run(command.arg("-out").arg(&identity.certificate))?.success()?;
        Ok(identity)
    }

    fn key(&self) -> PathBuf {
        self.directory.join("ca.key")
    }
}

/// The public half of a private key, as PEM.
///
/// # Errors
///
/// OpenSSL cannot read it.
pub fn public_half(key: &Path) -> Result<String, Failure> {
    let mut command = openssl()?;
    command.args(["pkey", "-pubout", "-in"]).arg(key);
    Ok(run(&mut command)?.success()?.stdout)
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

/// As [`verify`], with the list of its issuer that the appliance publishes now, which must be there
/// and good: `issuer` is an authority below the root.
///
/// # Errors
///
/// OpenSSL is not installed, or there is no list. That it says no is an answer.
pub fn verify_with_crl(
    office: &Office,
    issuer: &str,
    certificate: &Path,
) -> Result<Answer, Failure> {
    let list = office.path(format!("{issuer}.crl.pem"));
    fetch_crl(office, issuer, &list)?;
    let mut command = openssl()?;
    command.args(["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-crl_check"]);
    command.arg("-CAfile").arg(office.handoff("root.pem")).arg("-CRLfile").arg(&list);
    command.arg("-untrusted").arg(office.handoff(&format!("{issuer}.pem")));
    run(command.arg(certificate))
}

/// Fetches the list of an authority that the appliance publishes now, as PEM.
///
/// # Errors
///
/// There is none, or it cannot be written.
pub fn fetch_crl(office: &Office, issuer: &str, pem: &Path) -> Result<(), Failure> {
    let path = format!("/crl/{issuer}.crl");
    let request = Request { method: "GET", path: &path, headers: &[], body: b"" };
    let answer = http_send(office.public(), &request)?.expect_status(200)?;
    let der = pem.with_extension("der");
    fs::write(&der, answer.body).doing("write a CRL")?;
    let mut convert = openssl()?;
    convert.args(["crl", "-inform", "DER", "-in"]).arg(&der).arg("-out").arg(pem);
    run(&mut convert)?.success().map(drop)
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
