//! The API server of a Kubernetes cluster, as far as a client needs one to log in: it asks for a
//! certificate and answers `GET /version`. And a client: the Python one, which Debian has; it reads
//! kubeconfigs and runs credential plugins by itself.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::json;

use crate::{
    failure::{Doing, Failure},
    peers::{file_of, peer},
    process::{Answer, run},
    server_tls::ServerTls,
};

/// An API server in this process; it ends when this value is dropped.
#[derive(Debug)]
pub struct ApiServer {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    configuration: Arc<ServerConfig>,
    /// The certificates of those who asked, in their order.
    callers: Mutex<Vec<Vec<u8>>>,
    ends: AtomicBool,
}

impl ApiServer {
    /// Listens on a loopback port that the system gives.
    ///
    /// # Errors
    ///
    /// A file cannot be used.
    pub fn start(tls: &ServerTls) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .doing("listen on the loopback interface")?;
        let port = listener.local_addr().doing("ask for the port")?.port();
        let shared = Arc::new(Shared {
            configuration: Arc::new(configuration(tls)?),
            callers: Mutex::default(),
            ends: AtomicBool::new(false),
        });
        let own = shared.clone();
        let thread = std::thread::spawn(move || own.serve(&listener));
        Ok(Self { port, shared, thread: Some(thread) })
    }

    /// Its loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificates (DER) that callers showed so far.
    pub fn callers(&self) -> Vec<Vec<u8>> {
        self.shared.callers().clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // Wakes the one who waits for a caller.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.ends.load(Ordering::SeqCst) {
                return;
            }
            // A caller that is refused, or goes away, is its own affair.
            let _ = stream.and_then(|stream| self.answer(stream));
        }
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let connection = ServerConnection::new(self.configuration.clone());
        let connection = connection.map_err(std::io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let mut head = Vec::new();
        while !matches!(head.last(), Some(line) if line == "\r\n") {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            head.push(line);
        }
        let shown = stream.get_ref().conn.peer_certificates().and_then(<[_]>::first);
        self.callers().extend(shown.map(|certificate| certificate.to_vec()));
        let (status, body) = match head.first().is_some_and(|line| line.starts_with("GET /version"))
        {
            true => (200, version()),
            false => (404, "{}".to_owned()),
        };
        let length = body.len();
        write!(
            stream.get_mut(),
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )?;
        stream.get_mut().conn.send_close_notify();
        stream.get_mut().flush()
    }

    fn callers(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the cluster of a kubeconfig for its version, as Kubernetes' Python client does.
///
/// # Errors
///
/// The client is not installed. That the server or the plugin refuses is an answer.
pub fn version_by_python(kubeconfig: &Path) -> Result<Answer, Failure> {
    file_of("python3-kubernetes", &["/usr/lib/python3/dist-packages/kubernetes/__init__.py"])?;
    // Debian's own interpreter, which has its packages; nothing of the user's.
    let mut command = Command::new(peer("python3")?);
    command.args(["-I", "-c", PYTHON]).arg(kubeconfig);
    run(&mut command)
}

fn configuration(tls: &ServerTls) -> Result<ServerConfig, Failure> {
    let chain = CertificateDer::pem_slice_iter(&read(&tls.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .doing("read the server's certificate")?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).doing("read the server's key")?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&read(&tls.client_ca)?) {
        roots.add(root.doing("read the clients' CA")?).doing("trust the clients' CA")?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .doing("ask for certificates")?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .doing("configure TLS")?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .doing("show the server's certificate")
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).doing(format_args!("read {}", path.display()))
}

/// What `kubectl version` and the Python client read.
fn version() -> String {
    json!({
        "major": "1", "minor": "31", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
    })
    .to_string()
}

/// What the server says that it is.
pub const VERSION: &str = "v1.31.0-story";

/// How long a caller may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

const PYTHON: &str = "import sys
from kubernetes import client, config
config.load_kube_config(sys.argv[1])
print(client.VersionApi().get_code().git_version)
";
