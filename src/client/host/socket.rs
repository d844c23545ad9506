//! The Unix socket of the agent: one question and one answer a connection, each a line of JSON.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net},
    path::{Path, PathBuf},
    time::Duration,
};

use api::HostMode;
use jiff::Timestamp;
use pki::names::{DnsName, Principal};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

/// What the agent is asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// By sshd, through `chancery host principals`.
    Principals {
        /// The account to log in to (`%u`).
        user: String,
        /// The certificate, base64 (`%k`).
        certificate: String,
    },
    /// By a person or a program that watches.
    Status,
}

/// What the agent answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Who may log in.
    Principals(BTreeSet<Principal>),
    /// Nobody may; the agent's log says why, too.
    Refused(String),
    /// How things stand.
    Status(Box<Status>),
}

/// How things stand on a host.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// The host's name.
    pub name: DnsName,
    /// The appliance.
    pub server: String,
    /// What it does without news.
    pub mode: HostMode,
    /// The version of the bundle that is known; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Until when that is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// When the appliance answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_news: Option<Timestamp>,
    /// Why nobody is let in by a certificate, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// What the agent tries in vain, in its own words.
    pub problems: BTreeSet<String>,
    /// Last second of the agent's TLS certificate.
    pub client_certificate_not_after: Timestamp,
    /// Who is logged in by a certificate.
    pub connections: Vec<ConnectionStatus>,
}

/// A connection that sshd serves.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConnectionStatus {
    /// The process id of sshd.
    pub process: i32,
    /// The account.
    pub user: String,
    /// The key id of the certificate.
    pub key_id: String,
    /// The authority that signed it.
    pub issuer: String,
    /// Its serial number.
    pub serial: u64,
    /// When it ends.
    pub valid_before: Timestamp,
    /// Whether the other side was let in, or sshd has only asked.
    pub logged_in: bool,
}

/// The agent did not answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// It answered something else.
    #[error("the agent on {} does not answer as it should", .0.display())]
    Answer(PathBuf),
    /// It is not there.
    #[error("cannot ask the agent on {}", path.display())]
    Ask {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Asks the agent, and waits for its answer.
///
/// # Errors
///
/// There is no agent, or it does not answer within 15 seconds.
pub fn ask(socket: &Path, question: &Ask) -> Result<Answer, AskError> {
    let line = exchange(socket, question)
        .map_err(|source| AskError::Ask { path: socket.to_owned(), source })?;
    serde_json::from_str(&line).map_err(|_| AskError::Answer(socket.to_owned()))
}

fn exchange(socket: &Path, question: &Ask) -> io::Result<String> {
    let mut stream = net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).take(ANSWER_LEN).read_line(&mut answer)?;
    Ok(answer)
}

/// Listens for everybody: who asks is told by the kernel, for each connection.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // Whoever holds the state's lock is the only agent: an old socket is nobody's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// The question of a connection.
pub(super) async fn question(stream: &mut UnixStream) -> io::Result<Ask> {
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(stream).take(QUESTION_LEN);
    let read = reader.read_line(&mut line);
    tokio::time::timeout(QUESTION_TIME, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(serde_json::from_str(&line)?)
}

/// Answers a connection; one that has gone meanwhile needs none.
pub(super) async fn answer(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// How long a question may take: longer than the agent itself waits for the appliance, shorter
/// than sshd's LoginGraceTime.
const PATIENCE: Duration = Duration::from_secs(15);

/// Larger than the longest certificate in base64.
const QUESTION_LEN: u64 = 256 * 1024;

/// Enough for a thousand connections.
const ANSWER_LEN: u64 = 4 * 1024 * 1024;

const QUESTION_TIME: Duration = Duration::from_secs(5);
