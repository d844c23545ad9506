//! What the driver and the card say to each other.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

/// What the reader asks of a card, beside commands. A command has four bytes or more, these one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Ask {
    /// Take the power away.
    PowerOff = 0,
    /// Give power, or reset.
    PowerOn = 1,
    /// Whether a card is there, and which.
    Presence = 2,
}

impl Ask {
    /// The question that a message is; commands are `None`.
    pub fn parse(message: &[u8]) -> Option<Self> {
        match message {
            [0] => Some(Self::PowerOff),
            [1] => Some(Self::PowerOn),
            [2] => Some(Self::Presence),
            _ => None,
        }
    }
}

/// Reads one message; `None` when the other side is gone.
///
/// # Errors
///
/// The connection broke within a message.
pub fn read_message(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Writes one message.
///
/// # Errors
///
/// It is too long, or the connection broke.
pub fn write_message(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a message over 65,535 bytes"))?;
    // One write, so that nobody waits for a half of it.
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

/// The driver's side: a connection that is made when it is needed, and again after it broke.
pub(crate) struct Channel {
    path: PathBuf,
    stream: Option<UnixStream>,
}

impl Channel {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, stream: None }
    }

    /// The answer to a message; an empty one when nobody listens any longer.
    pub(crate) fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        let answer = self.try_ask(message);
        if answer.is_err() {
            self.stream = None;
        }
        answer.unwrap_or_default()
    }

    fn try_ask(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(UnixStream::connect(&self.path)?),
        };
        write_message(stream, message)?;
        read_message(stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
