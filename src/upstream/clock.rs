//! The wait for an answer's head over HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// `taken` while it is the caller who makes upstream wait.
const CALLER: u64 = u64::MAX;

/// Rings when upstream has let a whole timeout pass since it took the last part of the request.
#[derive(Clone)]
pub(super) struct ResponseClock(Arc<Inner>);

struct Inner {
    started: Instant,
    timeout: Duration,
    /// When upstream took the last part of the request, in microseconds after `started`.
    taken: AtomicU64,
}

impl ResponseClock {
    /// A clock of a request that is sent now.
    pub(super) fn new(timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            timeout,
            taken: AtomicU64::new(0),
        }))
    }

    /// Waits until the clock rings.
    pub(super) async fn rings(&self) {
        let mut deadline = self.0.started + self.0.timeout;
        loop {
            tokio::time::sleep_until(deadline).await;
            let taken = self.0.taken.load(Ordering::Relaxed);
            let since = if taken == CALLER {
                Instant::now()
            } else {
                self.0.started + Duration::from_micros(taken)
            };
            deadline = since + self.0.timeout;
            if deadline <= Instant::now() {
                return;
            }
        }
    }

    fn took(&self) {
        let micros = u64::try_from(self.0.started.elapsed().as_micros()).unwrap_or(CALLER);
        self.0.taken.store(micros, Ordering::Relaxed);
    }

    fn waits_for_caller(&self) {
        self.0.taken.store(CALLER, Ordering::Relaxed);
    }
}

/// A request's body that tells its [`ResponseClock`] of each part taken.
pub(super) struct Clocked<B> {
    body: B,
    clock: ResponseClock,
}

impl<B> Clocked<B> {
    pub(super) fn new(body: B, clock: ResponseClock) -> Self {
        Self { body, clock }
    }

    pub(super) fn into_inner(self) -> B {
        self.body
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Clocked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.clock.waits_for_caller();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.clock.took();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use http_body_util::channel::Channel;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn rings_a_whole_timeout_after_the_last_byte() {
        let clock = ResponseClock::new(TIMEOUT);
        let mut body = Clocked::new(
            http_body_util::Full::new(Bytes::from_static(b"query")),
            clock.clone(),
        );
        tokio::time::advance(Duration::from_secs(7)).await;
        body.frame().await.unwrap().unwrap();
        let sent = Instant::now();
        clock.rings().await;
        assert_eq!(sent.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn stands_still_while_the_caller_makes_upstream_wait() {
        let (mut caller, stream) = Channel::<Bytes>::new(1);
        let clock = ResponseClock::new(TIMEOUT);
        let mut body = Clocked::new(stream, clock.clone());
        let reader = tokio::spawn(async move { while body.frame().await.is_some() {} });
        tokio::task::yield_now().await;
        tokio::select! {
            () = clock.rings() => panic!("it was the caller's turn"),
            () = tokio::time::sleep(TIMEOUT * 5) => {}
        }
        caller.send_data(Bytes::from_static(b"x")).await.unwrap();
        drop(caller);
        reader.await.unwrap();
        let sent = Instant::now();
        clock.rings().await;
        assert_eq!(sent.elapsed(), TIMEOUT);
    }
}
