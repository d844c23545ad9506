//! An OpenID Connect issuer of one's own: oidc-provider under Node.js, on a loopback port.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    clock::Clock,
    failure::{Doing, Failure},
    https::{Https, Identity, Request, Response},
    office::http_send,
    peers::{peer, source_tree},
    ports::on_free_port,
    process::Daemon,
};

/// What an issuer is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How it signs tokens: `ES256`, `RS256`.
    pub algorithm: &'static str,
    /// For each client, whose id is the subject of its tokens, the claims of these.
    pub clients: Value,
    /// The clock that it sees, unless it is the machine's.
    pub clock: Option<Clock>,
    /// The file of its private keys (JWK Set). It is made, unless another issuer has made it.
    pub keys: PathBuf,
    /// What it calls itself in its tokens, unless that is its own URL.
    pub name: Option<String>,
    /// Its web server has HTTPS then.
    pub tls: Option<Tls>,
}

/// HTTPS for an issuer.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// The web server's, for `localhost`.
    pub server: Identity,
}

/// A running issuer; it ends when this value is dropped.
#[derive(Debug)]
pub struct Issuer {
    daemon: Daemon,
    name: String,
    port: u16,
    tls: Option<Tls>,
}

impl Issuer {
    /// Starts an issuer with files in a new directory.
    ///
    /// # Errors
    ///
    /// Node.js or the packages of `softhsm-tests/oidc` are not installed, or it does not come up.
    pub fn start(directory: &Path, settings: &Settings) -> Result<Self, Failure> {
        fs::create_dir(directory).doing("make a directory")?;
        on_free_port(|port| {
            let scheme = if settings.tls.is_some() { "https" } else { "http" };
            let url = || format!("{scheme}://localhost:{port}");
            let name = settings.name.clone().unwrap_or_else(url);
            let started = listen(directory, settings, &name, port)?;
            let tls = settings.tls.clone();
            Ok(started.map(|daemon| Self { daemon, name, port, tls }))
        })
    }

    /// Ends it.
    pub fn stop(self) {
        self.daemon.stop();
    }

    /// What it calls itself in its tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its public keys (JWK Set), as it publishes them.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn published_keys(&self) -> Result<Value, Failure> {
        let request = Request { method: "GET", path: "/jwks", headers: &[], body: b"" };
        self.send(&request)?.expect_status(200)?.json()
    }

    /// Asks for a token of a client for an audience, which is a URI.
    ///
    /// # Errors
    ///
    /// It does not answer, or gives none.
    pub fn token(&self, client: &str, audience: &str) -> Result<String, Failure> {
        let body = format!(
            "grant_type=client_credentials&client_id={client}&client_secret={SECRET}\
             &resource={audience}"
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let request =
            Request { method: "POST", path: "/token", headers: &headers, body: body.as_bytes() };
        let answer = self.send(&request)?.expect_status(200)?.json()?;
        let token = answer["access_token"].as_str().map(str::to_owned);
        token.ok_or_else(|| Failure::new("there is no token in it").said(answer.to_string()))
    }

    fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        match &self.tls {
            Some(tls) => Https::new(address, "localhost", &tls.ca, None)?.send(request),
            None => http_send(address, request),
        }
    }
}

/// Starts the server; `None` when the port was taken meanwhile.
fn listen(
    directory: &Path,
    settings: &Settings,
    name: &str,
    port: u16,
) -> Result<Option<Daemon>, Failure> {
    let home = source_tree().join("softhsm-tests/oidc");
    if !home.join("node_modules/oidc-provider").is_dir() {
        return Err(Failure::new("oidc-provider is not installed")
            .hint("`make issuer` installs it with what it needs"));
    }
    let path = directory.join("settings.json");
    fs::write(&path, written(settings, name, port).to_string()).doing("write settings")?;
    let mut command = Command::new(peer("node")?);
    command.arg(home.join("issuer.mjs")).arg(path);
    if let Some(clock) = &settings.clock {
        clock.lend(&mut command);
    }
    let log = directory.join(format!("issuer-{port}.log"));
    let taken = "EADDRINUSE";
    let mut daemon = Daemon::start("oidc-provider", &mut command, &log)?;
    daemon.wait_until(Duration::from_secs(30), |log| {
        log.contains(taken) || log.contains("listening\n")
    })?;
    let taken = daemon.log()?.contains(taken);
    Ok((!taken).then_some(daemon))
}

fn written(settings: &Settings, name: &str, port: u16) -> Value {
    let clients = settings.clients.as_object().into_iter().flatten();
    let clients: Map<_, _> = clients
        .map(|(id, claims)| (id.clone(), json!({ "secret": SECRET, "claims": claims })))
        .collect();
    let mut written = json!({
        "issuer": name,
        "alg": settings.algorithm,
        "keys": settings.keys,
        "key_id": "k1",
        "clients": clients,
        "port": port,
    });
    if let Some(Tls { server, .. }) = &settings.tls {
        written["tls"] = json!({ "certificate": server.certificate, "key": server.key });
    }
    written
}

/// Of each client.
const SECRET: &str = "a-secret-of-the-story";
