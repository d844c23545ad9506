//! A TLS server that asks for client certificates and answers by script; certificates for both
//! ends, made by openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
    vec,
};

use client::profile::Settings;
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Certificates and keys in a directory of their own.
pub(crate) struct Pki(TempDir);

impl Pki {
    pub(crate) fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        pki.authority("ca");
        pki.authority("other-ca");
        pki.leaf("server", "ca", 1);
        pki.leaf("client", "ca", 1);
        pki.leaf("expired", "ca", -1);
        pki.leaf("stranger", "other-ca", 1);
        pki
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn settings(&self, server: &Server) -> Settings {
        Settings {
            server: format!("https://127.0.0.1:{}", server.port).parse().unwrap(),
            ca: self.path("ca.pem"),
            certificate: self.path("client.pem"),
            key: self.path("client.key"),
            deadline: Duration::from_secs(20),
        }
    }

    fn authority(&self, name: &str) {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = format!("/CN={name}");
        self.openssl(
            &["req", "-x509", "-days", "2", "-nodes", "-newkey", "ec"]
                .into_iter()
                .chain(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &subject])
                .chain(["-keyout", &key, "-out", &certificate])
                .collect::<Vec<_>>(),
        );
    }

    fn leaf(&self, name: &str, authority: &str, days: i32) {
        let (key, csr, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let subject = format!("/CN={name}");
        self.openssl(
            &["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
                .into_iter()
                .chain(["-subj", &subject, "-keyout", &key, "-out", &csr])
                .collect::<Vec<_>>(),
        );
        fs::write(self.path("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let days = days.to_string();
        self.openssl(
            &["x509", "-req", "-in", &csr, "-CA", &ca, "-CAkey", &ca_key]
                .into_iter()
                .chain(["-CAcreateserial", "-days", &days, "-extfile", "extensions"])
                .chain(["-out", &certificate])
                .collect::<Vec<_>>(),
        );
    }

    fn openssl(&self, arguments: &[&str]) {
        let output =
            Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Takes all connections; ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<String>,
    pub(crate) body: String,
}

impl Server {
    /// `script` has the answer to each request; an empty one ends the connection instead.
    pub(crate) async fn start(pki: &Pki, script: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let acceptor = acceptor(pki);
        let seen = requests.clone();
        tokio::spawn(async move {
            let script = Arc::new(Mutex::new(script.into_iter()));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, script, seen) = (acceptor.clone(), script.clone(), seen.clone());
                tokio::spawn(async move {
                    // A client that is refused in the handshake is the point of some tests.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &script, &seen).await;
                    }
                });
            }
        });
        Self { port, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> String {
        let value = self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        });
        value.unwrap_or_default()
    }
}

/// An HTTP answer of this status.
pub(crate) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A line of a batch's answer.
pub(crate) fn problem(index: usize, problem: &str) -> String {
    format!("{{\"index\":{index},\"status\":403,\"problem\":{problem}}}\n")
}

async fn serve(
    stream: TlsStream<TcpStream>,
    script: &Mutex<vec::IntoIter<String>>,
    seen: &Mutex<Vec<Request>>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        seen.lock().unwrap().push(request);
        let answer = script.lock().unwrap().next().expect("an unexpected request");
        if answer.is_empty() {
            return;
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

async fn read(stream: &mut BufReader<TlsStream<TcpStream>>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0);
    let mut request = Request { line, headers: lines, body: String::new() };
    let length = request.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}

fn acceptor(pki: &Pki) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&pki.path("ca.pem"))).unwrap();
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let key = PrivateKeyDer::from_pem_file(pki.path("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(vec![certificate(&pki.path("server.pem"))], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}
