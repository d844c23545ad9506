use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream that fails when its peer takes nothing of what is written to it for `patience`.
///
/// The HTTP server bounds how long a client may take to send; this bounds how long it may take to
/// receive, and tells when it begins to wait for that and when no more.
#[derive(Debug)]
pub(super) struct Impatient<S, W> {
    stream: S,
    patience: Duration,
    waits: W,
    /// Set while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S, W: Fn(bool)> Impatient<S, W> {
    pub(super) fn new(stream: S, patience: Duration, waits: W) -> Self {
        Self { stream, patience, waits, stalled: None }
    }

    /// Passes a finished write on, and turns one that waits too long into an error.
    fn bound<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                (self.waits)(false);
            }
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| {
            (self.waits)(true);
            Box::pin(sleep(self.patience))
        });
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
    }
}

impl<S: AsyncRead + Unpin, W: Unpin> AsyncRead for Impatient<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, W: Fn(bool) + Unpin> AsyncWrite for Impatient<S, W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bound(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bound(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bound(closed, context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let (mut peer, stream) = duplex(16);
        let told = Mutex::new(Vec::new());
        let waits = |waits| told.lock().unwrap().push(waits);
        let mut stream = Impatient::new(stream, Duration::from_millis(20), waits);
        stream.write_all(&[0; 16]).await.unwrap();
        assert!(told.lock().unwrap().is_empty(), "it was taken at once");
        let (written, read) = tokio::join!(stream.write_all(&[0; 16]), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            peer.read_exact(&mut [0; 16]).await
        });
        assert!(written.is_ok() && read.is_ok());
        assert_eq!(*told.lock().unwrap(), [true, false]);
        let error = stream.write_all(&[0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
