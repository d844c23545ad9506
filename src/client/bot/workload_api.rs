//! The SPIFFE Workload API on a Unix socket: programs fetch their identities, and are sent the next
//! ones, without a file and without a secret of their own.
//!
//! ```text
//!   peer ── connects ──▶ kernel: user, group, process ──▶ rules ──▶ its SPIFFE ids
//!   renewal ──▶ state ──▶ every open stream of those who may have it
//! ```
//!
//! Who is asked, and for what, is the standard's ("The SPIFFE Workload API", "The SPIFFE Workload
//! Endpoint"); what carries it is gRPC ([`grpc`]), of which the two streams of X.509 are all that
//! is served: three messages of one wire type ([`message`]). A gRPC library would be nine more
//! crates beside the HTTP/2 server that is here already.

mod grpc;
mod message;
mod peer;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use http::{Method, Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pki::names::SpiffeId;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::Deserialize;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};
use zeroize::Zeroizing;

use self::{
    grpc::{Answer, Code, Status},
    message::Svid,
    peer::Peer,
    rules::{Granted, Rules},
};
use super::{
    bundle::Life,
    output::{
        ListenError, MakeError, Making,
        material::{Certified, Names},
    },
    socket::SocketFile,
};

/// `kind = "workload-api"`.
///
/// ```toml
/// socket = "/run/chancery-bot/workload.sock"
/// authorities = ["services"]                  # whose roots are the trust bundle; absent: the issuer's
///
/// [[output.rule]]                             # a peer gets what all rules that fit it give
/// spiffe_id = "spiffe://example/service/web"
/// user = "www-data"                           # by name or number; user, group or both
/// executable = "/usr/sbin/nginx"              # absent: any
/// sha256 = "9f86d081884c7d65…"                # absent: whatever is in it
/// hint = "internal"                           # for the program, if it gets several
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The socket.
    pub(super) socket: PathBuf,
    /// The X.509 authorities of the trust domain; empty for the certificates' own.
    #[serde(default)]
    authorities: BTreeSet<String>,
    /// Who gets what.
    #[serde(rename = "rule")]
    rules: Rules,
}

/// The Workload API, served until this is dropped.
#[derive(Debug)]
pub(super) struct WorkloadApi {
    shown: watch::Sender<Shown>,
    settings: Arc<Settings>,
    serving: AbortHandle,
    _file: SocketFile,
}

/// What there is to fetch.
#[derive(Clone, Debug)]
enum Shown {
    /// Nothing yet.
    Nothing,
    /// These, by their ids.
    Svids(Arc<BTreeMap<SpiffeId, Svid>>),
    /// Nothing any more: the bot is locked.
    Withdrawn,
}

impl WorkloadApi {
    /// Listens. Who asks before the first renewal is told to come again.
    pub(super) fn listen(settings: &Settings) -> Result<Self, ListenError> {
        // Whoever may connect, the kernel says who did, and the rules what they get.
        let (file, listener) = SocketFile::listen(&settings.socket, 0o666)?;
        let settings = Arc::new(settings.clone());
        let (shown, seen) = watch::channel(Shown::Nothing);
        let task = serve(listener, Arc::clone(&settings), seen);
        let serving = tokio::spawn(task).abort_handle();
        Ok(Self { shown, settings, serving, _file: file })
    }

    /// Makes a key for each SPIFFE id of the rules, has it certified, and sends it to those who may
    /// have it. If one is refused, all stay as they are.
    pub(super) async fn renew(&self, making: &Making<'_>) -> Result<Life, MakeError> {
        let mut svids = BTreeMap::new();
        let mut lives = Vec::new();
        for id in self.settings.rules.spiffe_ids() {
            let names = Names { spiffe_id: Some(id.clone()), ..Names::default() };
            let certified = Certified::new(making, names).await?;
            svids.insert(id.clone(), svid(&certified, making, &self.settings.authorities)?);
            lives.push(certified.life());
        }
        // Good as long as all are.
        let ends = lives.into_iter().min_by_key(|life| life.not_after);
        let life = ends.ok_or_else(|| MakeError::Settings("there is no rule".to_owned()))?;
        self.shown.send_replace(Shown::Svids(Arc::new(svids)));
        Ok(life)
    }

    /// Ends all streams with PERMISSION_DENIED, and answers so until the next renewal.
    pub(super) fn withdraw(&self) {
        self.shown.send_replace(Shown::Withdrawn);
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The DER of what was certified.
fn svid(
    certified: &Certified,
    making: &Making<'_>,
    authorities: &BTreeSet<String>,
) -> Result<Svid, MakeError> {
    let unusable = |error: rustls_pki_types::pem::Error| MakeError::Unusable(error.to_string());
    let key = PrivatePkcs8KeyDer::from_pem_slice(certified.key.private_pem()?.as_bytes());
    let key = key.map_err(unusable)?;
    let mut chain = Vec::new();
    for pem in std::iter::once(&certified.issued.certificate).chain(&certified.issued.chain) {
        chain.extend_from_slice(&CertificateDer::from_pem_slice(pem.as_bytes()).map_err(unusable)?);
    }
    let mut bundle = Vec::new();
    for root in CertificateDer::pem_slice_iter(certified.roots(making, authorities)?.as_bytes()) {
        bundle.extend_from_slice(&root.map_err(unusable)?);
    }
    Ok(Svid { chain, key: Zeroizing::new(key.secret_pkcs8_der().to_vec()), bundle })
}

/// Takes connections until it is dropped; then they end, too.
async fn serve(listener: UnixListener, settings: Arc<Settings>, shown: watch::Receiver<Shown>) {
    let mut connections = JoinSet::new();
    let mut open: BTreeMap<u32, Arc<()>> = BTreeMap::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, most likely: those that are open will end.
                tracing::error!(%error, "the Workload API takes no connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "a peer of the Workload API has gone before it asked");
                continue;
            }
        };
        open.retain(|_, connections| Arc::strong_count(connections) > 1);
        let counted = Arc::clone(open.entry(peer.uid).or_default());
        if Arc::strong_count(&counted) > MOST_CONNECTIONS + 1 {
            tracing::warn!(%peer, "too many connections of one user to the Workload API");
            continue;
        }
        let (settings, shown) = (Arc::clone(&settings), shown.clone());
        connections.spawn(async move {
            talk(stream, peer, settings, shown).await;
            drop(counted);
        });
    }
}

async fn talk(
    stream: UnixStream,
    peer: Peer,
    settings: Arc<Settings>,
    shown: watch::Receiver<Shown>,
) {
    let peer = Arc::new(peer);
    let service = service_fn(|request| {
        let (settings, peer, shown) = (Arc::clone(&settings), Arc::clone(&peer), shown.clone());
        async move {
            let answered = answer(request, &settings, peer, shown).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(Status::into_answer))
        }
    });
    let mut server = http2::Builder::new(TokioExecutor::new());
    server.max_concurrent_streams(MOST_STREAMS).max_header_list_size(LONGEST_HEADERS);
    // A peer that goes away, or says what is no HTTP/2, ends a connection and nothing else.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// One call. What is asked must be right before it is looked at who asks.
async fn answer(
    request: Request<Incoming>,
    settings: &Settings,
    peer: Arc<Peer>,
    shown: watch::Receiver<Shown>,
) -> Result<Response<Answer>, Status> {
    if request.method() != Method::POST || !grpc::is_call(request.headers()) {
        return Ok(grpc::no_call());
    }
    // Workload Endpoint section 6.2: browsers and the like cannot set it, so that they cannot be
    // made to ask.
    if request.headers().get(SECURITY_HEADER).is_none_or(|value| value != "true") {
        let what = format!("the header {SECURITY_HEADER}: true is missing");
        return Err(Status::new(Code::InvalidArgument, what));
    }
    let fetch = match request.uri().path() {
        "/SpiffeWorkloadAPI/FetchX509SVID" => Fetch::Svids,
        "/SpiffeWorkloadAPI/FetchX509Bundles" => Fetch::Bundles,
        path => {
            let what = format!("{path} is not served: there are X.509-SVIDs and their bundles");
            return Err(Status::new(Code::Unimplemented, what));
        }
    };
    // The messages have no fields.
    grpc::one_message(request.into_body()).await?;
    let granted = settings.rules.grant(&peer).await?;
    tracing::info!(%peer, ids = ?granted.ids(), "the Workload API serves");
    let mut rest = Stream { fetch, granted, peer, shown, sent: None, over: false };
    let first = rest.message().await?;
    let rest = stream::unfold(rest, Stream::next);
    Ok(grpc::stream(stream::iter([Ok(first)]).chain(rest)))
}

/// What a call is for.
#[derive(Clone, Copy, Debug)]
enum Fetch {
    Bundles,
    Svids,
}

/// A call that is answered again at each renewal.
struct Stream {
    fetch: Fetch,
    granted: Granted,
    peer: Arc<Peer>,
    shown: watch::Receiver<Shown>,
    /// The last message.
    sent: Option<bytes::Bytes>,
    /// The status was given: nothing follows.
    over: bool,
}

impl Stream {
    /// The next message, or why there is none.
    async fn next(mut self) -> Option<(Result<bytes::Bytes, Status>, Self)> {
        if self.over {
            return None;
        }
        let item = self.message().await;
        self.over = item.is_err();
        Some((item, self))
    }

    async fn message(&mut self) -> Result<bytes::Bytes, Status> {
        loop {
            if self.sent.is_some() {
                tokio::select! {
                    changed = self.shown.changed() => changed.map_err(|_| ending())?,
                    // A child may hold the connection still: it is not who was let in.
                    () = self.peer.ended() => return Err(denied("the process has ended")),
                }
            }
            let message = match &*self.shown.borrow_and_update() {
                Shown::Nothing => {
                    return Err(Status::new(Code::Unavailable, "there is nothing yet: come again"));
                }
                Shown::Withdrawn => return Err(denied("the bot is locked")),
                Shown::Svids(svids) => match self.fetch {
                    Fetch::Bundles => message::bundles(self.granted.of(svids)),
                    Fetch::Svids => message::svids(self.granted.of(svids)),
                },
            };
            if self.sent.as_ref() != Some(&message) {
                self.sent = Some(message.clone());
                return Ok(message);
            }
        }
    }
}

fn denied(what: &str) -> Status {
    Status::new(Code::PermissionDenied, what)
}

fn ending() -> Status {
    Status::new(Code::Unavailable, "the agent is ending: come again")
}

const SECURITY_HEADER: &str = "workload.spiffe.io";

/// Of one user: one program that connects for ever does not keep the others out.
const MOST_CONNECTIONS: usize = 64;

/// Of one connection.
const MOST_STREAMS: u32 = 16;

const LONGEST_HEADERS: u32 = 16 * 1_024;

const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
