//! A bot's TLS files and its X.509-SVID, judged by OpenSSL: key, certificate and CA match, and the
//! names are those of the role.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use harness::{Doing, Failure, Story, bot::Bot, office::Office, openssl, process::run};

const RULES: &str = r#"
[[role]]
name = "service-client"
callers = ["spiffe://example.test/bot/orders"]
issuer = "services"
max_ttl = "1h"
[role.tls_client]
dns_names = ["{name}.example.test"]
spiffe_ids = ["spiffe://example.test/service/orders"]
"#;

const OUTPUTS: &str = r#"
[[output]]
name = "tls"
kind = "tls"
role = "service-client"
directory = "{at}/tls"
dns_names = ["orders.example.test"]
authorities = ["services"]
pkcs12_password_file = "{at}/password"

[[output]]
name = "svid"
kind = "spiffe"
role = "service-client"
directory = "{at}/svid"
spiffe_id = "spiffe://example.test/service/orders"
"#;

const PASSWORD: &str = "a password of the story";

#[test]
fn openssl_accepts_the_files_of_a_bot_and_finds_its_names() -> Story {
    let mut office = Office::prepare()?;
    fs::write(office.path("rules/orders.toml"), RULES).doing("write rules")?;
    office.begin()?;
    let bot = Bot::add(&office, "orders", &["--role", "service-client"], OUTPUTS)?;
    write_private(&bot.path("password"), PASSWORD)?;
    bot.run_once()?.success()?;

    let tls = Files::of(&bot.path("tls/current"), "tls.crt", "tls.key", "ca.crt");
    tls.belong_together()?;
    tls.name(&["URI:spiffe://example.test/bot/orders", "DNS:orders.example.test"])?;
    let bundled = tls.in_pkcs12(&bot.path("tls/current/tls.p12"))?;
    assert_eq!(bundled.matches("BEGIN CERTIFICATE").count(), 2, "{bundled}");
    assert!(bundled.contains(read(&tls.key)?.trim()), "the same key");

    let svid = Files::of(&bot.path("svid/current"), "svid.pem", "svid.key", "bundle.pem");
    svid.belong_together()?;
    // X509-SVID section 2: exactly one URI.
    svid.name(&["URI:spiffe://example.test/service/orders"])?;
    assert_ne!(read(&tls.key)?, read(&svid.key)?, "each output has a key of its own");
    Ok(())
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    roots: PathBuf,
}

impl Files {
    fn of(directory: &Path, certificate: &str, key: &str, roots: &str) -> Self {
        let [certificate, key, roots] = [certificate, key, roots].map(|it| directory.join(it));
        Self { certificate, key, roots }
    }

    /// The certificate leads to the root by what is in its own file, and is for the key, which is
    /// for its owner's eyes.
    fn belong_together(&self) -> Story {
        let (roots, chain) = (&self.roots, Some(self.certificate.as_path()));
        openssl::verify(roots, chain, "sslclient", &self.certificate)?.success()?;
        let mut of_key = openssl::openssl()?;
        of_key.args(["pkey", "-pubout", "-in"]).arg(&self.key);
        let mut of_certificate = openssl::openssl()?;
        of_certificate.args(["x509", "-noout", "-pubkey", "-in"]).arg(&self.certificate);
        let of_key = run(&mut of_key)?.success()?.stdout;
        assert_eq!(of_key, run(&mut of_certificate)?.success()?.stdout);
        let mode = fs::metadata(&self.key).doing("look at the key")?.permissions().mode();
        assert_eq!(mode & 0o077, 0, "mode {mode:o}");
        Ok(())
    }

    /// The certificate has these alternative names, and no others.
    fn name(&self, names: &[&str]) -> Story {
        let mut command = openssl::openssl()?;
        command.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(&self.certificate);
        let said = run(&mut command)?.success()?.stdout;
        assert_eq!(said.lines().nth(1).map(str::trim), Some(&*names.join(", ")), "{said}");
        Ok(())
    }

    fn in_pkcs12(&self, path: &Path) -> Result<String, Failure> {
        let mut command = openssl::openssl()?;
        command.args(["pkcs12", "-nodes", "-passin", &format!("pass:{PASSWORD}"), "-in"]);
        Ok(run(command.arg(path))?.success()?.stdout)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).doing(format_args!("read {}", path.display()))
}

fn write_private(path: &Path, text: &str) -> Story {
    fs::write(path, text).doing("write a password")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).doing("protect a password")
}
