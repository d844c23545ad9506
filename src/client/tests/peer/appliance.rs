//! An appliance as a host sees it: in this process, with keys in memory, told what to publish.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use api::{
    Acknowledgement, ConsumeRequest, HostMode, JoinRequest, Login, LoginReport, RevocationBundle,
    SshHostRequest, X509Request,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use pki::{
    clock::Clock,
    keys::{KeyAlgorithm, PublicKey},
    krl::Krl,
    revocation::{Bundle, Statement},
    seal::{Prepared, Sealed},
    ssh::{CriticalOptions, Issuer, Restrictions, Template, Usage, to_openssh},
    token::{
        Input, IssuingKey, KeyId, KeyRef, KeyStore as _, PublicationKey, Token as _,
        software::SoftwareToken,
    },
};
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::server::Pki;

/// The stand-in; its tasks end with the test's runtime.
#[derive(Clone)]
pub(crate) struct Appliance {
    pub(crate) port: u16,
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    /// The version in force, and whether anybody can be reached.
    view: watch::Sender<View>,
    office: Mutex<Office>,
    /// Where the TLS CA lies.
    directory: PathBuf,
}

#[derive(Clone, Copy, Default)]
struct View {
    version: u64,
    offline: bool,
}

struct Office {
    token: SoftwareToken,
    publication: PublicationKey,
    users: Issuer,
    hosts: Issuer,
    mode: HostMode,
    lifetime: SignedDuration,
    serial: u64,
    revoked: BTreeSet<u64>,
    revoked_keys: Vec<PublicKey>,
    bundle: Option<RevocationBundle>,
    acknowledged: Vec<Acknowledgement>,
    logins: Vec<Login>,
    consumed: BTreeMap<u64, String>,
    tokens: BTreeMap<String, String>,
}

/// What a certificate is to say.
pub(crate) struct Wish<'a> {
    pub(crate) principal: &'a str,
    pub(crate) session: &'a str,
    pub(crate) restrictions: Restrictions,
    pub(crate) life: SignedDuration,
}

impl Appliance {
    pub(crate) async fn start(pki: &Pki, clock: Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner {
            clock,
            view: watch::Sender::new(View::default()),
            office: Mutex::new(Office::new()),
            directory: pki.path(""),
        });
        let (acceptor, appliance) = (acceptor(pki), Self { port, inner: inner.clone() });
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, inner) = (acceptor.clone(), inner.clone());
                tokio::spawn(async move {
                    if inner.view.borrow().offline {
                        return;
                    }
                    if let Ok(stream) = acceptor.accept(stream).await {
                        inner.serve(stream).await;
                    }
                });
            }
        });
        appliance
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A token file for a host.
    pub(crate) fn join_token(&self, path: &Path, name: &str, mode: HostMode) {
        let mut office = self.office();
        office.mode = mode;
        let secret = format!("{name}-{}", office.tokens.len());
        office.tokens.insert(secret.clone(), name.to_owned());
        let expires_at = self.inner.clock.now() + SignedDuration::from_mins(30);
        let token = json!({ "name": name, "secret": secret, "expires_at": expires_at });
        fs::write(path, token.to_string()).unwrap();
    }

    /// Certifies the key of `path`.pub, and puts the certificate where ssh finds it.
    pub(crate) fn certify(&self, path: &Path, wish: &Wish<'_>) -> u64 {
        let line = fs::read_to_string(path.with_extension("pub")).unwrap();
        let now = self.inner.clock.now();
        let mut office = self.office();
        let template = Template {
            serial: office.next_serial().try_into().unwrap(),
            public_key: PublicKey::from_openssh(&line).unwrap(),
            key_id: format!("spiffe://e.example/user/alice#login{}", wish.session),
            principals: [wish.principal.parse().unwrap()].into(),
            valid_after: now - SignedDuration::from_mins(1),
            valid_before: now + wish.life,
            critical_options: CriticalOptions::default(),
            extensions: [pki::ssh::Extension::PermitPty].into(),
            restrictions: wish.restrictions.clone(),
        };
        let serial = template.serial.get();
        let prepared = office.users.prepare(template, [9; 32]).unwrap();
        let certificate = to_openssh(office.seal(prepared).bytes(), "");
        let name = format!("{}-cert.pub", path.display());
        fs::write(name, format!("{certificate}\n")).unwrap();
        serial
    }

    /// Revokes a certificate and publishes.
    pub(crate) fn revoke(&self, serial: u64) -> u64 {
        self.office().revoked.insert(serial);
        self.publish()
    }

    /// Makes the list longer by so many keys of nobody's, and publishes.
    pub(crate) fn revoke_strangers(&self, count: u8) -> u64 {
        for _ in 0..count {
            let key = key(&mut SoftwareToken::default(), "issuing/nobody", 1).public_key;
            self.office().revoked_keys.push(key);
        }
        self.publish()
    }

    /// Publishes what is revoked, as the next version.
    pub(crate) fn publish(&self) -> u64 {
        let now = self.inner.clock.now();
        let version = self.inner.view.borrow().version + 1;
        let mut office = self.office();
        let bundle = office.bundle(version, now);
        office.bundle = Some(bundle);
        drop(office);
        self.inner.view.send_modify(|view| view.version = version);
        version
    }

    /// Ends all connections and takes no more, or takes them again.
    pub(crate) fn be_offline(&self, offline: bool) {
        self.inner.view.send_modify(|view| view.offline = offline);
    }

    pub(crate) fn acknowledged(&self) -> Vec<Acknowledgement> {
        self.office().acknowledged.clone()
    }

    pub(crate) fn logins(&self) -> Vec<Login> {
        self.office().logins.clone()
    }

    /// Which connection used the certificate up.
    pub(crate) fn consumed(&self, serial: u64) -> Option<String> {
        self.office().consumed.get(&serial).cloned()
    }

    /// The public key of the CA for users, as `ssh-keygen` reads it.
    pub(crate) fn user_ca(&self) -> String {
        format!("{} users\n", self.office().users.key().key().public_key.to_openssh())
    }

    fn office(&self) -> MutexGuard<'_, Office> {
        self.inner.office.lock().unwrap()
    }
}

impl Office {
    fn new() -> Self {
        let mut token = SoftwareToken::default();
        let issuer = |key, usage| Issuer::new(IssuingKey::new(key).unwrap(), usage);
        let users = issuer(key(&mut token, "issuing/users", 1), Usage::User);
        let hosts = issuer(key(&mut token, "issuing/hosts", 2), Usage::Host);
        let publication = PublicationKey::new(key(&mut token, "publication/log", 3)).unwrap();
        Self {
            token,
            publication,
            users,
            hosts,
            mode: HostMode::Strict,
            lifetime: SignedDuration::from_mins(15),
            serial: 0,
            revoked: BTreeSet::new(),
            revoked_keys: Vec::new(),
            bundle: None,
            acknowledged: Vec::new(),
            logins: Vec::new(),
            consumed: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn bundle(&mut self, version: u64, now: Timestamp) -> RevocationBundle {
        let mut krl = Krl::new(version, now);
        let revoked = self.revoked.iter().map(|serial| (*serial).try_into().unwrap());
        krl.authority(&self.users.key().key().public_key).revoke_serials(revoked);
        for key in &self.revoked_keys {
            krl.revoke_key(key);
        }
        let krl = krl.encode().unwrap();
        let statement = Statement::of(&krl, now, now + self.lifetime).unwrap();
        let sealed = self.seal(statement.prepare(&self.publication));
        let bundle = Bundle::new(&sealed, krl).unwrap();
        RevocationBundle {
            statement: bundle.statement,
            signature: STANDARD.encode(bundle.signature),
            krl: STANDARD.encode(bundle.krl),
        }
    }

    fn seal<S>(&mut self, prepared: Prepared<S>) -> Sealed<S>
    where
        S: std::fmt::Debug,
    {
        let (key, scheme) = (prepared.key().key().clone(), prepared.scheme());
        let signature = self.token.sign(&key, scheme, Input::Message(prepared.bytes())).unwrap();
        prepared.seal(signature).unwrap()
    }
}

impl Inner {
    async fn serve(&self, stream: TlsStream<TcpStream>) {
        let known = stream.get_ref().1.peer_certificates().is_some();
        let mut stream = BufReader::new(stream);
        let mut view = self.view.subscribe();
        let talk = async {
            while let Some((line, body)) = read(&mut stream).await {
                let answer = match known || line.starts_with("POST /v1/join ") {
                    true => self.answer(&line, &body).await,
                    false => problem(403, "a certificate is needed"),
                };
                stream.write_all(answer.as_bytes()).await.ok()?;
                stream.flush().await.ok()?;
            }
            Some(())
        };
        tokio::select! {
            _ = talk => {}
            _ = view.wait_for(|view| view.offline) => {}
        }
    }

    async fn answer(&self, line: &str, body: &str) -> String {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match (method, path) {
            ("GET", "/v1/revocations") => self.revocations(query).await,
            ("GET", "/v1/authorities") => ok(&self.authorities()),
            ("POST", "/v1/join") => self.join(&serde_json::from_str(body).unwrap()),
            ("POST", "/v1/issue/ssh-host") => self.host(serde_json::from_str(body).unwrap()),
            ("POST", "/v1/issue/x509") => {
                let request: X509Request = serde_json::from_str(body).unwrap();
                ok(&self.issued(&self.sign_request(&request.csr), "2"))
            }
            ("POST", "/v1/consume") => self.consume(serde_json::from_str(body).unwrap()),
            ("POST", "/v1/logins") => {
                let report: LoginReport = serde_json::from_str(body).unwrap();
                self.office.lock().unwrap().logins.extend(report.logins);
                empty()
            }
            ("POST", "/v1/revocations/acknowledge") => {
                self.office.lock().unwrap().acknowledged.push(serde_json::from_str(body).unwrap());
                empty()
            }
            _ => panic!("an unexpected request: {line}"),
        }
    }

    async fn revocations(&self, query: &str) -> String {
        let number = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.parse::<u64>().unwrap())
        };
        let after = number("after").unwrap_or_default();
        let wait = Duration::from_secs(number("wait").unwrap_or(30));
        let mut view = self.view.subscribe();
        let newer = view.wait_for(|view| view.version > after);
        match tokio::time::timeout(wait, newer).await {
            Ok(_) => {
                let bundle = self.office.lock().unwrap().bundle.clone();
                ok(&serde_json::to_value(bundle.unwrap()).unwrap())
            }
            Err(_) => empty(),
        }
    }

    fn authorities(&self) -> serde_json::Value {
        let office = self.office.lock().unwrap();
        let line = |issuer: &Issuer| issuer.key().key().public_key.to_openssh();
        json!({ "authorities": [
            { "kind": "ssh_host", "name": "hosts", "public_key": line(&office.hosts) },
            { "kind": "ssh_user", "name": "users", "public_key": line(&office.users) },
        ] })
    }

    fn join(&self, request: &JoinRequest) -> String {
        let mut office = self.office.lock().unwrap();
        let Some(name) = office.tokens.remove(&request.secret) else {
            return problem(403, "the join token is not known, was used, or has expired");
        };
        let (mode, key) = (office.mode, office.publication.key().public_key.to_pem());
        drop(office);
        ok(&json!({
            "name": name,
            "mode": mode,
            "certificate": self.sign_request(&request.csr),
            "chain": [],
            "publication_key": key,
        }))
    }

    fn host(&self, request: SshHostRequest) -> String {
        let now = self.clock.now();
        let mut office = self.office.lock().unwrap();
        let template = Template {
            serial: office.next_serial().try_into().unwrap(),
            public_key: PublicKey::from_openssh(&request.public_key).unwrap(),
            key_id: "spiffe://e.example/host/web1.example#host".to_owned(),
            principals: request.principals,
            valid_after: now - SignedDuration::from_mins(1),
            valid_before: now + SignedDuration::from_hours(24),
            critical_options: CriticalOptions::default(),
            extensions: BTreeSet::new(),
            restrictions: Restrictions::default(),
        };
        let prepared = office.hosts.prepare(template, [7; 32]).unwrap();
        let certificate = to_openssh(office.seal(prepared).bytes(), "");
        ok(&self.issued(&certificate, "1"))
    }

    fn issued(&self, certificate: &str, serial: &str) -> serde_json::Value {
        let now = self.clock.now();
        json!({
            "kind": "ssh_host", "issuer": "hosts", "serial": serial, "not_before": now,
            "not_after": now + SignedDuration::from_hours(24), "certificate": certificate,
        })
    }

    fn consume(&self, request: ConsumeRequest) -> String {
        let mut office = self.office.lock().unwrap();
        let used = office.consumed.entry(request.serial).or_insert(request.connection.clone());
        if *used == request.connection { empty() } else { problem(403, "it was used up") }
    }

    /// The CA of the server signs what a host asks for.
    fn sign_request(&self, csr: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("csr"), csr).unwrap();
        let output = Command::new("openssl")
            .args(["x509", "-req", "-days", "1", "-set_serial", "7", "-in"])
            .arg(directory.path().join("csr"))
            .arg("-CA")
            .arg(self.directory.join("ca.pem"))
            .arg("-CAkey")
            .arg(self.directory.join("ca.key"))
            .arg("-extfile")
            .arg(self.directory.join("extensions"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn key(token: &mut SoftwareToken, label: &str, id: u8) -> KeyRef {
    let (label, id) = (label.parse().unwrap(), KeyId::new(&[id]).unwrap());
    token.generate(KeyAlgorithm::EcP256, &label, &id).unwrap().key
}

fn ok(value: &serde_json::Value) -> String {
    crate::server::answer(200, &value.to_string())
}

fn empty() -> String {
    "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
}

fn problem(status: u16, detail: &str) -> String {
    let problem = json!({
        "type": "urn:chancery:problem:denied", "title": "No rule allows this", "status": status,
        "detail": detail,
    });
    crate::server::answer(status, &problem.to_string())
}

async fn read(stream: &mut BufReader<TlsStream<TcpStream>>) -> Option<(String, String)> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if first.is_empty() {
            first = line.replacen("post ", "POST ", 1).replacen("get ", "GET ", 1);
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, String::from_utf8(body).unwrap()))
}

fn acceptor(pki: &Pki) -> TlsAcceptor {
    let certificate = |name: &str| CertificateDer::from_pem_file(pki.path(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(pki.path("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate("server.pem")], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
