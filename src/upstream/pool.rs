//! The connections to one origin.
//!
//! 1. A connection of HTTP/1.1 is taken out while an exchange is on it, and comes back with the end of the answer
//!    (`http1`).
//! 2. A connection of HTTP/2 is for all, and is made once, however many wait for it; where that fails, all who waited
//!    are told so.
//! 3. Who finds no connection makes one, and takes one that comes free meanwhile; the new one is then put in.
//! 4. None is used after `max_age`, nor after it has stood unused for `idle_timeout`; [`Pool::sweep`] closes these.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hyper::client::conn::http2;
use tokio::time::Instant;

use super::clock::Clocked;
use super::http1::{Lifetimes, One, Ones};
use crate::unreachable::{BoxError, SharedError};

/// Makes a connection.
pub(super) type Making<B> = BoxFuture<'static, Result<Connection<B>, BoxError>>;

/// A connection that was just made.
pub(super) enum Connection<B> {
    /// Of HTTP/1.1. It is handed round with every request: boxed, it is small.
    One(Box<One>),
    /// Of HTTP/2.
    Many(http2::SendRequest<Clocked<B>>),
}

/// The connections to one origin, for requests with bodies `B`.
pub(super) struct Pool<B> {
    lifetimes: Lifetimes,
    ones: Arc<Ones>,
    many: Mutex<Option<Many<B>>>,
    /// Whether connections are for one exchange at a time, as the settings say or upstream has shown.
    one_by_one: AtomicBool,
}

/// The connection of HTTP/2 that stands, or that is being made.
struct Many<B> {
    sender: ForAll<B>,
    opened: Instant,
    used: Instant,
}

/// What all who wait for a connection of HTTP/2 are told: none, where it turned out to be one of HTTP/1.1.
type ForAll<B> = Shared<BoxFuture<'static, Result<Option<http2::SendRequest<Clocked<B>>>, SharedError>>>;

/// A connection to send a request on.
pub(super) enum Taken<B> {
    /// Of HTTP/1.1.
    One(Box<One>),
    /// Of HTTP/2, and whether it stood before: then it may have been closed unseen before the request.
    Many(http2::SendRequest<Clocked<B>>, bool),
}

impl<B> Pool<B>
where
    B: Send + 'static,
{
    /// An empty pool; `one_by_one` where HTTP/2 is out of the question.
    pub(super) fn new(lifetimes: Lifetimes, one_by_one: bool) -> Self {
        Self {
            lifetimes,
            ones: Arc::new(Ones::new(lifetimes)),
            many: Mutex::default(),
            one_by_one: AtomicBool::new(one_by_one),
        }
    }

    /// Those of HTTP/1.1 that are not used.
    pub(super) fn ones(&self) -> &Arc<Ones> {
        &self.ones
    }

    /// A connection to send a request on, `now`; `connect` makes one where there is none.
    pub(super) async fn take(
        &self,
        now: Instant,
        connect: impl Fn() -> Making<B>,
    ) -> Result<Taken<B>, BoxError> {
        if !self.one_by_one.load(Ordering::Relaxed) {
            let (sender, stood) = self.many(now, &connect);
            match sender.await? {
                Some(sender) => return Ok(Taken::Many(sender, stood)),
                None => self.one_by_one.store(true, Ordering::Relaxed),
            }
        }
        match self.ones.take(now) {
            Some(one) => Ok(Taken::One(one)),
            None => Box::pin(self.make_or_wait(connect())).await,
        }
    }

    /// Rule 3.
    async fn make_or_wait(&self, mut making: Making<B>) -> Result<Taken<B>, BoxError> {
        let waits = self.ones.wait();
        loop {
            tokio::select! {
                made = &mut making => {
                    return match made {
                        Ok(Connection::One(one)) => Ok(Taken::One(one)),
                        Ok(Connection::Many(sender)) => Ok(Taken::Many(sender, false)),
                        // One may have come free in the moment in which making one failed.
                        Err(error) => self.ones.take(Instant::now()).map(Taken::One).ok_or(error),
                    };
                }
                () = waits.freed() => {
                    let Some(one) = self.ones.take(Instant::now()) else {
                        continue;
                    };
                    let ones = Arc::clone(&self.ones);
                    tokio::spawn(async move {
                        if let Ok(Connection::One(one)) = making.await {
                            ones.put(one);
                        }
                    });
                    return Ok(Taken::One(one));
                }
            }
        }
    }

    /// Rule 2: the connection for all, and whether it stood before.
    fn many(&self, now: Instant, connect: impl Fn() -> Making<B>) -> (ForAll<B>, bool) {
        let mut many = lock(&self.many);
        if let Some(known) = many.as_mut().filter(|known| !known.is_over(self.lifetimes, now)) {
            known.used = now;
            return (known.sender.clone(), known.sender.peek().is_some());
        }
        let (ones, making) = (Arc::clone(&self.ones), connect());
        let sender = async move {
            match making.await {
                Ok(Connection::Many(sender)) => Ok(Some(sender)),
                Ok(Connection::One(one)) => {
                    ones.put(one);
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
        self.ones.sweep(now);
        let mut many = lock(&self.many);
        // Exchanges that are under way on it end as they would.
        if many.as_ref().is_some_and(|many| {
            many.is_over(self.lifetimes, now) || now.duration_since(many.used) > self.lifetimes.idle
        }) {
            *many = None;
        }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
