//! The clocks of a caller's connection.
//!
//! 1. While no request is open, the connection stands idle for `idle_timeout` at most; from the first byte of
//!    a head to its last it may take `header_timeout`, and a new connection begins with that clock.
//! 2. While a request is open, reading is not timed here: the request's body has its own clock.
//! 3. Over HTTP/2 bytes come that belong to no head, such as pings: they neither begin the clock of a head nor
//!    begin that of an idle connection anew.
//! 4. A write that makes no progress for `write_timeout` ends the connection.
//!
//! hyper's own `header_read_timeout` is one clock for a slow head and for an idle connection, and knows
//! nothing of the preface of HTTP/2; here they are told apart below HTTP, by whether requests are open. A
//! clock is looked at only where the socket has nothing to give, so a busy connection pays nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Limits;

/// What the socket and the requests of one connection know of each other.
#[derive(Clone)]
pub(super) struct Pace {
    limits: Limits,
    requests: Arc<Requests>,
}

struct Requests {
    /// Those whose head was read; never falls.
    begun: AtomicU64,
    /// Those whose answer was written or dropped; never more than `begun`.
    ended: AtomicU64,
    /// Whether they came over HTTP/2.
    multiplexed: AtomicBool,
    opened: Instant,
    /// When the last of them ended, in microseconds after `opened`.
    last_end: AtomicU64,
}

impl Requests {
    /// Since when none is open, if that is so.
    fn idle_since(&self) -> Option<Instant> {
        // The end is counted after its time is noted.
        let idle = self.ended.load(Ordering::Acquire) == self.begun.load(Ordering::Acquire);
        idle.then(|| self.opened + Duration::from_micros(self.last_end.load(Ordering::Acquire)))
    }
}

/// Keeps its request open until dropped.
pub(super) struct Busy(Arc<Requests>);

impl Pace {
    pub(super) fn new(limits: Limits) -> Self {
        let requests = Requests {
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            opened: Instant::now(),
            last_end: AtomicU64::new(0),
        };
        Self {
            limits,
            requests: Arc::new(requests),
        }
    }

    /// A request's head was read.
    pub(super) fn request_begins(&self, version: Version) -> Busy {
        if version == Version::HTTP_2 {
            self.requests.multiplexed.store(true, Ordering::Relaxed);
        }
        self.requests.begun.fetch_add(1, Ordering::Release);
        Busy(Arc::clone(&self.requests))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let micros = u64::try_from(self.0.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.last_end.fetch_max(micros, Ordering::Release);
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

pin_project! {
    /// An answer's body; its request is open as long as it lives.
    pub(super) struct BusyBody<B> {
        #[pin]
        body: B,
        busy: Busy,
    }
}

impl<B> BusyBody<B> {
    pub(super) fn new(body: B, busy: Busy) -> Self {
        Self { body, busy }
    }
}

impl<B: Body<Data = Bytes>> Body for BusyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the reader waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The next request.
    ForRequest,
    /// The rest of a head.
    ForHead { since: Instant },
}

pin_project! {
    /// A socket under the clocks of a [`Pace`].
    pub(super) struct PacedIo<T> {
        #[pin]
        io: T,
        pace: Pace,
        waiting: Waiting,
        // `begun` at the last look: a request that began since ends the wait.
        seen: u64,
        read_clock: Option<Pin<Box<Sleep>>>,
        write_clock: Option<Pin<Box<Sleep>>>,
    }
}

impl<T> PacedIo<T> {
    pub(super) fn new(io: T, pace: Pace) -> Self {
        let waiting = Waiting::ForHead {
            since: Instant::now(),
        };
        Self {
            io,
            pace,
            waiting,
            seen: 0,
            read_clock: None,
            write_clock: None,
        }
    }
}

impl<T: AsyncRead> AsyncRead for PacedIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let requests = &this.pace.requests;
        let begun = requests.begun.load(Ordering::Acquire);
        if begun != *this.seen {
            *this.seen = begun;
            *this.waiting = Waiting::ForRequest;
        }
        if let Poll::Ready(read) = this.io.poll_read(cx, buf) {
            if *this.waiting == Waiting::ForRequest
                && requests.idle_since().is_some()
                && !requests.multiplexed.load(Ordering::Relaxed)
            {
                *this.waiting = Waiting::ForHead {
                    since: Instant::now(),
                };
            }
            return Poll::Ready(read);
        }
        loop {
            let Limits {
                header_timeout,
                idle_timeout,
                ..
            } = this.pace.limits;
            let idle_since = requests.idle_since();
            let deadline = match (idle_since, &this.waiting) {
                // A request is open: look again later, as nothing else may wake us when it ends. A clock that runs
                // is left to ring.
                (None, _) => match this.read_clock {
                    Some(clock) if !clock.is_elapsed() => clock.deadline(),
                    Some(_) | None => Instant::now() + idle_timeout,
                },
                (Some(since), Waiting::ForRequest) => since + idle_timeout,
                (Some(_), Waiting::ForHead { since }) => *since + header_timeout,
            };
            ready!(look(this.read_clock, deadline, cx));
            if idle_since.is_some() && deadline <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
    }
}

/// Ready when `clock` rings, at `deadline` or before it; a clock that would ring in time is left as it is.
fn look(clock: &mut Option<Pin<Box<Sleep>>>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let clock = clock.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
    if clock.is_elapsed() || clock.deadline() > deadline {
        clock.as_mut().reset(deadline);
    }
    clock.as_mut().poll(cx)
}

/// Times a write that waits: `clock` runs from the first wait to the next progress.
fn stalled<R>(
    outcome: Poll<io::Result<R>>,
    clock: &mut Option<Pin<Box<Sleep>>>,
    limit: Duration,
    cx: &mut Context<'_>,
) -> Poll<io::Result<R>> {
    if outcome.is_ready() {
        *clock = None;
        return outcome;
    }
    let clock = clock.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
    clock
        .as_mut()
        .poll(cx)
        .map(|()| Err(io::ErrorKind::TimedOut.into()))
}

impl<T: AsyncWrite> AsyncWrite for PacedIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        stalled(
            this.io.poll_write(cx, buf),
            this.write_clock,
            this.pace.limits.write_timeout,
            cx,
        )
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        stalled(
            this.io.poll_write_vectored(cx, bufs),
            this.write_clock,
            this.pace.limits.write_timeout,
            cx,
        )
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        stalled(
            this.io.poll_flush(cx),
            this.write_clock,
            this.pace.limits.write_timeout,
            cx,
        )
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        stalled(
            this.io.poll_shutdown(cx),
            this.write_clock,
            this.pace.limits.write_timeout,
            cx,
        )
    }
}
