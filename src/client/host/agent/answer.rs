//! Answers on the socket: to sshd, who may log in; to people, how things stand.

use std::{collections::BTreeSet, sync::Arc};

use api::ConsumeRequest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{names::Principal, ssh};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

use super::{
    super::{
        connections::Connection,
        principals::{Question, Refusal, decide},
        revocation::Closed,
        socket::{self, Answer, Ask, ConnectionStatus, Status},
    },
    Shared,
};
use crate::{error::chain, process::Process};

/// Why sshd is given no principals.
#[derive(Debug, Error)]
enum Denial {
    #[error("the certificate cannot be read")]
    Certificate(#[from] ssh::Refused),
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("the certificate is for one use, and the appliance did not grant it")]
    Consume(#[source] crate::Error),
    #[error("the certificate is not base64")]
    Encoding(#[from] base64::DecodeError),
    #[error("process {0} was not started by an sshd")]
    NoSshd(i32),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("user {0} may not ask for principals")]
    Stranger(u32),
}

impl Shared {
    /// Answers whoever connects, for ever.
    pub(super) async fn answer_all(self: Arc<Self>, listener: &UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().serve(stream))),
                // No more descriptors, for now.
                Err(_) => tokio::time::sleep(super::LOOK).await,
            }
        }
    }

    async fn serve(self: Arc<Self>, mut stream: UnixStream) {
        // Strangers are not even heard: a line that does not come costs its time.
        let answer = match self.asker(&stream) {
            Err(stranger) => Answer::Refused(stranger.to_string()),
            Ok(asker) => match socket::question(&mut stream).await {
                Err(_) => return,
                Ok(Ask::Status) => self.status(),
                Ok(Ask::Principals { user, certificate }) => {
                    self.answer_sshd(asker, &user, &certificate).await
                }
            },
        };
        // Whoever does not wait for the answer is not let in.
        let _ = socket::answer(&mut stream, &answer).await;
    }

    async fn answer_sshd(self: &Arc<Self>, asker: i32, user: &str, certificate: &str) -> Answer {
        match self.principals(asker, user, certificate).await {
            Ok(principals) => Answer::Principals(principals),
            Err(denial) => {
                let (why, key_id) = (chain(&denial), key_id(certificate));
                tracing::warn!(user, key_id, "refused: {why}");
                Answer::Refused(why)
            }
        }
    }

    async fn principals(
        self: &Arc<Self>,
        asker: i32,
        user: &str,
        certificate: &str,
    ) -> Result<BTreeSet<Principal>, Denial> {
        let sshd = sshd_behind(asker)?;
        let blob = STANDARD.decode(certificate)?;
        let certificate = ssh::Certificate::from_wire(&blob)?;
        let one_use = certificate.restrictions().one_use;
        let (principals, issuer, consumed) = self.bind(sshd, user, certificate.clone(), blob)?;
        if one_use && !consumed {
            self.consume(sshd, issuer, &certificate).await?;
        }
        Ok(principals)
    }

    /// Decides, and binds the certificate to the sshd that asks: as one, so that no revocation
    /// falls between.
    fn bind(
        self: &Arc<Self>,
        sshd: Process,
        user: &str,
        certificate: ssh::Certificate,
        blob: Vec<u8>,
    ) -> Result<(BTreeSet<Principal>, String, bool), Denial> {
        let unprivileged = unprivileged_part(sshd);
        let mut known = self.known();
        let now = self.now();
        if let Some(closed) = known.revocations.closed(now) {
            return Err(closed.into());
        }
        let issuer = known.trust.name_of(certificate.issuer()).map(str::to_owned);
        let principals = decide(&Question {
            account: user,
            certificate: &certificate,
            issuer_known: issuer.is_some(),
            revoked: known.revocations.revokes(&certificate),
            host: &self.membership.name,
            accounts: &self.config.accounts,
            now,
        })?;
        let issuer = issuer.ok_or(Refusal::UnknownIssuer)?;
        let before = known.connections.get(&sshd);
        let consumed = before.is_some_and(|it| it.consumed && it.blob == blob);
        let is_new = before.is_none();
        let connection = Connection {
            user: user.to_owned(),
            issuer: issuer.clone(),
            certificate,
            blob,
            unprivileged,
            logged_in: false,
            consumed,
        };
        known.connections.insert(sshd, connection);
        drop(known);
        self.note_connections();
        if is_new {
            tokio::spawn(self.clone().accompany(sshd));
        }
        Ok((principals, issuer, consumed))
    }

    /// Uses a one-use certificate up. sshd asks the same before and after the signature of whoever
    /// logs in: it is used up at the first question, since a client may come without that.
    async fn consume(
        &self,
        sshd: Process,
        issuer: String,
        certificate: &ssh::Certificate,
    ) -> Result<(), Denial> {
        let request = ConsumeRequest {
            issuer,
            serial: certificate.serial().get(),
            connection: self.name_of(sshd),
        };
        if let Err(error) = self.client().consume(&request).await {
            self.forget(sshd);
            return Err(Denial::Consume(error));
        }
        if let Some(connection) = self.known().connections.get_mut(&sshd)
            && connection.certificate == *certificate
        {
            connection.consumed = true;
        }
        Ok(())
    }

    /// The process that asks, if it is of an account that may: the kernel says both.
    fn asker(&self, stream: &UnixStream) -> Result<i32, Denial> {
        let credentials = stream.peer_cred().map_err(|_| Denial::NoSshd(0))?;
        if !self.askers.contains(&credentials.uid()) {
            return Err(Denial::Stranger(credentials.uid()));
        }
        credentials.pid().ok_or(Denial::NoSshd(0))
    }

    fn status(&self) -> Answer {
        let now = self.now();
        let known = self.known();
        let connections = known.connections.iter().map(|(process, it)| ConnectionStatus {
            process: process.id,
            user: it.user.clone(),
            key_id: it.certificate.key_id().to_owned(),
            issuer: it.issuer.clone(),
            serial: it.certificate.serial().get(),
            valid_before: it.certificate.valid_before(),
            logged_in: it.logged_in,
        });
        Answer::Status(Box::new(Status {
            name: self.membership.name.clone(),
            server: self.membership.server.to_string(),
            mode: self.membership.mode,
            version: known.revocations.version(),
            not_after: known.revocations.not_after(),
            last_news: known.last_news,
            closed: known.revocations.closed(now).map(|why| why.to_string()),
            problems: known.problems.iter().map(|(what, why)| format!("{what}: {why}")).collect(),
            client_certificate_not_after: known.life.not_after,
            connections: connections.collect(),
        }))
    }
}

/// The sshd that has started whoever asks: its part with privileges, which serves one connection
/// and ends with it.
fn sshd_behind(asker: i32) -> Result<Process, Denial> {
    let parent = Process::of(asker).and_then(Process::parent);
    let is_sshd = |it: &Process| it.program().is_some_and(|name| SSHD.contains(&name.as_str()));
    parent.filter(is_sshd).ok_or(Denial::NoSshd(asker))
}

/// What the log says of a certificate that was refused.
fn key_id(certificate: &str) -> String {
    let blob = STANDARD.decode(certificate).unwrap_or_default();
    ssh::Certificate::from_wire(&blob).map(|it| it.key_id().to_owned()).unwrap_or_default()
}

/// The part of sshd that speaks with those who are not let in yet. Its title ends so since
/// OpenSSH 3.2, whatever its program is called.
fn unprivileged_part(sshd: Process) -> Option<Process> {
    let is_it = |it: &Process| it.title().is_some_and(|title| title.ends_with(" [net]"));
    sshd.children().into_iter().find(is_it)
}

/// The program that serves a connection: of its own name since OpenSSH 9.8.
const SSHD: [&str; 2] = ["sshd", "sshd-session"];
