use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    answer::Body,
    slots::{Slot, Slots},
    stall::Impatient,
};

/// How long a TLS handshake may take.
pub(super) const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may idle, and how long the head of a request may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(8);

/// How long a client may keep the appliance waiting for a body, in all.
pub(super) const BODY_PATIENCE: Duration = Duration::from_secs(8);

/// How long a client may take nothing of an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(8);

/// How long requests in flight may take when the appliance stops.
const STOP_PATIENCE: Duration = Duration::from_secs(9);

/// The most bytes that the head of a request may have.
const HEAD_LEN: usize = 16 * 1024;

/// The most header fields that a request may have.
const HEAD_FIELDS: usize = 64;

/// A bound address with its places for connections.
#[derive(Debug)]
pub(super) struct Listener {
    name: &'static str,
    socket: TcpListener,
    slots: Arc<Slots>,
    stop: watch::Receiver<bool>,
}

/// An accepted connection with its place.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) slot: Slot,
    stop: watch::Receiver<bool>,
}

impl Listener {
    /// Binds; `name` is for the log and the metrics.
    pub(super) async fn bind(
        name: &'static str,
        address: SocketAddr,
        capacity: usize,
        stop: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { name, socket, slots: Slots::new(capacity), stop })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn slots(&self) -> Arc<Slots> {
        self.slots.clone()
    }

    /// Hands each connection to `serve` until the appliance stops, and then waits for those that
    /// still have a request in flight.
    pub(super) async fn run<F>(mut self, serve: impl Fn(Connection) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stopped(&mut self.stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &serve),
                Err(error) => {
                    // Out of file descriptors, or a connection that ended in the queue: others
                    // have to go on before another try makes sense.
                    tracing::warn!(listener = self.name, %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        drop(self.socket);
        if tokio::time::timeout(STOP_PATIENCE, self.slots.emptied()).await.is_err() {
            let connections = self.slots.len();
            tracing::warn!(listener = self.name, connections, "cut off requests in flight");
        }
    }

    fn admit<F>(&self, stream: TcpStream, peer: SocketAddr, serve: impl Fn(Connection) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Without a place, dropping the stream is the quickest refusal.
        let Some(slot) = self.slots.take() else {
            metrics::counter!("chancery_connections_refused_total", "listener" => self.name)
                .increment(1);
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let place = slot.clone();
        let serving = serve(Connection { stream, peer, slot, stop: self.stop.clone() });
        tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                () = place.evicted() => {}
            }
        });
    }
}

impl Connection {
    /// Serves HTTP/1.1 over the connection's stream, or over TLS on it.
    ///
    /// HTTP/2 is not offered: its streams would need the same bounds a second time, and a batch
    /// does for signing what a multiplexed connection would do.
    pub(super) async fn serve<S, F>(
        peer: SocketAddr,
        stream: S,
        mut stop: watch::Receiver<bool>,
        answer: impl Fn(Request<Incoming>) -> F,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = Response<Body>>,
    {
        let service = service_fn(|request| {
            let answering = answer(request);
            async move { Ok::<_, Infallible>(answering.await) }
        });
        let stream = TokioIo::new(Impatient::new(stream, ANSWER_PATIENCE));
        let mut serving = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_headers(HEAD_FIELDS)
                .max_header_size(HEAD_LEN)
                .max_buf_size(4 * HEAD_LEN)
                .pipeline_flush(true)
                .serve_connection(stream, service)
        );
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = stopped(&mut stop) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "the connection broke off");
        }
    }

    /// Tells when the appliance stops.
    pub(super) fn stop(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }
}

/// Waits until the appliance stops; whoever could tell so is gone only then.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
