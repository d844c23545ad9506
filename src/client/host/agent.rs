//! The agent at work: one task for each thing that can happen, all of them around what is known.

mod answer;
mod files;
mod follow;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    future::Future,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use api::{Authorities, RevocationBundle};
use jiff::Timestamp;
use pki::{clock::Clock, keys::PublicKey};
use thiserror::Error;

use super::{
    config::Config,
    connections::{Connections, Stored},
    renewal,
    reports::Reports,
    revocation::Revocations,
    socket,
    state::{AUTHORITIES, BUNDLE, CONNECTIONS, Membership, MembershipError},
    trust::Trust,
};
use crate::{
    Client, accounts,
    error::chain,
    life::{Life, chance},
    process::{Process, boot_id, end_tree},
    state::{StateDirectory, StateError},
};

/// The agent of this host.
pub struct Agent {
    shared: Arc<Shared>,
    listener: tokio::net::UnixListener,
    /// Held as long as the agent runs: there is one.
    _lock: File,
}

/// The agent cannot run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The agent's certificate, key or CA file cannot be used.
    #[error(transparent)]
    Client(#[from] crate::Error),
    /// It cannot listen.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The publication key that the host got when it joined cannot be read.
    #[error("the publication key of joined.json cannot be used: {0}")]
    PublicationKey(String),
    /// The host has not joined.
    #[error(transparent)]
    Member(#[from] MembershipError),
    /// Its state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no /proc as Linux has it.
    #[error("cannot read /proc")]
    System(#[source] io::Error),
    /// The configuration names an account that is not there.
    #[error("there is no account {0:?} (command_user)")]
    Unknown(String),
}

impl AgentError {
    /// What to do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.hint(),
            Self::Member(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Unknown(_) => Some(
                "command_user is the AuthorizedPrincipalsCommandUser of sshd_config".to_owned(),
            ),
            Self::Listen { .. } | Self::PublicationKey(_) | Self::System(_) => None,
        }
    }
}

/// What the tasks share.
struct Shared {
    config: Config,
    state: StateDirectory,
    membership: Membership,
    clock: Arc<dyn Clock>,
    /// Of this run of the machine.
    boot_id: String,
    /// Who may ask for principals: root, whoever the agent runs as, and `command_user`.
    askers: BTreeSet<u32>,
    known: Mutex<Known>,
    reports: Reports,
    /// Held while files are put right: by one at a time, the newest knowledge last.
    files: tokio::sync::Mutex<files::Written>,
}

/// What is known, seen and changed by all tasks as one.
struct Known {
    revocations: Revocations,
    trust: Trust,
    connections: Connections,
    client: Client,
    life: Life,
    /// When in it there is to be another certificate.
    due: Timestamp,
    last_news: Option<Timestamp>,
    /// What is tried in vain, by what it is.
    problems: BTreeMap<&'static str, String>,
}

impl Agent {
    /// Takes up the state where it was left: what was in force is in force again, before anything
    /// is heard of the appliance.
    ///
    /// # Errors
    ///
    /// The host has not joined, another agent runs, or a file of its state cannot be used.
    pub fn new(config: Config, clock: Arc<dyn Clock>) -> Result<Self, AgentError> {
        let state = StateDirectory::new(&config.state_directory);
        let membership = Membership::read(&state)?;
        let lock = state.lock()?;
        let askers = askers(&config.command_user)?;
        let boot_id = boot_id().map_err(AgentError::System)?;
        let known = Known::read(&state, &membership, &boot_id)?;
        let listener = socket::listen(&config.socket)
            .map_err(|source| AgentError::Listen { path: config.socket.clone(), source })?;
        let shared = Shared {
            config,
            state,
            membership,
            clock,
            boot_id,
            askers,
            known: Mutex::new(known),
            reports: Reports::default(),
            files: tokio::sync::Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), listener, _lock: lock })
    }

    /// Works until `stop` is there.
    ///
    /// # Panics
    ///
    /// Never by itself; it must run in a Tokio runtime with I/O and time.
    pub async fn run(self, ready: impl FnOnce(), stop: impl Future<Output = ()>) {
        let shared = &self.shared;
        shared.put_right().await;
        for process in shared.known().connections.keys().copied().collect::<Vec<_>>() {
            tokio::spawn(shared.clone().accompany(process));
        }
        ready();
        tokio::select! {
            () = stop => {}
            () = shared.clone().answer_all(&self.listener) => {}
            () = shared.follow() => {}
            () = shared.watch() => {}
            () = shared.renew() => {}
            () = shared.report() => {}
        }
    }
}

impl Known {
    fn read(
        state: &StateDirectory,
        membership: &Membership,
        boot_id: &str,
    ) -> Result<Self, AgentError> {
        let key = PublicKey::from_pem(&membership.publication_key)
            .map_err(|error| AgentError::PublicationKey(error.to_string()))?;
        let mut revocations = Revocations::new(membership.mode, key);
        let invalid = |name, error: &dyn std::error::Error| StateError::Invalid {
            path: state.path(name),
            what: chain(error),
        };
        if let Some(bundle) = state.read_if_present::<RevocationBundle>(BUNDLE)? {
            revocations.take(bundle).map_err(|error| invalid(BUNDLE, &error))?;
        }
        let trust = match state.read_if_present::<Authorities>(AUTHORITIES)? {
            Some(all) => Trust::of(&all).map_err(|error| invalid(AUTHORITIES, &error))?,
            None => Trust::default(),
        };
        let connections = match state.read_if_present::<Stored>(CONNECTIONS)? {
            Some(stored) => stored.live(boot_id),
            None => Connections::new(),
        };
        let client = Client::new(&membership.settings(state))?;
        let (life, due) = identity_life(state)?;
        Ok(Self {
            revocations,
            trust,
            connections,
            client,
            life,
            due,
            last_news: None,
            problems: BTreeMap::new(),
        })
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // What a task left that panicked is whole: each change is one assignment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Client {
        self.known().client.clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Says what is tried in vain when that begins, changes and ends, not each time.
    fn outcome<T, E: std::error::Error>(
        &self,
        what: &'static str,
        result: Result<T, E>,
    ) -> Option<T> {
        let mut known = self.known();
        match result {
            Ok(value) => {
                if known.problems.remove(what).is_some() {
                    tracing::info!("{what}: well again");
                }
                Some(value)
            }
            Err(error) => {
                let text = chain(&error);
                if known.problems.get(what) != Some(&text) {
                    tracing::error!("{what}: {text}");
                    known.problems.insert(what, text);
                }
                None
            }
        }
    }

    /// Looks twice a second whether all is as it should be, and mends what is not.
    async fn watch(&self) {
        let mut was_closed = None;
        loop {
            self.put_right().await;
            self.cut_what_is_over().await;
            let closed = self.known().revocations.closed(self.now());
            if closed != was_closed {
                match &closed {
                    Some(why) => tracing::warn!("closed to all certificates: {why}"),
                    None => tracing::info!("open to certificates"),
                }
                was_closed = closed;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the connections whose certificates are revoked or whose sessions are over; gives those
    /// that had been let in.
    async fn cut_what_is_over(&self) -> Vec<api::CutConnection> {
        let now = self.now();
        let over: Vec<_> = {
            let known = self.known();
            let over = known
                .connections
                .iter()
                .filter(|(_, it)| it.is_over(now) || known.revocations.revokes(&it.certificate));
            over.map(|(process, it)| (*process, it.clone())).collect()
        };
        let mut ends = tokio::task::JoinSet::new();
        for (process, _) in &over {
            ends.spawn(end_tree(*process));
        }
        ends.join_all().await;
        let mut cut = Vec::new();
        for (process, it) in over {
            self.forget(process);
            let serial = it.certificate.serial().get();
            tracing::info!(user = it.user, key_id = it.certificate.key_id(), serial, "cut");
            if it.logged_in {
                cut.push(api::CutConnection { issuer: it.issuer, serial, user: it.user });
            }
        }
        cut
    }

    /// Stays with a connection: tells when the other side was let in, and when it has gone.
    async fn accompany(self: Arc<Self>, process: Process) {
        if let Ok(Some(connection)) = process.hold() {
            let before = self.known().connections.get(&process).and_then(|it| it.unprivileged);
            if let Some(Ok(Some(part))) = before.map(Process::hold) {
                part.ended().await;
                // The part for strangers ends when they are let in, and when they have gone: then
                // the rest ends with it.
                tokio::time::sleep(AFTERMATH).await;
            }
            if process.lives() {
                self.let_in(process);
                connection.ended().await;
            }
        }
        self.forget(process);
    }

    fn let_in(&self, process: Process) {
        {
            let mut known = self.known();
            let Some(connection) = known.connections.get_mut(&process) else { return };
            if connection.logged_in {
                return;
            }
            connection.logged_in = true;
            self.reports.add(self.login(process, connection, false));
            tracing::info!(
                user = connection.user,
                key_id = connection.certificate.key_id(),
                serial = connection.certificate.serial(),
                "logged in"
            );
        }
        self.note_connections();
    }

    fn forget(&self, process: Process) {
        let gone = self.known().connections.remove(&process);
        let Some(connection) = gone else { return };
        if connection.logged_in {
            self.reports.add(self.login(process, &connection, true));
        }
        self.note_connections();
    }

    fn login(
        &self,
        process: Process,
        connection: &super::connections::Connection,
        ended: bool,
    ) -> api::Login {
        api::Login {
            connection: self.name_of(process),
            issuer: connection.issuer.clone(),
            serial: connection.certificate.serial().get(),
            user: connection.user.clone(),
            at: self.now(),
            ended,
        }
    }

    /// The host's name for a connection: no other ever has it.
    fn name_of(&self, process: Process) -> String {
        let boot: String = self.boot_id.chars().take(8).collect();
        format!("{boot}-{}-{}", process.id, process.started)
    }

    /// A full disk keeps nobody out: what is not noted is still known until the agent ends.
    fn note_connections(&self) {
        let known = self.known();
        let stored = Stored::of(&known.connections, &self.boot_id);
        // Noted under the lock, so that the last note is of the last change.
        let noted = self.state.note(CONNECTIONS, &stored);
        drop(known);
        self.outcome("noting connections", noted);
    }

    /// Tells the appliance of logins, for as long as that takes.
    async fn report(&self) {
        loop {
            let report = self.reports.next().await;
            let told = self.client().report_logins(&report).await;
            if self.outcome("reporting logins", told).is_none() {
                tokio::time::sleep(REPORT_AGAIN).await;
                continue;
            }
            let lost = self.reports.told(&report);
            if lost > 0 {
                tracing::warn!(lost, "logins were not reported: there were too many");
            }
        }
    }

    /// Renews what this host shows, and learns whose certificates it takes.
    async fn renew(&self) {
        let mut reload_owed = false;
        let mut asked: Option<Instant> = None;
        loop {
            if asked.is_none_or(|at| at.elapsed() >= AUTHORITIES_LOOK) {
                let authorities = self.learn_authorities().await;
                let learnt = self.outcome("asking for the authorities", authorities);
                asked = learnt.map(|()| Instant::now());
            }
            if self.now() >= self.known().due {
                let renewed = self.renew_identity().await;
                self.outcome("renewing the TLS certificate", renewed);
            }
            if let Some(config) = &self.config.host_certificate {
                let (client, name) = (self.client(), &self.membership.name);
                let now = self.now();
                let renewed = renewal::renew_host_certificates(&client, config, name, now).await;
                let renewed = self.outcome("renewing the host certificate", renewed);
                reload_owed |= renewed.is_some_and(|count| count > 0);
                if reload_owed {
                    let reloaded = renewal::reload(&config.reload).await;
                    reload_owed = self.outcome("reloading sshd", reloaded).is_none();
                    tracing::info!("the host certificate was renewed");
                }
            }
            tokio::time::sleep(RENEWAL_LOOK).await;
        }
    }

    async fn renew_identity(&self) -> Result<(), RenewError> {
        renewal::renew_identity(&self.client(), &self.config.client_role, &self.state).await?;
        let client = Client::new(&self.membership.settings(&self.state))?;
        let (life, due) = identity_life(&self.state)?;
        let mut known = self.known();
        (known.client, known.life, known.due) = (client, life, due);
        tracing::info!(not_after = %life.not_after, "the TLS certificate was renewed");
        Ok(())
    }

    async fn learn_authorities(&self) -> Result<(), RenewError> {
        let all = self.client().authorities().await?;
        let trust = Trust::of(&all).map_err(|error| RenewError::Authorities(error.to_string()))?;
        if self.known().trust != trust {
            self.state.store(AUTHORITIES, &all)?;
            self.known().trust = trust;
            tracing::info!("the authorities are others than before");
            self.put_right().await;
        }
        Ok(())
    }
}

/// Something was not renewed or learnt.
#[derive(Debug, Error)]
enum RenewError {
    #[error("an authority has no usable key: {0}")]
    Authorities(String),
    #[error(transparent)]
    Client(#[from] crate::Error),
    #[error(transparent)]
    Renewal(#[from] renewal::RenewalError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// The life of the agent's certificate, and when in it there is to be another.
fn identity_life(state: &StateDirectory) -> Result<(Life, Timestamp), StateError> {
    let life = renewal::identity_life(state);
    life.map(|life| (life, life.middle(chance()))).map_err(|error| StateError::Invalid {
        path: state.path(super::state::IDENTITY),
        what: chain(&error),
    })
}

fn askers(command_user: &str) -> Result<BTreeSet<u32>, AgentError> {
    let number =
        accounts::user(command_user).ok_or_else(|| AgentError::Unknown(command_user.to_owned()))?;
    Ok([0, rustix::process::geteuid().as_raw(), number].into())
}

/// Between two looks at files and connections.
const LOOK: Duration = Duration::from_millis(500);

/// Between two looks at what may need renewal.
const RENEWAL_LOOK: Duration = Duration::from_secs(15);

/// Between two questions for the authorities: they change with a ceremony.
const AUTHORITIES_LOOK: Duration = Duration::from_secs(5 * 60);

/// Between two tries to report.
const REPORT_AGAIN: Duration = Duration::from_secs(5);

/// By how much sshd's part for strangers may end before the rest.
const AFTERMATH: Duration = Duration::from_millis(5);
