//! Listeners, TLS, callers, and the endpoints.
//!
//! A connection takes a straight line too: a place is taken (`slots`), TLS shows who is there
//! (`tls`, `caller`), HTTP/1.1 is served within its limits (`connection`), and each request
//! is routed, read, performed and answered (`api`, `batch`; `public` for what anybody may know).
//! What goes wrong becomes an answer in one place (`problem`).

mod access;
mod answer;
mod api;
mod batch;
mod body;
mod bots;
mod caller;
mod cards;
mod connection;
mod fleet;
mod hosts;
mod join;
mod limits;
mod metrics;
mod ocsp;
mod openapi;
mod problem;
mod public;
mod received;
mod revocations;
mod secret;
mod slots;
mod stall;
mod tls;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::api::Problem;
use axum::Router;
use governor::clock::MonotonicClock;
use http::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pki::{
    clock::Clock,
    names::{DnsName, SpiffeId},
    x509,
};
use thiserror::Error;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub use self::tls::TlsError;
use self::{
    caller::{Peer, Stranger},
    connection::{Connection, HANDSHAKE_PATIENCE, Listener},
    fleet::Fleet,
    limits::Limits,
    ocsp::Ocsp,
    tls::OwnCertificate,
};
use crate::{
    authority::{Authority, spiffe_id},
    config::Config,
    directory::Hook,
    join::Proofs,
    launcher::Launcher,
    ledger::{Event, Ledger, LedgerError},
    policy::{Rules, RulesError},
    publisher::{OfflineCrlError, OfflineCrls, Press, PublishError, Publisher},
    signing::Signing,
    start::{StartError, Started},
};

/// The most connections to each listener, however many file descriptors there are: each costs
/// memory.
const API_CONNECTIONS: u64 = 2_048;
const PUBLIC_CONNECTIONS: u64 = 512;

/// File descriptors that are no connections: ledger, audit log, token worker, sockets that are
/// being closed.
const RESERVED_FILES: u64 = 128;

/// How often it is looked for sessions that are over. Until one is ended its certificates are not
/// revoked, but they have expired, and none is given.
const LOOK_FOR_DUE: Duration = Duration::from_millis(250);

/// Says where the appliance listens, in its state directory.
const LISTENING: &str = "listening.json";

/// What the appliance is told while it runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// Read the rules anew.
    Reload,
    /// Stop accepting, finish what is in flight, end.
    Stop,
}

/// The service cannot start, or had to stop.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An audit record cannot be written.
    #[error("the start cannot be recorded")]
    Ledger(#[from] LedgerError),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The metrics cannot be set up.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// There is no key for the challenges of those who join.
    #[error("the system gave no random numbers")]
    Random,
    /// What was taken back cannot be published.
    #[error("what was taken back cannot be published")]
    Publish(#[from] PublishError),
    /// A list of an offline CA cannot be kept.
    #[error("a revocation list cannot be given out")]
    OfflineCrl(#[from] OfflineCrlError),
    /// Ledger, token or authority cannot be stood up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The file that says where it listens cannot be written.
    #[error("cannot write {path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be stood up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Serves until it is told to stop. Once it listens, `listening.json` in the state directory says
/// where, and systemd is told.
///
/// # Errors
///
/// It cannot start; see [`ServeError`].
pub async fn serve(
    config: Config,
    launchers: Vec<Launcher>,
    clock: Arc<dyn Clock>,
    mut signals: mpsc::Receiver<Signal>,
) -> Result<(), ServeError> {
    // 1 Bind, before the token is touched: two appliances on one address are found out first.
    let metrics = metrics::recorder()?;
    let (stop, stopping) = watch::channel(false);
    let room = room();
    let api = listen("api", config.listen.api, room.0, &stopping).await?;
    let public = listen("public", config.listen.public, room.1, &stopping).await?;
    let slots = [("api", api.slots()), ("public", public.slots())];
    forget_listening(&config.state_directory)?;

    // 2 Stand up rules, ledger, token and authority; say so.
    let started = tokio::select! {
        started = Started::new(&config, launchers, clock) => started?,
        () = told_to_stop(&mut signals) => return Ok(()),
    };
    let rules_digest = started.rules_digest.clone();
    let offline_crls = started.offline_crls.clone();
    let (service, press) = Service::new(&config, started, stopping.clone()).await?;
    let service = Arc::new(service);
    let tls = tls::server_config(
        &service.authorities,
        &config.tls,
        service.own_certificate.clone(),
        service.clock.clone(),
    )?;
    service.ledger.record(Event::RulesLoaded { digest: rules_digest }).await?;
    service.give_out(&config, offline_crls).await?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    service.ledger.record(Event::Started { version }).await?;
    announce(&config.state_directory, &api, &public)?;

    // 3 Serve.
    let fresh = tokio::spawn(keep_fresh(service.clone(), config.tls.clone()));
    let due = tokio::spawn(end_due_sessions(service.clone()));
    let answering = tokio::spawn({
        let service = service.clone();
        async move { service.ocsp.keep_fresh(&service).await }
    });
    let publishing = tokio::spawn(press.run(service.publisher.clone()));
    let hook = service.authority.directory().map(|directory| {
        let hook = Hook::new(directory.clone());
        tokio::spawn(hook.run(service.ledger.clone(), service.clock.clone()))
    });
    let upkeep = tokio::spawn(keep_tidy(service.clone(), metrics.clone()));
    let acceptor = TlsAcceptor::from(tls);
    let public_router = public::router(service.clone(), metrics, slots);
    let api = tokio::spawn(api.run({
        let routers = Routers {
            callers: api::router(service.clone()),
            strangers: join::router(service.clone()),
        };
        let service = service.clone();
        move |connection| serve_api(service.clone(), routers.clone(), acceptor.clone(), connection)
    }));
    let public =
        tokio::spawn(public.run(move |connection| serve_public(public_router.clone(), connection)));
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Reload => service.reload(&config).await,
            Signal::Stop => break,
        }
    }

    // 4 Stop.
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    let _ = stop.send(true);
    let _ = tokio::join!(api, public);
    due.abort();
    hook.inspect(JoinHandle::abort);
    fresh.abort();
    answering.abort();
    publishing.abort();
    upkeep.abort();
    if let Err(error) = service.ledger.record(Event::Stopped {}).await {
        tracing::error!(%error, "the stop cannot be recorded");
    }
    forget_listening(&config.state_directory)
}

/// What every request needs.
struct Service {
    authorities: ::api::Authorities,
    authority: Authority,
    batch_windows: Semaphore,
    /// PEM of the CA certificates that go with a certificate, by issuer.
    chains: BTreeMap<String, Vec<String>>,
    /// X.509 authorities whose client certificates are accepted.
    client_authorities: Arc<[String]>,
    clock: Arc<dyn Clock>,
    fleet: Fleet,
    ledger: Ledger,
    limits: Limits,
    ocsp: Ocsp,
    own_certificate: Arc<OwnCertificate>,
    proofs: Proofs,
    publisher: Arc<Publisher>,
    signing: Signing,
    /// Turns true when the appliance stops.
    stop: watch::Receiver<bool>,
    trust_domain: DnsName,
}

impl Service {
    /// With the task that goes on publishing what is published first here: an issuer's list is
    /// there before the appliance has its own certificate.
    async fn new(
        config: &Config,
        started: Started,
        stop: watch::Receiver<bool>,
    ) -> Result<(Self, Press), ServeError> {
        let Started { authority, clock, ledger, signing, .. } = started;
        let signers = authority.signers().map_err(StartError::from)?;
        let (key, issuers) = (signers.publication.clone(), signers.x509.clone());
        let (publisher, press) = Publisher::start(
            signers,
            config.revocation,
            ledger.clone(),
            signing.clone(),
            clock.clone(),
        )
        .await?;
        let authorities = authority.authorities();
        let chains = authorities.authorities.iter().filter_map(|found| match found {
            ::api::Authority::X509 { name, .. } => {
                let chain = authority.chain(name).iter().map(|der| x509::to_pem(der)).collect();
                Some((name.clone(), chain))
            }
            _ => None,
        });
        let ocsp = Ocsp::new(key, issuers, &authority, clock.now()).await;
        let service = Self {
            chains: chains.collect(),
            client_authorities: config.tls.client_authorities.clone().into(),
            own_certificate: OwnCertificate::issue(&authority, &config.tls).await?,
            authorities,
            authority,
            batch_windows: Semaphore::new(batch::ALL_WINDOWS),
            clock,
            fleet: Fleet::new(ledger.hosts().await?),
            ledger,
            limits: Limits::new(&config.limits, MonotonicClock),
            ocsp,
            proofs: Proofs::new().map_err(|_| ServeError::Random)?,
            publisher,
            signing,
            stop,
            trust_domain: config.trust_domain.clone(),
        };
        Ok((service, press))
    }

    /// Waits until the appliance stops: whoever waits for news then is sent away.
    async fn stopping(&self) {
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// The SPIFFE id of a host.
    fn host_id(&self, host: &DnsName) -> Result<SpiffeId, Problem> {
        spiffe_id(&self.trust_domain, "host", host.as_str()).map_err(|error| {
            tracing::error!(%error, %host, "a host has no SPIFFE id");
            problem::internal()
        })
    }

    /// Records that somebody came whom TLS let in and who is no caller. If it cannot be recorded,
    /// that is the answer.
    async fn refuse(&self, peer: &Peer, problem: Problem) -> Problem {
        let event = Event::Denied {
            caller: peer.name().to_owned(),
            operation: "connect".to_owned(),
            reason: problem.reason.clone().unwrap_or_default(),
            detail: problem.detail.clone(),
        };
        match self.ledger.record(event).await {
            Ok(()) => problem,
            Err(error) => error.into(),
        }
    }

    /// Whether nothing is missing to sign, and what is missing, or not as it should be.
    fn readiness(&self) -> (bool, Vec<String>) {
        let mut reasons = Vec::new();
        if !self.ledger.healthy() {
            reasons.push("ledger or audit log cannot be written".to_owned());
        }
        if self.own_certificate.not_after().is_none_or(|end| end < self.clock.now()) {
            reasons.push("the appliance's own TLS certificate has expired".to_owned());
        }
        let (published, remarks) = self.publisher.health(self.clock.now());
        let ready = reasons.is_empty() && published && self.signing.signs();
        reasons.extend(remarks);
        reasons.extend(self.signing.states().filter_map(|(token, state)| state.remark(token)));
        (ready, reasons)
    }

    /// Takes new rules if the whole set is valid and its loading is recorded; else the old stay.
    async fn reload(&self, config: &Config) {
        match self.read_rules(config).await {
            Ok(digest) => tracing::info!(digest, "the rules were read anew"),
            Err(error) => tracing::error!(
                error = crate::describe(&*error),
                "the new rules are refused; the ones before stay in force"
            ),
        }
        match self.read_offline_crls(config).await {
            Ok(()) => {}
            Err(ServeError::OfflineCrl(error)) => tracing::error!(
                error = crate::describe(&error),
                hint = error.hint(),
                "the lists of offline CAs are refused; the ones before are given out"
            ),
            Err(error) => tracing::error!(
                error = crate::describe(&error),
                "the lists of offline CAs cannot be recorded; the ones before are given out"
            ),
        }
    }

    async fn read_offline_crls(&self, config: &Config) -> Result<(), ServeError> {
        let (config, handoff) = (config.clone(), self.authority.handoff().clone());
        let read = {
            let config = config.clone();
            move || OfflineCrls::read(&config, &handoff)
        };
        let lists = tokio::task::spawn_blocking(read).await.map_err(PublishError::from)??;
        self.give_out(&config, lists).await
    }

    /// Gives out lists of offline CAs: those that are new are recorded and kept before.
    async fn give_out(&self, config: &Config, lists: OfflineCrls) -> Result<(), ServeError> {
        for (name, list) in lists.news() {
            let event = Event::OfflineCrlLoaded {
                name: name.clone(),
                number: list.number,
                sha256: hex::encode(list.artefact.sha256),
            };
            self.ledger.record(event).await?;
        }
        lists.keep(config)?;
        lists.tell(self.clock.now());
        self.publisher.set_offline(lists);
        Ok(())
    }

    async fn read_rules(&self, config: &Config) -> Result<String, Box<dyn std::error::Error>> {
        let directory = config.rules.clone();
        let read = tokio::task::spawn_blocking(move || Rules::read(&directory)).await?;
        let makers = self.authority.makers();
        let rules = read.and_then(|rules| rules.bind(self.authority.handoff())?.trust(makers));
        let rules = rules.map_err(Box::<RulesError>::new)?;
        rules.check_directory(config.directory.as_ref()).map_err(Box::<RulesError>::new)?;
        let digest = rules.digest().to_owned();
        self.ledger.record(Event::RulesLoaded { digest: digest.clone() }).await?;
        self.authority.set_rules(rules);
        Ok(digest)
    }
}

/// What the API listener serves.
#[derive(Clone)]
struct Routers {
    callers: Router,
    strangers: Router,
}

/// Waits for the signal to stop; there are no rules yet to be read anew.
async fn told_to_stop(signals: &mut mpsc::Receiver<Signal>) {
    while let Some(Signal::Reload) = signals.recv().await {}
}

async fn serve_api(
    service: Arc<Service>,
    routers: Routers,
    acceptor: TlsAcceptor,
    connection: Connection,
) {
    let stop = connection.stop();
    let Connection { stream, peer: address, slot, .. } = connection;
    let stream = match tokio::time::timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            metrics::handshake_failed("refused");
            tracing::info!(peer = %address, %error, "a TLS handshake was refused");
            return;
        }
        // Port scanners and health checks of load balancers: not worth a line each.
        Ok(Err(_)) => return metrics::handshake_failed("broken"),
        Err(_) => return metrics::handshake_failed("timeout"),
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer =
        certificates.first().map(|it| Arc::new(Peer::new(it, address, &service.trust_domain)));
    let fingerprint = peer.as_ref().map_or(Stranger::FINGERPRINT, |peer| peer.fingerprint);
    if !slot.identify(fingerprint) {
        tracing::info!(peer = %address, "one client has a quarter of all connections");
        return;
    }
    // Who is a stranger reaches another router, and nothing in it can take it for a caller.
    match peer {
        Some(peer) => {
            let router = TowerToHyperService::new(routers.callers);
            let answer = |mut request: Request<_>| {
                request.extensions_mut().insert(peer.clone());
                router.call(request)
            };
            Connection::serve(address, stream, slot, stop, answer).await;
        }
        None => {
            let router = TowerToHyperService::new(routers.strangers);
            let answer = |mut request: Request<_>| {
                request.extensions_mut().insert(Stranger { address });
                router.call(request)
            };
            Connection::serve(address, stream, slot, stop, answer).await;
        }
    }
}

async fn serve_public(router: Router, connection: Connection) {
    let stop = connection.stop();
    let Connection { stream, peer: address, slot, .. } = connection;
    let router = TowerToHyperService::new(router);
    let answer = |mut request: Request<_>| {
        request.extensions_mut().insert(Stranger { address });
        router.call(request)
    };
    Connection::serve(address, stream, slot, stop, answer).await;
}

async fn listen(
    name: &'static str,
    address: SocketAddr,
    capacity: usize,
    stop: &watch::Receiver<bool>,
) -> Result<Listener, ServeError> {
    Listener::bind(name, address, capacity, stop.clone())
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

async fn keep_fresh(service: Arc<Service>, tls: crate::config::Tls) {
    service.own_certificate.keep_fresh(&service.authority, &tls, &*service.clock).await;
}

/// Ends sessions when their time is over or nobody needs them any more.
async fn end_due_sessions(service: Arc<Service>) {
    loop {
        tokio::time::sleep(LOOK_FOR_DUE).await;
        if let Err(error) = service.authority.end_due_sessions().await {
            tracing::error!(
                error = crate::describe(&error),
                "sessions that are over cannot be ended"
            );
        }
    }
}

async fn keep_tidy(service: Arc<Service>, recorder: metrics_exporter_prometheus::PrometheusHandle) {
    loop {
        tokio::time::sleep(metrics::UPKEEP).await;
        recorder.run_upkeep();
        service.limits.forget_idle();
    }
}

/// Places for connections to the API and to the public listener: as many as file descriptors
/// allow, after the limit was raised as far as it may be.
fn room() -> (usize, usize) {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let places = files.unwrap_or(u64::MAX).saturating_sub(RESERVED_FILES).max(8);
    let api = (places / 4 * 3).min(API_CONNECTIONS);
    let public = (places / 4).min(PUBLIC_CONNECTIONS);
    let count = |places| usize::try_from(places).unwrap_or(8);
    (count(api), count(public))
}

/// Takes away what an appliance has left, in order or not: nobody listens there.
fn forget_listening(directory: &Path) -> Result<(), ServeError> {
    let path = directory.join(LISTENING);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ServeError::State { path, source })
        }
        _ => Ok(()),
    }
}

/// Says where it listens: to whoever looks into the state directory, and to systemd.
fn announce(directory: &Path, api: &Listener, public: &Listener) -> Result<(), ServeError> {
    let path = directory.join(LISTENING);
    let write = || {
        let (api, public) = (api.address()?, public.address()?);
        let text = serde_json::json!({ "api": api, "public": public }).to_string();
        let unfinished = path.with_extension("json.new");
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, &path)?;
        tracing::info!(%api, %public, "listening");
        Ok(())
    };
    write().map_err(|source| ServeError::State { path: path.clone(), source })?;
    notify(&[sd_notify::NotifyState::Ready]);
    Ok(())
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
