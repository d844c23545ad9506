//! Gets a document from a web server: a small one, soon, and from nowhere else.

use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore, crypto::aws_lc_rs as provider, time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{certificates, unix_time};

/// `https:`, or `http:` on this machine: what goes over a network in clear can be forged there.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Url(Uri);

/// Who certifies a web server.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) enum Roots {
    /// These CAs alone.
    Given(Vec<CertificateDer<'static>>),
    /// Those of the system.
    System,
}

/// A document cannot be had, or is not what it should be.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// It is not what it should be.
    #[error("{0}")]
    Content(String),
    /// The web server cannot be reached.
    #[error("{host} cannot be reached")]
    Connect {
        /// Where.
        host: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The web server does not speak HTTP, or broke off.
    #[error("{url} does not answer as a web server does")]
    Http {
        /// What was asked for.
        url: Url,
        /// Why.
        #[source]
        error: hyper::Error,
    },
    /// It took too long.
    #[error("{0} did not answer in time")]
    Slow(Url),
    /// The web server has another answer, or leads elsewhere.
    #[error("{url} answers {status}")]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
    },
    /// There is no TLS here.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is no https:// URL");
        let uri: Uri = text.parse().map_err(|_| form())?;
        let authority = uri.authority().ok_or_else(form)?;
        // The library forgets fragments.
        if authority.as_str().contains('@') || text.contains('#') || text.len() > MAX_URL {
            return Err(form());
        }
        let url = Self(uri);
        match url.0.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => Ok(url),
            Some(scheme) if *scheme == Scheme::HTTP && url.is_loopback() => Ok(url),
            _ => Err(form()),
        }
    }

    pub(super) fn without_query(self) -> Result<Self, String> {
        match self.0.query() {
            None => Ok(self),
            Some(_) => Err(format!("{:?} has a query", self.0.to_string())),
        }
    }

    /// A path below that of this URL.
    pub(super) fn below(&self, path: &str) -> Self {
        let text = format!("{}{path}", self.0.to_string().trim_end_matches('/'));
        // The text of a URL and of a path is that of a URL.
        text.parse().map_or_else(|_| self.clone(), Self)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    fn is_loopback(&self) -> bool {
        let address = self.host().parse::<IpAddr>();
        self.host() == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// A name or an address, without brackets.
    fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Roots {
    /// Reads the CAs of a specification; without, they are those of the system.
    pub(super) fn parse(pem: Option<&str>) -> Result<Self, String> {
        let Some(pem) = pem else { return Ok(Self::System) };
        let certificates = certificates(pem)?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        Ok(Self::Given(certificates))
    }

    fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        match self {
            Self::Given(certificates) => {
                store.add_parsable_certificates(certificates.iter().cloned());
            }
            Self::System => {
                let system = rustls_native_certs::load_native_certs();
                for error in &system.errors {
                    tracing::warn!(%error, "a CA certificate of the system cannot be read");
                }
                store.add_parsable_certificates(system.certs);
            }
        }
        store
    }
}

/// Gets a document. A redirection is an answer like any other, and not what was asked for.
pub(super) async fn get(url: &Url, roots: &Roots, now: Timestamp) -> Result<Bytes, FetchError> {
    let getting = get_patiently(url, roots, now);
    timeout(PATIENCE, getting).await.unwrap_or_else(|_| Err(FetchError::Slow(url.clone())))
}

async fn get_patiently(url: &Url, roots: &Roots, now: Timestamp) -> Result<Bytes, FetchError> {
    let host = url.host().to_owned();
    let refused = |error| FetchError::Connect { host: host.clone(), error };
    let stream = TcpStream::connect((url.host(), url.port())).await.map_err(refused)?;
    if url.is_tls() {
        let name = ServerName::try_from(host.clone())
            .map_err(|error| refused(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(Arc::new(tls(roots, now)?));
        return exchange(connector.connect(name, stream).await.map_err(refused)?, url).await;
    }
    // A name of this machine may have been given another meaning.
    if !stream.peer_addr().map_err(refused)?.ip().is_loopback() {
        let elsewhere = io::Error::new(io::ErrorKind::AddrNotAvailable, "it is not this machine");
        return Err(refused(elsewhere));
    }
    exchange(stream, url).await
}

async fn exchange<S>(stream: S, url: &Url) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error| FetchError::Http { url: url.clone(), error };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = Driver(tokio::spawn(connection));
    let path = url.0.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.0.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "chanceryd")
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Content(format!("{url}: {error}")))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status { url: url.clone(), status: answer.status() });
    }
    let body = Limited::new(answer.into_body(), MAX_LEN).collect().await;
    drop(driver);
    body.map(|body| body.to_bytes()).map_err(|error| FetchError::Content(format!("{url}: {error}")))
}

/// What drives a connection; it ends with the one that waits for the answer.
struct Driver(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn tls(roots: &Roots, now: Timestamp) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(provider::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(At(now)))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots.store())
        .with_no_client_auth();
    Ok(config)
}

/// Lets TLS see the same time as everything else.
#[derive(Debug)]
struct At(Timestamp);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0))
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Octets of a document.
const MAX_LEN: usize = 256 * 1024;

/// Octets of a URL.
const MAX_URL: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_be_asked_in_clear() {
        for good in [
            "https://issuer.example",
            "https://issuer.example/acme/",
            "https://10.0.0.1:8443/",
            "http://127.0.0.1:8080/a",
            "http://[::1]:8080",
            "http://localhost",
        ] {
            assert!(Url::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "issuer.example",
            "/issuer",
            "http://issuer.example",
            "http://10.0.0.1",
            "http://localhost.issuer.example",
            "http://127.0.0.1@issuer.example",
            "https://user@issuer.example",
            "https://issuer.example/#a",
            "ftp://issuer.example",
            "https://",
            &format!("https://issuer.example/{}", "a".repeat(1024)),
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_configuration_lies_below_the_issuer() {
        for (issuer, wanted) in [
            ("https://issuer.example", "https://issuer.example/x"),
            ("https://issuer.example/", "https://issuer.example/x"),
            ("https://issuer.example:8443/a/b", "https://issuer.example:8443/a/b/x"),
        ] {
            assert_eq!(Url::parse(issuer).unwrap().below("/x").to_string(), wanted);
        }
        assert!(Url::parse("https://a.example/?b").unwrap().without_query().is_err());
    }
}
