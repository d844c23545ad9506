//! What goes over the socket between the appliance and its token worker: frames of a length (four
//! bytes, big endian) and as many bytes.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use bytes::Bytes;
use pki::{
    keys::SignatureScheme,
    token::{KeyRef, TokenError, pkcs11::TokenIdentity},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::login::LoginFile;
use crate::{
    config::{self, Sandbox},
    sandbox::Report,
};

/// The first frame to the worker, in JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Settings {
    pub(crate) module: PathBuf,
    pub(crate) identity: TokenIdentity,
    /// Only the worker reads it.
    pub(crate) pin_file: PathBuf,
    /// The token has accepted what the PIN file holds: a login that came to no end before this
    /// one was no wrong try.
    pub(crate) pin_accepted: bool,
    /// Where logins are remembered.
    pub(crate) state_directory: PathBuf,
    /// The serial number of a replica.
    pub(crate) replica: Option<String>,
    /// The most sessions to open.
    pub(crate) sessions: u8,
    /// After how many seconds an idle session makes a call that keeps it alive.
    pub(crate) keep_alive_seconds: Option<u16>,
    /// Jobs name a key by its place here.
    pub(crate) keys: Vec<KeyRef>,
    /// All that the worker has; it inherits nothing.
    pub(crate) environment: BTreeMap<String, String>,
    /// What else the module may do.
    pub(crate) sandbox: Sandbox,
    /// What to do instead of serving jobs.
    #[serde(default)]
    pub(crate) probe: Option<Probe>,
}

/// Tell what the token is and has. Frames from the worker are then [`crate::probe::Told`], in JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Probe {
    /// How long to sign with each number of sessions; 0 measures nothing.
    pub(crate) seconds: u8,
    /// Keys to look at, after those of the settings, and not to sign with.
    pub(crate) offline: Vec<KeyRef>,
}

impl Settings {
    /// For the ceremony's token, or a replica.
    pub(crate) fn new(
        token: &config::Token,
        state_directory: &Path,
        identity: TokenIdentity,
        keys: Vec<KeyRef>,
    ) -> Self {
        let processors = || thread::available_parallelism().map_or(1, NonZero::get);
        let sessions = token.sessions.map_or_else(processors, usize::from);
        Self {
            module: token.module.clone(),
            identity,
            pin_file: token.pin_file.clone(),
            pin_accepted: false,
            state_directory: state_directory.to_owned(),
            replica: token.serial.clone(),
            sessions: u8::try_from(sessions).unwrap_or(u8::MAX),
            keep_alive_seconds: token.keep_alive_seconds,
            keys,
            environment: token.environment.clone(),
            sandbox: token.sandbox.clone(),
            probe: None,
        }
    }

    /// Where logins to this token are remembered.
    pub(crate) fn logins(&self) -> LoginFile {
        LoginFile::of(&self.state_directory, self.replica.as_deref())
    }
}

/// The first frame from the worker, when every key was found in each session.
pub(crate) type Started = Result<Ready, TokenError>;

/// What a worker has that can sign.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Ready {
    pub(crate) sessions: u8,
    pub(crate) sandbox: Report,
}

/// Frames to the worker are lists of jobs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    pub(crate) id: u32,
    pub(crate) work: Work,
}

/// What is to be signed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Work {
    pub(crate) key: u16,
    pub(crate) scheme: SignatureScheme,
    pub(crate) input: Input,
}

/// As [`pki::token::Input`], owned.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Input {
    Digest(Bytes),
    Message(Bytes),
}

/// Frames from the worker are lists of answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    pub(crate) id: u32,
    pub(crate) outcome: Result<Bytes, TokenError>,
    /// A lost session was opened anew for it.
    pub(crate) reopened: bool,
}

/// A frame with a value in it.
pub(crate) fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    frame(&postcard::to_stdvec(value).map_err(io::Error::other)?)
}

/// A frame with these bytes in it.
pub(crate) fn frame(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_LEN);
    let length = length.ok_or_else(|| invalid("the frame is too long"))?;
    Ok([&length.to_be_bytes()[..], bytes].concat())
}

/// The length that a frame's head announces.
pub(crate) fn frame_len(head: [u8; 4]) -> io::Result<usize> {
    match u32::from_be_bytes(head) {
        length @ 0..=MAX_LEN => Ok(length as usize),
        _ => Err(invalid("a frame is longer than any that is sent")),
    }
}

/// The value in a frame; nothing may follow it.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(invalid("bytes follow the value in a frame")),
        Err(error) => Err(invalid(&error.to_string())),
    }
}

/// Reads a frame; `None` when the other end closed the socket before one.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match from.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; frame_len(head)?];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a value as a frame in JSON, for what says more of itself than postcard can take.
pub(super) fn write_json(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(&serde_json::to_vec(value)?)?)
}

/// Writes a value as a frame.
pub(super) fn write(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(value)?)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Longer than any batch: 64 KiB for each job that is in flight at once.
const MAX_LEN: u32 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cross_the_socket_typed() {
        let label = "issuing/users".parse().unwrap();
        let missing = TokenError::KeyMissing { label, what: "its private half".to_owned() };
        let dead = TokenError::Context { call: "C_Sign".into(), code: "CKR_DEVICE_ERROR".into() };
        for error in [missing, dead] {
            let answers = vec![Answer { id: 7, outcome: Err(error.clone()), reopened: true }];
            let mut socket = &encode(&answers).unwrap()[..];
            let frame = read(&mut socket).unwrap().unwrap();
            let answers: Vec<Answer> = decode(&frame).unwrap();
            let crossed = answers[0].outcome.as_ref().unwrap_err();
            assert_eq!(format!("{crossed:?}"), format!("{error:?}"));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(read(&mut &[0xff; 8][..]).is_err(), "too long");
        assert!(read(&mut &[0, 0, 0, 9, 1][..]).is_err(), "cut");
        assert!(read(&mut &[][..]).unwrap().is_none());
        assert!(decode::<Vec<Answer>>(&[0, 0]).is_err(), "more than a value");
        assert!(decode::<Vec<Answer>>(&[9]).is_err(), "less than a value");
    }
}
