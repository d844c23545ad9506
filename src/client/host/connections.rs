//! Who is logged in by which certificate: sshd processes, and what they were let in for.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use pki::ssh::Certificate;
use serde::{Deserialize, Serialize};

use super::principals::session_of;
use crate::process::Process;

/// An sshd process and the certificate that it asked about last: the one that lets in, since sshd
/// asks again right before it does.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// The account.
    pub(super) user: String,
    /// The name of the authority that signed.
    pub(super) issuer: String,
    pub(super) certificate: Certificate,
    /// Its wire form.
    pub(super) blob: Vec<u8>,
    /// The part of sshd that serves those who are not let in yet.
    pub(super) unprivileged: Option<Process>,
    /// Whether the other side was let in.
    pub(super) logged_in: bool,
    /// Whether a one-use certificate was used up for it.
    pub(super) consumed: bool,
}

impl Connection {
    /// Whether its time is over. Only a session's end ends what goes on: of any other certificate,
    /// the end is that of logging in.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        session_of(self.certificate.key_id()).is_some() && now >= self.certificate.valid_before()
    }
}

/// Connections by the process that serves them.
pub(super) type Connections = BTreeMap<Process, Connection>;

/// What outlives the agent.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    /// Of which run of the machine it speaks.
    boot_id: String,
    connections: Vec<StoredConnection>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct StoredConnection {
    process: Process,
    unprivileged: Option<Process>,
    user: String,
    issuer: String,
    /// Base64 of its wire form.
    certificate: String,
    logged_in: bool,
    consumed: bool,
}

impl Stored {
    pub(super) fn of(connections: &Connections, boot_id: &str) -> Self {
        let connections = connections.iter().map(|(process, it)| StoredConnection {
            process: *process,
            unprivileged: it.unprivileged,
            user: it.user.clone(),
            issuer: it.issuer.clone(),
            certificate: STANDARD.encode(&it.blob),
            logged_in: it.logged_in,
            consumed: it.consumed,
        });
        Self { boot_id: boot_id.to_owned(), connections: connections.collect() }
    }

    /// Those whose processes still run, in the same run of the machine.
    pub(super) fn live(self, boot_id: &str) -> Connections {
        if self.boot_id != boot_id {
            return Connections::new();
        }
        let live = self.connections.into_iter().filter(|it| it.process.lives());
        live.filter_map(|it| {
            let blob = STANDARD.decode(&it.certificate).ok()?;
            let connection = Connection {
                user: it.user,
                issuer: it.issuer,
                certificate: Certificate::from_wire(&blob).ok()?,
                blob,
                unprivileged: it.unprivileged,
                logged_in: it.logged_in,
                consumed: it.consumed,
            };
            Some((it.process, connection))
        })
        .collect()
    }
}
