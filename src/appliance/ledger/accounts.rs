//! The accounts that certificates log on to, and who said which SID they have.

use api::{LogonAccount, LogonSource};
use jiff::Timestamp;
use rusqlite::{Connection, Row};

use super::acts::{optional, parsed, time};

/// Writes down whose account an intent is for.
pub(super) fn insert(
    sql: &Connection,
    intent: i64,
    account: &LogonAccount,
) -> rusqlite::Result<()> {
    let (entry, asked_at) = match &account.source {
        LogonSource::Directory { entry, asked_at } => (Some(entry), Some(*asked_at)),
        LogonSource::Rules {} => (None, None),
    };
    sql.prepare_cached(
        "INSERT INTO logon_accounts (intent, upn, sid, entry, asked_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((
        intent,
        account.upn.as_str(),
        account.sid.as_str(),
        entry,
        asked_at.map(Timestamp::as_millisecond),
    ))?;
    Ok(())
}

/// The columns of `logon_accounts` that [`read`] reads, in its order.
pub(super) const COLUMNS: &str =
    "logon_accounts.upn, logon_accounts.sid, logon_accounts.entry, logon_accounts.asked_at";

/// Reads an account from [`COLUMNS`] that begin at column `at`.
pub(super) fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<LogonAccount> {
    let entry: Option<String> = row.get(at + 2)?;
    let source = match (entry, optional(row, at + 3, time)?) {
        (Some(entry), Some(asked_at)) => LogonSource::Directory { entry, asked_at },
        _ => LogonSource::Rules {},
    };
    let (upn, sid) = (parsed(row, at, str::parse)?, parsed(row, at + 1, str::parse)?);
    Ok(LogonAccount { upn, sid, source })
}
