use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use axum::response::Response;
use http::Request;
use http_body_util::BodyExt;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::{
    received::Received,
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

/// The most connections of a listener that were put out and are not closed yet. Together with the
/// places, they bound its file descriptors.
pub(super) const CLOSING: usize = 32;

/// A bound address with its places for connections.
#[derive(Debug)]
pub(super) struct Listener {
    name: &'static str,
    socket: TcpListener,
    slots: Arc<Slots>,
    files: Arc<Semaphore>,
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
        let files = Arc::new(Semaphore::new(capacity + CLOSING));
        Ok(Self { name, socket, slots: Slots::new(capacity), files, stop })
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
                accepted = accept(&self.socket, &self.files) => accepted,
                () = stopped(&mut self.stop) => break,
            };
            match accepted {
                Ok((stream, peer, file)) => self.admit(stream, peer, file, &serve),
                Err(error) => {
                    // The machine is out of files or memory, or a connection ended in the queue:
                    // others have to go on before another try makes sense.
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

    fn admit<F>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        file: OwnedSemaphorePermit,
        serve: impl Fn(Connection) -> F,
    ) where
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
            // The stream has gone with the future that served it.
            drop(file);
        });
    }
}

impl Connection {
    /// Serves HTTP/1.1 over the connection's stream, or over TLS on it.
    ///
    /// A request is in flight until its answer's body has ended. HTTP/2 is not offered: its streams
    /// would need the same bounds a second time, and a batch does for signing what a multiplexed
    /// connection would do.
    pub(super) async fn serve<S, F>(
        peer: SocketAddr,
        stream: S,
        slot: Slot,
        mut stop: watch::Receiver<bool>,
        answer: impl Fn(Request<Received>) -> F,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = Result<Response, Infallible>>,
    {
        let service = service_fn(|request: Request<_>| {
            let in_flight = Arc::new(slot.begin());
            let mut request = request.map(|body| Received::new(body, in_flight.clone()));
            // For whoever lets the client wait without working for it.
            request.extensions_mut().insert(in_flight.clone());
            let answering = answer(request);
            async move {
                let hold = move |error| {
                    let _still_in_flight = &in_flight;
                    error
                };
                answering.await.map(|response| response.map(|body| body.map_err(hold)))
            }
        });
        let waits = |waits| slot.set_stalled(waits);
        let stream = TokioIo::new(Impatient::new(stream, ANSWER_PATIENCE, waits));
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

/// The next connection, once there is a file descriptor for it.
async fn accept(
    socket: &TcpListener,
    files: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let file = files.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer, file))
}

/// Waits until the appliance stops; whoever could tell so is gone only then.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, response::IntoResponse};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::JoinSet,
        time::Instant,
    };

    use super::*;
    use crate::service::{answer::Failure, body};

    const GOOD: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";

    // The clock of the runtime is paused: it jumps to the next timer as soon as nothing else can
    // be done, so that the real limits are waited for in no time.
    #[tokio::test(start_paused = true)]
    async fn every_slow_client_is_closed_in_ten_seconds_and_good_ones_are_served() {
        let (address, _stop, _server) = start(64).await;
        let slow = [
            "",
            "POST / HT",
            "POST / HTTP/1.1\r\nhost: a\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbo",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbo",
            GOOD,
        ];
        let began = Instant::now();
        let mut waiting = JoinSet::new();
        for text in slow {
            waiting.spawn(async move { (text, talk(address, text).await, began.elapsed()) });
        }
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
        while let Some(closed) = waiting.join_next().await {
            let (text, answer, after) = closed.unwrap();
            assert!(after <= Duration::from_secs(10), "{text:?} after {after:?}");
            assert_eq!(answer.starts_with("HTTP/1.1 200"), text == GOOD, "{text:?}: {answer}");
            assert_eq!(answer.starts_with("HTTP/1.1 408"), text.ends_with("bo"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_clients_make_room_for_a_good_one() {
        let (address, _stop, _server) = start(8).await;
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let began = Instant::now();
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_what_is_in_flight_has_ended() {
        let (address, stop, server) = start(8).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (head, rest) = GOOD.split_at(GOOD.len() - 2);
        stream.write_all(head.as_bytes()).await.unwrap();
        let _idle = TcpStream::connect(address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let began = Instant::now();
        stop.send(true).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        stream.write_all(rest.as_bytes()).await.unwrap();
        assert!(read(&mut stream).await.starts_with("HTTP/1.1 200"));
        server.await.unwrap();
        assert!(began.elapsed() <= Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(TcpStream::connect(address).await.is_err());
    }

    /// A listener that answers each request once its body is there.
    async fn start(
        capacity: usize,
    ) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let (stop, stopping) = watch::channel(false);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind("test", any, capacity, stopping).await.unwrap();
        let address = listener.address().unwrap();
        let server = tokio::spawn(listener.run(|connection| async {
            let stop = connection.stop();
            let Connection { stream, peer, slot, .. } = connection;
            Connection::serve(peer, stream, slot, stop, |request| async move {
                let body = body::Incoming::new(Body::new(request.into_body()), BODY_PATIENCE);
                let read = body.whole(1_000).await.map(|_| ()).map_err(Failure::from);
                Ok(read.into_response())
            })
            .await;
        }));
        (address, stop, server)
    }

    /// What comes until the connection ends.
    async fn talk(address: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(60), reading).await;
        String::from_utf8(answer).unwrap()
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(GOOD.as_bytes()).await.unwrap();
        read(&mut stream).await
    }

    async fn read(stream: &mut TcpStream) -> String {
        let mut answer = vec![0; 1_000];
        let count = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }
}
