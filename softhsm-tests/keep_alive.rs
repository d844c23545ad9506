//! One keep-alive connection: HTTP/1.1 over TLS, as little of it as the appliance's answers need.

use std::{io, net::SocketAddr};

use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    failure::{Doing, Failure},
    https::Https,
};

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    /// Bytes that were read and not yet consumed.
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects and shakes hands.
    ///
    /// # Errors
    ///
    /// Nobody listens, or the handshake fails.
    pub async fn open(
        connector: &TlsConnector,
        address: SocketAddr,
        name: ServerName<'static>,
    ) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await.doing("connect")?;
        stream.set_nodelay(true).doing("set TCP_NODELAY")?;
        let stream = connector.connect(name, stream).await.doing("shake hands")?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Connects to the server of a client.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn to(https: &Https) -> Result<Self, Failure> {
        let connector = TlsConnector::from(https.configuration());
        Self::open(&connector, https.address(), https.name()).await
    }

    /// Sends a whole request and waits for its answer.
    ///
    /// # Errors
    ///
    /// The server hangs up, or its answer cannot be read.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        self.stream.write_all(request).await.doing("send a request")?;
        self.stream.flush().await.doing("send a request")?;
        let head = self.head().await.doing("read an answer")?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Failure::new("an answer without status").said(&head))?;
        let length = if status == 204 { Length::Fixed(0) } else { Length::of(&head)? };
        let body = match length {
            Length::Fixed(length) => self.take(length).await,
            Length::Chunked => self.chunks().await,
        }
        .doing("read an answer")?;
        Ok(Answer { status, body })
    }

    /// Everything up to the empty line.
    async fn head(&mut self) -> io::Result<String> {
        let end = self.find(b"\r\n\r\n").await?;
        let head = self.take(end + 4).await?;
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// RFC 9112 section 7.1, without trailers.
    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = self.find(b"\r\n").await?;
            let line = self.take(end + 2).await?;
            let size = std::str::from_utf8(&line)
                .ok()
                .and_then(|line| usize::from_str_radix(line.trim_end(), 16).ok())
                .ok_or_else(|| io::Error::other("a chunk without a size"))?;
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    /// Where `wanted` begins in the buffer.
    async fn find(&mut self, wanted: &[u8]) -> io::Result<usize> {
        let mut from = 0;
        loop {
            let found = self.buffer[from..].windows(wanted.len()).position(|bytes| bytes == wanted);
            if let Some(at) = found {
                return Ok(from + at);
            }
            from = self.buffer.len().saturating_sub(wanted.len() - 1);
            self.read().await?;
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.read().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A request that gets a resource.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// A request with a JSON body.
pub fn post(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What the appliance answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body of an answer of success.
    ///
    /// # Errors
    ///
    /// It is another one: the failure holds the body.
    pub fn success(self) -> Result<Vec<u8>, Failure> {
        match self.status {
            200..300 => Ok(self.body),
            status => Err(Failure::new(format!("the appliance answered {status}"))
                .said(String::from_utf8_lossy(&self.body))),
        }
    }
}

/// How long a body is.
enum Length {
    Chunked,
    Fixed(usize),
}

impl Length {
    fn of(head: &str) -> Result<Self, Failure> {
        for line in head.lines().skip(1) {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                return value.trim().parse().map(Self::Fixed).doing("read Content-Length");
            }
            if name.eq_ignore_ascii_case("transfer-encoding") {
                return Ok(Self::Chunked);
            }
        }
        Err(Failure::new("an answer of unknown length").said(head))
    }
}
