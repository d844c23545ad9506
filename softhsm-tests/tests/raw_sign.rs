//! Raw digests: signed by keys that are for that, and never by a CA's.

use std::fs;

use harness::{Doing, Story, office::Office, openssl, process::run};
use serde_json::{Value, json};

const FIRMWARE: &[u8] = b"firmware image, version 7\n";

#[test]
fn openssl_verifies_a_signature_over_a_digest() -> Story {
    let office = Office::open()?;
    let builder = office.enrol("service/builder")?;
    fs::write(office.path("image"), FIRMWARE).doing("write an image")?;
    let digest =
        run(openssl::openssl()?.args(["dgst", "-sha256", "-r"]).arg(office.path("image")))?
            .success()?
            .stdout;
    let digest = digest.split(' ').next().unwrap_or_default();
    let body = json!({
        "role": "firmware", "key": "firmware", "scheme": "ecdsa-p256-sha256", "digest": digest,
    });
    let signed = office.ask(&builder, "/v1/sign", &body)?;

    let text = |name: &str| signed[name].as_str().unwrap_or_default().to_owned();
    fs::write(office.path("signature.b64"), text("signature") + "\n").doing("write a signature")?;
    fs::write(office.path("key.pem"), text("public_key")).doing("write a key")?;
    let mut decode = openssl::openssl()?;
    decode.args(["base64", "-d", "-A", "-in"]).arg(office.path("signature.b64"));
    run(decode.arg("-out").arg(office.path("signature")))?.success()?;
    let verify = |image: &str| {
        let mut command = openssl::openssl()?;
        command.args(["dgst", "-sha256", "-verify"]).arg(office.path("key.pem"));
        command.arg("-signature").arg(office.path("signature")).arg(office.path(image));
        run(&mut command)
    };
    verify("image")?.success()?;
    fs::write(office.path("changed"), b"firmware image, version 8\n").doing("write an image")?;
    verify("changed")?.refused("Verification failure")?;
    Ok(())
}

#[test]
fn a_ca_key_signs_no_digest_and_a_digest_is_a_digest() -> Story {
    let office = Office::open()?;
    let builder = office.enrol("service/builder")?;
    let stranger = office.enrol("service/web")?;
    let refused = |identity, key: &str, scheme: &str, digest: &str, statuses: &[u16]| -> Story {
        let body = json!({ "role": "firmware", "key": key, "scheme": scheme, "digest": digest });
        let answer = office.https(Some(identity))?.post("/v1/sign", &body)?;
        let problem: Value = answer.json()?;
        assert!(statuses.contains(&answer.status), "{key} {scheme} {digest}: {problem}");
        Ok(())
    };
    let digest = "5a".repeat(32);
    for key in ["services", "issuing", "root", "ssh-user", "ssh-host", "log", "no such key"] {
        refused(&builder, key, "ecdsa-p256-sha256", &digest, &[403, 404])?;
    }
    refused(&stranger, "firmware", "ecdsa-p256-sha256", &digest, &[403])?;
    refused(&builder, "firmware", "ecdsa-p256-sha256", "5a5a", &[400])?;
    refused(&builder, "firmware", "ecdsa-p256-sha256", "not hexadecimal", &[400])?;
    refused(&builder, "firmware", "ed25519", &digest, &[400])?;
    refused(&builder, "firmware", "rsa-pkcs1-sha256", &digest, &[400, 403, 422])
}
