//! Reading the ledger: on a connection of its own, which cannot write.

use pki::{seal::Kind, ssh, x509};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};

use super::{
    accounts,
    acts::{SUMMARY_COLUMNS, kind_name, optional, summary, time, variant},
    cards::{KEY_COLUMNS, read_key},
};

/// A page of certificates in the order of their release.
pub(super) fn certificates(
    sql: &Connection,
    query: &api::ListQuery,
) -> rusqlite::Result<api::CertificatePage> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST) as usize;
    let mut statement = sql.prepare_cached(&select(
        "WHERE certificates.id > :after
           AND (:kind IS NULL OR kind = :kind)
           AND (:issuer IS NULL OR issuer = :issuer)
           AND (:caller IS NULL OR caller = :caller)
         ORDER BY certificates.id LIMIT :limit",
    ))?;
    let parameters: &[(&str, &dyn ToSql)] = named_params! {
        ":after": i64::try_from(query.after.unwrap_or(0)).unwrap_or(i64::MAX),
        ":kind": query.kind.map(kind_name),
        ":issuer": query.issuer,
        ":caller": query.caller,
        // One more than asked for shows whether there is a next page.
        ":limit": limit + 1,
    };
    let rows = statement.query_map(parameters, record)?;
    let mut certificates = rows.collect::<Result<Vec<_>, _>>()?;
    let more = certificates.len() > limit;
    certificates.truncate(limit);
    let next = certificates.last().filter(|_| more).map(|last| last.id);
    Ok(api::CertificatePage { certificates, next })
}

/// One certificate.
pub(super) fn certificate(
    sql: &Connection,
    issuer: &str,
    serial: &str,
) -> rusqlite::Result<Option<api::CertificateRecord>> {
    sql.prepare_cached(&select("WHERE issuer = ?1 AND serial = ?2"))?
        .query_row((issuer, serial), record)
        .optional()
}

/// Whether there is an intent of this serial number.
pub(super) fn was_begun(sql: &Connection, issuer: &str, serial: &str) -> rusqlite::Result<bool> {
    sql.prepare_cached("SELECT 1 FROM intents WHERE issuer = ?1 AND serial = ?2")?
        .exists((issuer, serial))
}

fn select(condition: &str) -> String {
    format!(
        "SELECT certificates.id, released_at, certificate, issuer, caller, role,
                session, changes.at, code, {SUMMARY_COLUMNS}, {KEY_COLUMNS}, {account}
         FROM certificates JOIN intents ON intents.id = certificates.intent
              LEFT JOIN revocations ON revocations.intent = intents.id
              LEFT JOIN changes ON changes.id = change
              LEFT JOIN card_keys ON card_keys.intent = intents.id
              LEFT JOIN logon_accounts ON logon_accounts.intent = intents.id {condition}",
        account = accounts::COLUMNS,
    )
}

fn record(row: &Row<'_>) -> rusqlite::Result<api::CertificateRecord> {
    let summary = summary(row, 9)?;
    let certificate: Vec<u8> = row.get(2)?;
    Ok(api::CertificateRecord {
        id: row.get(0)?,
        kind: summary.kind,
        issuer: row.get(3)?,
        serial: summary.serial.to_string(),
        certificate: as_text(summary.kind, &certificate, &summary.subject),
        subject: summary.subject,
        names: summary.names,
        key_fingerprint: summary.key_fingerprint,
        not_before: summary.not_before,
        not_after: summary.not_after,
        issued_at: time(row, 1)?,
        caller: row.get(4)?,
        role: row.get(5)?,
        session: row.get(6)?,
        revoked_at: optional(row, 7, time)?,
        revocation: optional(row, 8, variant)?,
        card: optional(row, 16, read_key)?,
        account: optional(row, 23, accounts::read)?,
    })
}

/// PEM, or the line of an OpenSSH `-cert.pub` file.
fn as_text(kind: Kind, certificate: &[u8], comment: &str) -> String {
    match kind {
        Kind::SshHost | Kind::SshUser => ssh::to_openssh(certificate, comment),
        Kind::Issuing
        | Kind::Kdc
        | Kind::OcspSigner
        | Kind::Root
        | Kind::SmartcardLogon
        | Kind::TlsClient
        | Kind::TlsServer => x509::to_pem(certificate),
    }
}

const DEFAULT_LIMIT: u32 = 100;

const MOST: u32 = 1_000;
