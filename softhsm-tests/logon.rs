//! Who gives cards and who judges them: an office, and the KDC of MIT or of a Samba domain.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::json;

use crate::{
    failure::{Doing, Failure},
    kdc::Realm,
    office::{Office, with_chain},
    openssl,
    samba::{Domain, REALM},
};

/// The DNS domain of user principal names.
pub const DOMAIN: &str = "corp.example.test";

/// What a KDC has, whose certificate is by the office's role for domain controllers.
///
/// # Errors
///
/// The appliance refuses, or a file cannot be written.
pub fn realm(office: &Office) -> Result<Realm, Failure> {
    let (key, request) = (office.path("kdc.key"), office.path("kdc.csr"));
    openssl::generate("rsa:2048", &key)?;
    openssl::request(&key, "/CN=kdc", &[], &request)?;
    let csr = fs::read_to_string(&request).doing("read a request")?;
    let names = [format!("kdc.{DOMAIN}")];
    let body = json!({ "role": "domain-controller", "csr": csr, "dns_names": names });
    let issued = office.ask(office.operator(), "/v1/issue/x509", &body)?;
    let certificate = office.path("kdc.pem");
    fs::write(&certificate, with_chain(&issued)).doing("write a certificate")?;
    // A client must be able to show a TLS certificate too, so that it is the KDC that refuses it.
    let pool = office.path("pool.pem");
    let between = ["issuing.pem", "services.pem"].map(|name| fs::read(office.handoff(name)));
    let [issuing, services] = between;
    let between = [issuing.doing("read a CA")?, services.doing("read a CA")?].concat();
    fs::write(&pool, between).doing("write the CAs")?;
    Ok(Realm {
        name: REALM.to_owned(),
        upn_domain: DOMAIN.to_owned(),
        accounts: vec!["alice".to_owned(), "bob".to_owned()],
        certificate,
        key,
        root: office.handoff("root.pem"),
        pool,
        crls: None,
    })
}

/// The list of revoked cards as it is now (PEM), as a file for a KDC. Samba tells files apart by
/// whole seconds: each is dated two later than the one before.
///
/// # Errors
///
/// There is no list, or it cannot be written.
pub fn fetch_list(office: &Office, path: &Path) -> Result<(), Failure> {
    let dated = |path| fs::metadata(path).and_then(|it| it.modified());
    let before = dated(path).unwrap_or(SystemTime::UNIX_EPOCH);
    openssl::fetch_crl(office, "issuing", path)?;
    let now = dated(path).doing("read the date of a CRL")?;
    let file = File::options().write(true).open(path).doing("open a CRL")?;
    file.set_modified(now.max(before + Duration::from_secs(2))).doing("date a CRL")
}

/// Lets an office that has not begun look accounts up in a domain, which is made for it; its rules
/// pin only bob, with the SID of another domain.
///
/// # Errors
///
/// Samba is not there, or a file cannot be written.
pub fn join_domain(office: &Office) -> Result<Domain, Failure> {
    let domain = Domain::start(&office.path("domain"))?;
    let pinned = office.path("rules/accounts.toml");
    let text = fs::read_to_string(&pinned).doing("read rules")?;
    // Of the two that the stories pin: alice is the directory's alone.
    let bob = text.find("[[account]]\nupn = \"bob@").map(|at| &text[at..]);
    fs::write(&pinned, bob.unwrap_or_default()).doing("write rules")?;
    let configuration = office.path("chanceryd.toml");
    let text = fs::read_to_string(&configuration).doing("read the configuration")?;
    fs::write(&configuration, text + &domain.settings()).doing("write the configuration")?;
    Ok(domain)
}

/// The user principal name of an account.
pub fn upn(name: &str) -> String {
    format!("{name}@{DOMAIN}")
}

/// As klist writes an account's name: a UPN is an enterprise name, and the client asked for no other.
pub fn principal(name: &str) -> String {
    format!("{name}\\@{DOMAIN}@{REALM}")
}
