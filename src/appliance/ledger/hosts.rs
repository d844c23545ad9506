//! Hosts: their join tokens, what they have in force, who is logged in there, and which one-use
//! certificates were used up.

use api::{CutConnection, Host, HostEffect, HostMode, LockTarget, Login, RevocationReason};
use jiff::Timestamp;
use pki::names::{DnsName, SpiffeId};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use super::{
    Ledger, LedgerError,
    acts::{not_json, optional, parsed, time, word},
    audit::Body,
    changes, locks,
    writer::{Batch, Failure},
};
use crate::policy::Lock;

/// A host that may join with a secret.
#[derive(Clone, Debug)]
pub struct NewHost {
    /// Its name.
    pub name: DnsName,
    /// What it does without news.
    pub mode: HostMode,
    /// SHA-256 of the secret.
    pub secret: [u8; 32],
    /// When the secret is good no more.
    pub expires_at: Timestamp,
    /// Who lets it join (SPIFFE id).
    pub by: String,
}

/// What the secret of a join token is good for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Token {
    /// To this name and for this key; also again, if the first answer was lost.
    Good {
        /// The host.
        name: DnsName,
        /// What it does without news.
        mode: HostMode,
    },
    /// For nothing: its time was over.
    Expired,
    /// For nothing: there is no such token.
    Unknown,
    /// For nothing: it was used with another key.
    Used,
}

/// That a host has a version in force.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The host.
    pub host: DnsName,
    /// The version.
    pub version: u64,
    /// When it said so.
    pub at: Timestamp,
    /// Milliseconds since the oldest change that is new to it, where that is known.
    pub after: Option<u64>,
    /// Whether the version brought it anything new; else it is not worth a record.
    pub is_news: bool,
    /// Connections that were cut for it.
    pub cut: Vec<CutConnection>,
}

/// What became of the use of a one-use certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// It is used up by this connection, now or when it was asked before.
    Granted,
    /// The certificate is revoked, over, or there is no such one.
    NotValid,
    /// Another connection had used it up.
    UsedUp,
}

impl Ledger {
    /// Lets a host join, or join again, with a secret. A secret before it is good no more.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn add_host(&self, host: NewHost) -> Result<(), LedgerError> {
        let body = body(&Act::HostAdded {
            host: host.name.as_str(),
            mode: host.mode,
            by: &host.by,
            expires_at: host.expires_at,
        })?;
        let work = move |batch: &mut Batch<'_>| {
            batch
                .sql
                .prepare_cached(
                    "INSERT INTO hosts (name, mode, secret, expires_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE
                     SET mode = ?2, secret = ?3, expires_at = ?4, key = NULL",
                )?
                .execute((
                    host.name.as_str(),
                    word(host.mode),
                    host.secret,
                    host.expires_at.as_millisecond(),
                ))?;
            Ok(batch.audit(&body)?)
        };
        self.0.writer.submit(work).await
    }

    /// Uses a join token up for this key. Whoever asks must have proven to have it: the secret alone
    /// must not use up a token of somebody else.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn use_join_token(
        &self,
        secret: [u8; 32],
        key_fingerprint: String,
        now: Timestamp,
    ) -> Result<Token, LedgerError> {
        let work = move |batch: &mut Batch<'_>| {
            let found = batch
                .sql
                .prepare_cached("SELECT name, mode, expires_at, key FROM hosts WHERE secret = ?1")?
                .query_row([secret], |row| {
                    Ok((parsed(row, 0, str::parse)?, mode(row, 1)?, time(row, 2)?, row.get(3)?))
                })
                .optional()?;
            let Some((name, mode, expires_at, key)) = found else { return Ok(Token::Unknown) };
            let key: Option<String> = key;
            match key {
                _ if expires_at < now => return Ok(Token::Expired),
                Some(key) if key != key_fingerprint => return Ok(Token::Used),
                Some(_) => {}
                None => bind(batch, &name, &key_fingerprint)?,
            }
            Ok(Token::Good { name, mode })
        };
        self.0.writer.submit(work).await
    }

    /// Records that a host has joined and got a certificate of this serial number.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn host_joined(
        &self,
        host: &DnsName,
        serial: String,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let body = body(&Act::HostJoined { host: host.as_str(), serial: &serial })?;
        let host = host.clone();
        let work = move |batch: &mut Batch<'_>| {
            batch
                .sql
                .prepare_cached("UPDATE hosts SET joined_at = ?2, last_seen = ?2 WHERE name = ?1")?
                .execute((host.as_str(), now.as_millisecond()))?;
            Ok(batch.audit(&body)?)
        };
        self.0.writer.submit(work).await
    }

    /// Forgets a host, and revokes all certificates that it asked for or that name it as their
    /// holder; gives it as it was, or nothing if there is none.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn remove_host(
        &self,
        host: &DnsName,
        id: &SpiffeId,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<Host>, LedgerError> {
        let body = body(&Act::HostRemoved { host: host.as_str(), by, reason })?;
        let (host, target) = (host.clone(), LockTarget::Spiffe(id.clone()));
        let work = move |batch: &mut Batch<'_>| {
            let Some(found) = hosts(batch.sql, Some(&host))?.pop() else { return Ok(None) };
            let its = Lock { id: 0, target, issued_before: None, expires_at: None };
            let hit = locks::certificates(batch.sql, &its, 0, now)?;
            let change = changes::change(batch, &format!("remove host {host}"), now)?;
            changes::revoke(batch, change, RevocationReason::CessationOfOperation, hit)?;
            batch
                .sql
                .prepare_cached("DELETE FROM hosts WHERE name = ?1")?
                .execute([host.as_str()])?;
            batch.audit(&body)?;
            Ok(Some(found))
        };
        self.0.writer.submit(work).await
    }

    /// All hosts, by name.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn hosts(&self) -> Result<Vec<Host>, LedgerError> {
        self.read(|sql| hosts(sql, None)).await
    }

    /// Records what a host has in force.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn applied(&self, applied: Applied) -> Result<(), LedgerError> {
        let body = body(&Act::RevocationsApplied {
            host: applied.host.as_str(),
            version: applied.version,
            after_ms: applied.after,
            cut: &applied.cut,
        })?;
        let work = move |batch: &mut Batch<'_>| {
            let (host, at) = (applied.host.as_str(), applied.at.as_millisecond());
            batch
                .sql
                .prepare_cached("UPDATE hosts SET version = ?2, last_seen = ?3 WHERE name = ?1")?
                .execute((host, applied.version, at))?;
            if applied.is_news {
                batch
                    .sql
                    .prepare_cached(
                        "INSERT INTO acknowledgements (host, version, at, cut)
                         VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (host, version) DO UPDATE SET cut = cut + ?4",
                    )?
                    .execute((host, applied.version, at, applied.cut.len() as u64))?;
                batch.audit(&body)?;
            }
            Ok(())
        };
        self.0.writer.submit(work).await
    }

    /// Where this version, or a later one, is in force: all hosts that have joined. Without a version
    /// it is nowhere. Milliseconds are counted from `since`.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn effect_on_hosts(
        &self,
        version: Option<u64>,
        since: Timestamp,
    ) -> Result<Vec<HostEffect>, LedgerError> {
        self.read(move |sql| effect_on_hosts(sql, version, since)).await
    }

    /// Records who came to a host by a certificate, and who went.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn logins(&self, host: &DnsName, logins: Vec<Login>) -> Result<(), LedgerError> {
        let bodies = logins
            .iter()
            .map(|login| body(&Act::Login { host: host.as_str(), login }))
            .collect::<Result<Vec<_>, _>>()?;
        let host = host.clone();
        let work = move |batch: &mut Batch<'_>| {
            for (login, body) in logins.iter().zip(&bodies) {
                if record_login(batch, &host, login)? {
                    batch.audit(body)?;
                }
            }
            Ok(())
        };
        self.0.writer.submit(work).await
    }

    /// Uses up a one-use certificate for a connection to a host.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub async fn consume(
        &self,
        host: &DnsName,
        wanted: api::ConsumeRequest,
        now: Timestamp,
    ) -> Result<Use, LedgerError> {
        let body = body(&Act::UsedUp {
            host: host.as_str(),
            issuer: &wanted.issuer,
            serial: wanted.serial,
            connection: &wanted.connection,
        })?;
        let host = host.clone();
        let work = move |batch: &mut Batch<'_>| {
            if !is_valid(batch.sql, &wanted, now)? {
                return Ok(Use::NotValid);
            }
            let serial = wanted.serial.to_string();
            let key = (&wanted.issuer, &serial);
            let first: Option<(String, String)> = batch
                .sql
                .prepare_cached(
                    "SELECT host, connection FROM uses WHERE issuer = ?1 AND serial = ?2",
                )?
                .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if let Some((by_host, connection)) = first {
                let again = by_host == host.as_str() && connection == wanted.connection;
                return Ok(if again { Use::Granted } else { Use::UsedUp });
            }
            batch
                .sql
                .prepare_cached(
                    "INSERT INTO uses (issuer, serial, host, connection, at)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((
                    &wanted.issuer,
                    &serial,
                    host.as_str(),
                    &wanted.connection,
                    now.as_millisecond(),
                ))?;
            batch.audit(&body)?;
            Ok(Use::Granted)
        };
        self.0.writer.submit(work).await
    }
}

/// What is recorded of hosts.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Act<'a> {
    /// An operator lets a host join.
    HostAdded { host: &'a str, mode: HostMode, by: &'a str, expires_at: Timestamp },
    /// It has joined, with this certificate.
    HostJoined { host: &'a str, serial: &'a str },
    /// A join token was used for a key.
    HostJoining { host: &'a str, key_fingerprint: &'a str },
    /// An operator has removed a host.
    HostRemoved { host: &'a str, by: &'a str, reason: &'a str },
    /// Somebody came to a host by a certificate, or went.
    Login {
        host: &'a str,
        #[serde(flatten)]
        login: &'a Login,
    },
    /// A host has news in force.
    RevocationsApplied {
        host: &'a str,
        version: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
        cut: &'a [CutConnection],
    },
    /// A one-use certificate was used.
    UsedUp { host: &'a str, issuer: &'a str, serial: u64, connection: &'a str },
}

fn body(act: &Act<'_>) -> Result<Body, LedgerError> {
    Body::of(act).map_err(not_json)
}

fn bind(batch: &mut Batch<'_>, host: &DnsName, key_fingerprint: &str) -> Result<(), Failure> {
    let body = body(&Act::HostJoining { host: host.as_str(), key_fingerprint })?;
    batch
        .sql
        .prepare_cached("UPDATE hosts SET key = ?2 WHERE name = ?1")?
        .execute((host.as_str(), key_fingerprint))?;
    Ok(batch.audit(&body)?)
}

fn hosts(sql: &Connection, only: Option<&DnsName>) -> rusqlite::Result<Vec<Host>> {
    let mut statement = sql.prepare_cached(
        "SELECT name, mode, joined_at, last_seen, version,
                (SELECT count(*) FROM logins WHERE host = name AND ended_at IS NULL)
         FROM hosts WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
    )?;
    let rows = statement.query_map([only.map(DnsName::as_str)], |row| {
        Ok(Host {
            name: parsed(row, 0, str::parse)?,
            mode: mode(row, 1)?,
            joined_at: optional(row, 2, time)?,
            last_seen: optional(row, 3, time)?,
            version: row.get(4)?,
            connections: row.get(5)?,
        })
    })?;
    rows.collect()
}

fn effect_on_hosts(
    sql: &Connection,
    version: Option<u64>,
    since: Timestamp,
) -> rusqlite::Result<Vec<HostEffect>> {
    // A host may have skipped the version that said it first.
    let mut statement = sql.prepare_cached(
        "SELECT name, last_seen, min(at), coalesce(sum(cut), 0)
         FROM hosts LEFT JOIN acknowledgements
              ON host = name AND acknowledgements.version >= ?1
         WHERE joined_at IS NOT NULL GROUP BY name ORDER BY name",
    )?;
    let rows = statement.query_map([version], |row| {
        let applied = optional(row, 2, time)?;
        Ok(HostEffect {
            host: row.get(0)?,
            last_seen: optional(row, 1, time)?,
            applied_after: applied.map(|at| milliseconds(since, at)),
            cut: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// Milliseconds from one time to a later one; 0 where clocks say otherwise.
/// Hosts on which somebody is logged in with the certificate of an intent.
pub(super) fn with_connections_of(sql: &Connection, intent: i64) -> rusqlite::Result<Vec<String>> {
    sql.prepare_cached(
        "SELECT DISTINCT host FROM logins JOIN intents USING (issuer, serial)
         WHERE intents.id = ?1 AND ended_at IS NULL",
    )?
    .query_map([intent], |row| row.get(0))?
    .collect()
}

fn milliseconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or_default()
}

/// Whether it was new.
fn record_login(batch: &Batch<'_>, host: &DnsName, login: &Login) -> rusqlite::Result<bool> {
    let (at, serial) = (login.at.as_millisecond(), login.serial.to_string());
    let changed = if login.ended {
        batch
            .sql
            .prepare_cached(
                "UPDATE logins SET ended_at = ?3
                 WHERE host = ?1 AND connection = ?2 AND ended_at IS NULL",
            )?
            .execute((host.as_str(), &login.connection, at))?
    } else {
        batch
            .sql
            .prepare_cached(
                "INSERT INTO logins (host, connection, issuer, serial, account, began_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (host, connection) DO NOTHING",
            )?
            .execute((host.as_str(), &login.connection, &login.issuer, serial, &login.user, at))?
    };
    Ok(changed > 0)
}

/// Whether it was issued, is not over, and is not revoked.
fn is_valid(
    sql: &Connection,
    wanted: &api::ConsumeRequest,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    sql.prepare_cached(
        "SELECT EXISTS (
             SELECT 1 FROM intents JOIN certificates ON certificates.intent = intents.id
             WHERE issuer = ?1 AND serial = ?2 AND kind = 'ssh_user' AND not_after >= ?3
               AND NOT EXISTS (SELECT 1 FROM revocations WHERE revocations.intent = intents.id))",
    )?
    .query_row((&wanted.issuer, wanted.serial.to_string(), now.as_millisecond()), |row| row.get(0))
}

/// What is not the one is the stricter one.
fn mode(row: &Row<'_>, at: usize) -> rusqlite::Result<HostMode> {
    let name: String = row.get(at)?;
    let best_effort = name == word(HostMode::BestEffort);
    Ok(if best_effort { HostMode::BestEffort } else { HostMode::Strict })
}
