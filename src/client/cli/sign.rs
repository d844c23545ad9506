//! `chancery sign`: a signature over a digest, with a key that is no CA's.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use api::{Authority, SignRequest, Signed};
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Client, files};
use pki::keys::{PublicKey, SignatureScheme};

use super::{arguments::Sign, failure::Failure, output::Output};

pub(super) async fn run(client: &Client, it: Sign, output: &mut Output) -> Result<(), Failure> {
    let scheme = match it.scheme {
        Some(scheme) => scheme,
        None => usual_scheme(client, &it.key).await?,
    };
    let digest = match (&it.subject.file, it.subject.digest) {
        (Some(path), _) => digest_file(path, scheme)?,
        (None, Some(digest)) => digest,
        (None, None) => return Err(usage("give a FILE or --digest HEX", None)),
    };
    let signed = client.sign(&SignRequest { role: it.role, key: it.key, scheme, digest }).await?;
    let path = it.out.or_else(|| it.subject.file.as_deref().map(signature_path));
    if let Some(path) = &path {
        files::write_public(path, &bytes(&signed)?)?;
    } else if !output.is_json() {
        return Ok(output.text(&format!("{}\n", signed.signature))?);
    }
    output.show(&signed, |signed| {
        vec![
            ("key", signed.key.clone()),
            ("scheme", signed.scheme.to_string()),
            ("file", path.map(|it| it.display().to_string()).unwrap_or_default()),
        ]
    })?;
    Ok(())
}

/// The scheme that a key signs with unless told otherwise.
async fn usual_scheme(client: &Client, wanted: &str) -> Result<SignatureScheme, Failure> {
    for authority in client.authorities().await?.authorities {
        if let Authority::Raw { name, public_key } = authority
            && name == wanted
        {
            let key = PublicKey::from_pem(&public_key)
                .map_err(|error| unclear(format!("the key {wanted}: {error}")))?;
            return Ok(key.default_scheme());
        }
    }
    Err(usage(
        &format!("the appliance has no key {wanted:?} for raw signatures"),
        Some("`chancery ca` lists the keys"),
    ))
}

fn digest_file(path: &Path, scheme: SignatureScheme) -> Result<String, Failure> {
    let hash = match scheme.digest_len() {
        Some(32) => &digest::SHA256,
        Some(48) => &digest::SHA384,
        Some(64) => &digest::SHA512,
        _ => {
            return Err(usage(
                &format!("{scheme} signs whole messages, not digests"),
                Some("use an ECDSA or RSA key"),
            ));
        }
    };
    hash_file(path, hash).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

fn hash_file(path: &Path, hash: &'static digest::Algorithm) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(hash);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(context.finish())),
            length => context.update(&buffer[..length]),
        }
    }
}

fn bytes(signed: &Signed) -> Result<Vec<u8>, Failure> {
    STANDARD
        .decode(&signed.signature)
        .map_err(|error| unclear(format!("the signature is not base64: {error}")))
}

fn signature_path(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".sig");
    name.into()
}

fn usage(what: &str, hint: Option<&str>) -> Failure {
    Failure::Usage { what: what.to_owned(), hint: hint.map(str::to_owned) }
}

fn unclear(what: String) -> Failure {
    client::Error::Answer { server: "the appliance".to_owned(), what }.into()
}
