//! The SQLite file: how it is opened, and which version of the schema it has.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use thiserror::Error;

/// Why the database cannot be opened.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    #[error("cannot create {path}: {error}")]
    Create { path: String, error: io::Error },
    #[error("{path} is a database, but not a ledger")]
    Foreign { path: String },
    #[error(
        "{path} has schema version {found}, this program knows {VERSION}; run the program that \
         wrote it, or a later one"
    )]
    Later { path: String, found: i64 },
    #[error("cannot open {path}: {error}")]
    Sql { path: String, error: rusqlite::Error },
    #[error("another process opens {path}, and does not come to an end: {error}")]
    Turn { path: String, error: io::Error },
}

/// The schema version that this program writes.
pub(super) const VERSION: i64 = 5;

/// The turn to open the database, until it is dropped.
///
/// Two processes that make it at the same moment would each wait for the other to let go of it,
/// which SQLite finds out and refuses, whatever its busy handler says.
pub(super) fn turn_to_open(path: &Path) -> Result<File, OpenError> {
    let turn = || -> io::Result<File> {
        let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
        let mut looks = 0;
        loop {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(directory),
                Err(Errno::WOULDBLOCK) if wait_for_turn(looks) => looks += 1,
                Err(error) => return Err(error.into()),
            }
        }
    };
    turn().map_err(|error| OpenError::Turn { path: path.display().to_string(), error })
}

/// Opens the database for the one writer of this process; makes it when there is none.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, OpenError> {
    let name = path.display().to_string();
    create(path).map_err(|error| OpenError::Create { path: name.clone(), error })?;
    let sql = |error| OpenError::Sql { path: name.clone(), error };
    let mut connection = Connection::open(path).map_err(sql)?;
    configure(&connection).map_err(sql)?;
    prepare_schema(&mut connection, &name)?;
    Ok(connection)
}

/// Opens a database that is there, to copy its write-ahead log back.
pub(super) fn open_for_checkpoints(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let connection = Connection::open(path)?;
        configure(&connection)?;
        Ok(connection)
    };
    open().map_err(|error| OpenError::Sql { path: path.display().to_string(), error })
}

/// Opens a database that is there, for reading.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_handler(Some(wait_for_turn))?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    };
    open().map_err(|error| OpenError::Sql { path: path.display().to_string(), error })
}

/// Makes the file readable by this user alone; SQLite gives its other files the same mode.
fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_turn))?;
    // Of a new database only. Half as many pages, each of which is written by calls of its own.
    connection.pragma_update(None, "page_size", PAGE_LEN)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Anything less loses acknowledged commits when the power fails.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // The directory of temporary files is out of reach: the sandbox has none.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Waits while another process (`chanceryd operator add`) writes; gives up after a while.
///
/// SQLite's own handler waits up to 100 ms between two looks: beside a writer that commits all the
/// time, it can miss every moment at which the database is free.
fn wait_for_turn(looks: i32) -> bool {
    thread::sleep(LOOK_AGAIN);
    looks < LOOKS
}

fn prepare_schema(connection: &mut Connection, name: &str) -> Result<(), OpenError> {
    let sql = |error| OpenError::Sql { path: name.to_owned(), error };
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    let found = transaction
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(sql)?;
    let tables = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get::<_, i64>(0))
        .map_err(sql)?;
    let wanting = match (found, tables) {
        (VERSION, _) => return Ok(()),
        (0, 0) => &SCHEMA[..],
        (0, _) => return Err(OpenError::Foreign { path: name.to_owned() }),
        (1.., _) if found < VERSION => &SCHEMA[found as usize..],
        _ => return Err(OpenError::Later { path: name.to_owned(), found }),
    };
    for step in wanting {
        transaction.execute_batch(step).map_err(sql)?;
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(sql)?;
    transaction.commit().map_err(sql)
}

/// From each version to the next.
const SCHEMA: [&str; VERSION as usize] = [
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
];

const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// About five seconds; another process writes for milliseconds at most.
const LOOKS: i32 = 2_500;

const PAGE_LEN: i64 = 8 * 1024;

/// 256 MiB: in a commit, only when nobody else has copied the log back.
const CHECKPOINT_PAGES: i64 = 256 * 1024 * 1024 / PAGE_LEN;

const CACHE_KIB: i64 = 16 * 1024;
