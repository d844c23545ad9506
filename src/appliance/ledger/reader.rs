//! The one reader: answers queries in the order in which they come, on a thread of its own.
//!
//! There is one connection to read with, so that more threads would only wait for each other.

use std::{
    io,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{LedgerError, unavailable};

/// A handle on the reader's thread; the thread ends with it.
pub(super) struct Reader {
    /// `None` only while it is dropped.
    queries: Option<SyncSender<Query>>,
    thread: Option<JoinHandle<()>>,
}

type Query = Box<dyn FnOnce(&Connection) + Send>;

impl Reader {
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (queries, waiting) = sync_channel::<Query>(QUEUE);
        let thread = thread::Builder::new().name("ledger reader".to_owned()).spawn(move || {
            for query in waiting {
                query(&connection);
            }
        })?;
        Ok(Self { queries: Some(queries), thread: Some(thread) })
    }

    /// What the query finds; nothing is asked for who no longer waits.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, receiver) = oneshot::channel();
        let query = Box::new(move |connection: &Connection| {
            if !answer.is_closed() {
                let _ = answer.send(query(connection));
            }
        });
        let queries = self.queries.as_ref().ok_or_else(gone)?;
        queries.try_send(query).map_err(|error| match error {
            TrySendError::Disconnected(_) => gone(),
            TrySendError::Full(_) => {
                LedgerError::Unavailable(format!("{QUEUE} queries wait already"))
            }
        })?;
        receiver.await.map_err(|_| gone())?.map_err(unavailable)
    }

    /// Whether it still answers.
    pub(super) fn healthy(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.queries = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gone() -> LedgerError {
    LedgerError::Unavailable("its reader has ended".to_owned())
}

/// How many queries may wait.
const QUEUE: usize = 4_096;
