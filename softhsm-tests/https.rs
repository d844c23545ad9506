//! An HTTP client over mutual TLS that can also behave badly: it sends what it is told to, byte by
//! byte if need be, and blocks. Well-behaved callers use `chancery`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use serde_json::Value;

use crate::{
    clock::Clock,
    failure::{Doing, Failure},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TLS client certificate with its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, followed by its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Https {
    address: SocketAddr,
    name: ServerName<'static>,
    configuration: Arc<ClientConfig>,
}

/// A TLS connection.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A request; `Host`, `Content-Length` and `Connection` are added.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.time().ok().map(UnixTime::since_unix_epoch)
    }
}

impl Https {
    /// A client that trusts `root` and shows `identity`, or nothing.
    ///
    /// # Errors
    ///
    /// A file cannot be read or does not hold what it should.
    pub fn new(
        address: SocketAddr,
        name: &str,
        root: &Path,
        identity: Option<&Identity>,
    ) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(root)? {
            roots.add(certificate).doing(format_args!("trust {}", root.display()))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .doing("configure TLS")?
            .with_root_certificates(roots);
        let configuration = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .doing(format_args!("read {}", key.display()))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, private)
                    .doing(format_args!("use {}", certificate.display()))?
            }
        };
        let name = ServerName::try_from(name.to_owned()).doing("name the server")?;
        Ok(Self { address, name, configuration: Arc::new(configuration) })
    }

    /// The same client, which judges certificates by another clock.
    #[must_use]
    pub fn by(&self, clock: &Clock) -> Self {
        let mut configuration = ClientConfig::clone(&self.configuration);
        configuration.time_provider = Arc::new(clock.clone());
        Self { configuration: Arc::new(configuration), ..self.clone() }
    }

    /// The same client, which shows another certificate: PEM of it with its chain, and of its key.
    /// It resumes nothing that others began.
    ///
    /// # Errors
    ///
    /// They are no such texts, or do not belong together.
    pub fn showing(&self, certificates: &str, key: &str) -> Result<Self, Failure> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates.as_bytes())
            .collect::<Result<_, _>>()
            .doing("read a certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).doing("read a key")?;
        let provider = self.configuration.crypto_provider();
        let certified = CertifiedKey::from_der(chain, key, provider).doing("use a certificate")?;
        let mut configuration = ClientConfig::clone(&self.configuration);
        configuration.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        configuration.resumption = Resumption::disabled();
        Ok(Self { configuration: Arc::new(configuration), ..self.clone() })
    }

    /// Where the server is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// By which name it must identify itself.
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// How to speak TLS with it: for clients that are not of this kind.
    pub fn configuration(&self) -> Arc<ClientConfig> {
        self.configuration.clone()
    }

    /// The same client of a server that was started again elsewhere.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Errors
    ///
    /// The server refuses the connection (a TLS alert is named), hangs up or is not done within
    /// half a minute. That it refuses the request is an answer.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let mut connection = self.connect()?;
        let sent = connection.write_all(&request.bytes()).and_then(|()| connection.flush());
        // A server may refuse and hang up before it has read all: its answer counts.
        match (sent, read_to_end(&mut connection)) {
            (_, Ok(bytes)) if !bytes.is_empty() => Response::parse(&bytes),
            (Err(error), _) | (Ok(()), Err(error)) => Err(error).doing(request),
            (Ok(()), Ok(_)) => Err(Failure::new(format!("{request}: the server hung up"))),
        }
    }

    /// Sends a JSON body.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn post(&self, path: &str, body: &Value) -> Result<Response, Failure> {
        let body = body.to_string();
        let headers = [("content-type", "application/json")];
        self.send(&Request { method: "POST", path, headers: &headers, body: body.as_bytes() })
    }

    /// Gets a resource.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn get(&self, path: &str) -> Result<Response, Failure> {
        self.send(&Request { method: "GET", path, headers: &[], body: b"" })
    }

    /// Opens a TCP connection on which nothing was said yet; TLS shakes hands with the first byte.
    ///
    /// # Errors
    ///
    /// Nobody listens.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)
            .doing(format_args!("connect to {}", self.address))?;
        stream.set_read_timeout(Some(PATIENCE)).doing("set a time limit")?;
        stream.set_nodelay(true).doing("set TCP_NODELAY")?;
        let tls = ClientConnection::new(self.configuration.clone(), self.name.clone())
            .doing("begin TLS")?;
        Ok(StreamOwned::new(tls, stream))
    }
}

impl Request<'_> {
    /// The request as HTTP/1.1 has it on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.path);
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        head.push_str("connection: close\r\n\r\n");
        [head.as_bytes(), self.body].concat()
    }
}

impl std::fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body)
            .doing(format_args!("read the answer {}", self.status))
            .map_err(|failure| failure.said(self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The answer, if its status is this one.
    ///
    /// # Errors
    ///
    /// It is another one: the failure holds the body.
    pub fn expect_status(self, status: u16) -> Result<Self, Failure> {
        if self.status == status {
            return Ok(self);
        }
        let what = format!("the answer is {} and should be {status}", self.status);
        Err(Failure::new(what).said(self.text()))
    }

    /// Reads an answer whose end is that of the connection.
    ///
    /// # Errors
    ///
    /// It is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let end = position(bytes, b"\r\n\r\n").ok_or_else(|| {
            Failure::new("the server hung up without an answer")
                .said(String::from_utf8_lossy(bytes))
        })?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| Failure::new("no HTTP answer").said(&head))?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let chunked = headers.iter().any(|(name, value)| {
            name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked")
        });
        let body = &bytes[end + 4..];
        let body = if chunked { join_chunks(body)? } else { body.to_vec() };
        Ok(Self { status, headers, body })
    }
}

/// RFC 9112 section 7.1, without trailers.
fn join_chunks(mut bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let broken = || Failure::new("the chunks of the answer are broken");
    let mut body = Vec::new();
    loop {
        let line = position(bytes, b"\r\n").ok_or_else(broken)?;
        let length = str::from_utf8(&bytes[..line]).ok().and_then(|text| text.split(';').next());
        let length = length.and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let length = length.ok_or_else(broken)?;
        let chunk = bytes.get(line + 2..line + 2 + length).ok_or_else(broken)?;
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunk);
        bytes = bytes.get(line + 4 + length..).ok_or_else(broken)?;
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// All that comes until the server hangs up, be it with or without a farewell.
fn read_to_end(connection: &mut Connection) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match connection.read_to_end(&mut bytes) {
        Err(error) if bytes.is_empty() => Err(error),
        _ => Ok(bytes),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.doing(format_args!("read {}", path.display()))?;
    if found.is_empty() {
        return Err(Failure::new(format!("{} holds no certificate", path.display())));
    }
    Ok(found)
}
