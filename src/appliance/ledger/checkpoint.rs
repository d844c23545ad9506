//! Copies the write-ahead log back into the database beside the writer, so that a commit does not
//! wait for it.
//!
//! A checkpoint that SQLite makes in a commit holds that commit up for as long as it takes to copy and
//! sync megabytes. This one (PASSIVE) works while the writer goes on; what is left for the writer is
//! the last step, when next to nothing remains to be copied: to begin the log anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;

/// A handle on the thread; it ends with it.
pub(super) struct Checkpointer {
    /// `None` only while it is dropped.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread asks the writer for.
#[derive(Debug, Default)]
pub(super) struct Due {
    wrote: AtomicBool,
    anew: AtomicBool,
}

impl Due {
    /// The writer has committed.
    pub(super) fn wrote(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// Before its next transaction, the writer copies the rest, if the log is to begin anew.
    pub(super) fn finish(&self, connection: &Connection) -> rusqlite::Result<()> {
        if self.anew.swap(false, Ordering::Relaxed) {
            checkpoint(connection)?;
        }
        Ok(())
    }
}

impl Checkpointer {
    pub(super) fn start(connection: Connection, due: Arc<Due>) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel::<()>(0);
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if due.wrote.swap(false, Ordering::Relaxed) {
                    copy(&connection, &due);
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn copy(connection: &Connection, due: &Due) {
    // The second time for what was written during the first.
    let copied = checkpoint(connection).and_then(|pages| match pages {
        ENOUGH.. => checkpoint(connection),
        pages => Ok(pages),
    });
    match copied {
        Ok(pages) => due.anew.store(pages >= ENOUGH, Ordering::Relaxed),
        // The writer finds out by itself what cannot be written, and SQLite makes a checkpoint of its
        // own in the end.
        Err(error) => tracing::warn!(%error, "the ledger's write-ahead log is not copied back"),
    }
}

/// Copies what can be copied without waiting for anybody; gives the pages that the log has.
fn checkpoint(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
        .query_row((), |row| row.get::<_, i64>(1))
}

/// How often it is looked whether anything was written.
const EVERY: Duration = Duration::from_millis(250);

/// So many pages, 32 MiB of 8 KiB each, and the log begins anew.
const ENOUGH: i64 = 4_096;
