//! A stream that gives up on peers who do nothing: no first request, nothing taken of what is written, or megabytes
//! sent without asking for anything (floods of HTTP/2 PING and SETTINGS frames, endless WebSocket messages).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes that a peer may send after a request's head: the largest body, its frames, and ample control frames.
const UNASKED_BYTES_MAX: usize = 4 << 20;

/// What the connection's requests tell its stream.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    started: AtomicBool,
    unasked: AtomicUsize,
}

impl Pulse {
    /// Notes that a request arrived.
    pub(super) fn beat(&self) {
        self.started.store(true, Ordering::Relaxed);
        self.unasked.store(0, Ordering::Relaxed);
    }
}

/// A stream with those limits.
pub(super) struct Guarded<S> {
    stream: S,
    pulse: Arc<Pulse>,
    /// Until the first request. Hyper's own timeout starts only when it knows the protocol.
    first: Option<Pin<Box<Sleep>>>,
    /// Since when the peer takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
    write_within: Duration,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, pulse: Arc<Pulse>, first_within: Duration, write_within: Duration) -> Self {
        let first = Some(Box::pin(tokio::time::sleep(first_within)));
        Self { stream, pulse, first, stuck: None, write_within }
    }

    /// Passes on what a write said, and an error when the peer has taken nothing for too long.
    fn watched<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let deadline = Instant::now() + self.write_within;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(first) = &mut this.first {
            if this.pulse.started.load(Ordering::Relaxed) {
                this.first = None;
            } else if first.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        let unasked = this.pulse.unasked.fetch_add(read, Ordering::Relaxed) + read;
        if unasked > UNASKED_BYTES_MAX {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watched(written, cx)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.watched(written, cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watched(flushed, cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watched(shut, cx)
    }
}
