//! The connections to one origin.
//!
//! 1. A connection of HTTP/1.1 is taken out while an exchange is on it, and put back by the end of the answer. The one
//!    used last is taken first, so that those that are not needed grow old.
//! 2. A connection of HTTP/2 is for all, and is made once, however many wait for it; where that fails, all who waited
//!    are told so.
//! 3. Who finds no connection makes one, and takes one that comes free meanwhile; the new one is then put in.
//! 4. None is used after `max_age`, nor after it has stood unused for `idle_timeout`; [`Pool::sweep`] closes these.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::answered::Seen;
use super::clock::Clocked;
use crate::unreachable::{BoxError, SharedError};

/// Makes a connection.
pub(super) type Making<B> = BoxFuture<'static, Result<Connection<B>, BoxError>>;

/// A connection that one exchange, or the next of many, is sent on.
pub(super) enum Connection<B> {
    /// Of HTTP/1.1. It is handed round with every request: boxed, it is small.
    One(Box<One<B>>),
    /// Of HTTP/2.
    Many(http2::SendRequest<Clocked<B>>),
}

/// A connection of HTTP/1.1, for one exchange after the other.
pub(super) struct One<B> {
    pub(super) sender: http1::SendRequest<Clocked<B>>,
    pub(super) seen: Seen,
    opened: Instant,
}

impl<B> One<B> {
    /// A connection that was just made.
    pub(super) fn new(sender: http1::SendRequest<Clocked<B>>, seen: Seen) -> Self {
        Self {
            sender,
            seen,
            opened: Instant::now(),
        }
    }
}

/// How long connections are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    /// Unused.
    pub(super) idle: Duration,
    /// At all.
    pub(super) age: Duration,
}

/// The connections to one origin, for requests with bodies `B`.
pub(super) struct Pool<B> {
    lifetimes: Lifetimes,
    idle: Mutex<Vec<Idle<B>>>,
    /// How many wait for one of `idle`, each beside making one itself.
    waiting: AtomicUsize,
    freed: Notify,
    many: Mutex<Option<Many<B>>>,
    /// Whether connections are for one exchange at a time, as the settings say or upstream has shown.
    one_by_one: AtomicBool,
}

struct Idle<B> {
    connection: Box<One<B>>,
    since: Instant,
}

/// The connection of HTTP/2 that stands, or that is being made.
struct Many<B> {
    sender: ForAll<B>,
    opened: Instant,
    used: Instant,
}

/// What all who wait for a connection of HTTP/2 are told: none, where it turned out to be one of HTTP/1.1.
type ForAll<B> = Shared<BoxFuture<'static, Result<Option<http2::SendRequest<Clocked<B>>>, SharedError>>>;

/// Whether a request's connection is new, so that it cannot have been closed unseen before the request.
pub(super) enum Taken<B> {
    /// It was made for this request, or is being shared.
    New(Connection<B>),
    /// It has served before.
    Again(Connection<B>),
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// An empty pool; `one_by_one` where HTTP/2 is out of the question.
    pub(super) fn new(lifetimes: Lifetimes, one_by_one: bool) -> Self {
        Self {
            lifetimes,
            idle: Mutex::default(),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            many: Mutex::default(),
            one_by_one: AtomicBool::new(one_by_one),
        }
    }

    /// A connection to send a request on; `connect` makes one where there is none.
    pub(super) async fn take(
        self: &Arc<Self>,
        connect: impl Fn() -> Making<B>,
    ) -> Result<Taken<B>, BoxError> {
        if !self.one_by_one.load(Ordering::Relaxed) {
            let (sender, stood) = self.many(&connect);
            if let Some(sender) = sender.await? {
                let many = Connection::Many(sender);
                return Ok(if stood {
                    Taken::Again(many)
                } else {
                    Taken::New(many)
                });
            }
        }
        match self.take_idle() {
            Some(one) => Ok(Taken::Again(Connection::One(one))),
            None => Box::pin(self.make_or_wait(connect())).await,
        }
    }

    /// Rule 3.
    async fn make_or_wait(self: &Arc<Self>, mut making: Making<B>) -> Result<Taken<B>, BoxError> {
        let _waits = Waits::new(&self.waiting);
        loop {
            tokio::select! {
                made = &mut making => {
                    // One may have come free in the moment in which making one failed.
                    let freed = |error| self.take_idle().map(|one| Taken::Again(Connection::One(one))).ok_or(error);
                    return made.map(Taken::New).or_else(freed);
                }
                () = self.freed.notified() => {
                    let Some(one) = self.take_idle() else { continue };
                    let pool = Arc::clone(self);
                    tokio::spawn(async move {
                        if let Ok(Connection::One(one)) = making.await {
                            pool.put_new(one).await;
                        }
                    });
                    return Ok(Taken::Again(Connection::One(one)));
                }
            }
        }
    }

    /// Rule 1: the one used last.
    fn take_idle(&self) -> Option<Box<One<B>>> {
        let mut idle = lock(&self.idle);
        let now = Instant::now();
        let mut at = idle.len();
        while let Some(before) = at.checked_sub(1) {
            at = before;
            let entry = idle.get(at)?;
            if self.is_over(entry, now) {
                idle.remove(at);
            } else if entry.connection.sender.is_ready() {
                return Some(idle.remove(at).connection);
            }
        }
        None
    }

    /// A connection whose exchange has ended.
    fn put(&self, connection: Box<One<B>>) {
        let since = Instant::now();
        lock(&self.idle).push(Idle { connection, since });
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.freed.notify_one();
        }
    }

    /// A connection that was just made, once it can be taken: until its task has run, it cannot.
    async fn put_new(&self, mut connection: Box<One<B>>) {
        if connection.sender.ready().await.is_ok() {
            self.put(connection);
        }
    }

    /// Rule 2: the connection for all, and whether it stood before.
    fn many(self: &Arc<Self>, connect: impl Fn() -> Making<B>) -> (ForAll<B>, bool) {
        let mut many = lock(&self.many);
        let now = Instant::now();
        if let Some(known) = many.as_mut().filter(|known| !known.is_over(self.lifetimes, now)) {
            known.used = now;
            return (known.sender.clone(), known.sender.peek().is_some());
        }
        let (pool, making) = (Arc::downgrade(self), connect());
        let sender = async move {
            match making.await {
                Ok(Connection::Many(sender)) => Ok(Some(sender)),
                Ok(Connection::One(one)) => {
                    if let Some(pool) = pool.upgrade() {
                        pool.one_by_one.store(true, Ordering::Relaxed);
                        pool.put_new(one).await;
                    }
                    Ok(None)
                }
                Err(error) => Err(SharedError::from(error)),
            }
        };
        let sender = sender.boxed().shared();
        *many = Some(Many {
            sender: sender.clone(),
            opened: now,
            used: now,
        });
        (sender, false)
    }

    /// Rule 4.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        lock(&self.idle).retain(|entry| !self.is_over(entry, now));
        let mut many = lock(&self.many);
        // Exchanges that are under way on it end as they would.
        if many.as_ref().is_some_and(|many| {
            many.is_over(self.lifetimes, now) || now.duration_since(many.used) > self.lifetimes.idle
        }) {
            *many = None;
        }
    }

    fn is_over(&self, idle: &Idle<B>, now: Instant) -> bool {
        idle.connection.sender.is_closed()
            || now.duration_since(idle.since) > self.lifetimes.idle
            || now.duration_since(idle.connection.opened) > self.lifetimes.age
    }
}

impl<B> Many<B> {
    fn is_over(&self, lifetimes: Lifetimes, now: Instant) -> bool {
        match self.sender.peek() {
            // It is being made.
            None => false,
            Some(Ok(Some(sender))) => sender.is_closed() || now.duration_since(self.opened) > lifetimes.age,
            Some(Ok(None) | Err(_)) => true,
        }
    }
}

/// One who waits for a connection to come free, until dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of upstream's answer; its end gives the connection back.
pub struct AnswerBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    incoming: Incoming,
    way_back: Option<WayBack<B>>,
}

/// The connection of an answer, and the pool that it goes back to.
pub(super) struct WayBack<B> {
    pub(super) connection: Box<One<B>>,
    pub(super) pool: Arc<Pool<B>>,
}

impl<B> AnswerBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// The body of an answer that came on a connection of HTTP/1.1, which goes back to its pool, or on another.
    pub(super) fn new(incoming: Incoming, way_back: Option<WayBack<B>>) -> Self {
        let mut body = Self { incoming, way_back };
        body.look_for_end();
        body
    }

    fn look_for_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(WayBack { connection, pool }) = self.way_back.take() {
            pool.put(connection);
        }
    }
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        match &frame {
            // Nobody may ask again after the last byte.
            Some(Ok(_)) => this.look_for_end(),
            Some(Err(_)) => this.way_back = None,
            None => this.give_back(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests;
