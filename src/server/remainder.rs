//! What of a request had not come when its answer left.
//!
//! 1. An answer over HTTP/1.1 that does not wait for the rest of a long body says `Connection: close`: the connection
//!    ends with it, and a further request on it would be lost without a word.
//! 2. The rest is read and dropped, for a while: who closes with something unread makes the kernel reset the
//!    connection, and the answer may get lost on its way.
//! 3. After the rest of a body that says that it is short, the connection goes on.
//! 4. Whoever was waited for in vain (408) is waited for no longer.
//! 5. Nobody who waits for `100 Continue` is told to send what nobody wants.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response, StatusCode, Version, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// The longest body that is short.
const SHORT: u64 = 64 * 1024;
/// What is read of the rest of a long one, and for how long.
const READ_LIMIT: usize = 8 * 1024 * 1024;
const READ_TIME: Duration = Duration::from_secs(5);

/// The body of a request, which tells whether it was read to its end.
pub struct WatchedBody {
    body: Option<Incoming>,
    remainder: Option<Arc<Shared>>,
}

/// What the answer needs to know of the body. `None` where there is nothing to know.
pub(super) struct Remainder(Option<Arc<Shared>>);

struct Shared {
    /// Nothing more will come.
    whole: AtomicBool,
    /// Whether what comes may be read: the caller does not wait to be told to send it.
    sent_anyhow: AtomicBool,
    short: bool,
    state: Mutex<State>,
}

enum State {
    /// There is no answer yet; the body, if nobody wants to read it any more.
    Open(Option<Incoming>),
    /// The answer has left; whether what comes is read.
    Answered { reading: bool },
}

/// A request whose body tells what becomes of it.
pub(super) fn watch(request: Request<Incoming>) -> (request::Parts, WatchedBody, Remainder) {
    let (head, body) = request.into_parts();
    let short = body.size_hint().upper().is_some_and(|length| length <= SHORT);
    // Over HTTP/2 a stream ends without its connection.
    let is_watched = head.version < Version::HTTP_2 && !body.is_end_stream();
    let remainder = is_watched.then(|| {
        Arc::new(Shared {
            whole: AtomicBool::new(false),
            sent_anyhow: AtomicBool::new(!head.headers.contains_key(EXPECT)),
            short,
            state: Mutex::new(State::Open(None)),
        })
    });
    let body = WatchedBody {
        body: Some(body),
        remainder: remainder.clone(),
    };
    (head, body, Remainder(remainder))
}

impl Remainder {
    /// Ends the wait for the answer.
    pub(super) fn answered<B>(self, answer: &mut Response<B>) {
        let Some(shared) = self.0.filter(|shared| !shared.whole.load(Ordering::Acquire)) else {
            return;
        };
        let in_vain = answer.status() == StatusCode::REQUEST_TIMEOUT;
        let may_read = !in_vain && shared.sent_anyhow.load(Ordering::Acquire);
        let answered = State::Answered { reading: may_read };
        let left = std::mem::replace(&mut *shared.state(), answered);
        if !(shared.short && may_read) {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        if let State::Open(Some(body)) = left
            && may_read
        {
            read_on(body);
        }
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads and drops the rest, in a task that ends soon.
fn read_on(body: Incoming) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(tokio::time::timeout(READ_TIME, discard(body)));
    }
}

async fn discard(mut body: Incoming) {
    let mut left = READ_LIMIT;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Some(shared) = &this.remainder {
            // Whoever is asked for a body is told to send it.
            shared.sent_anyhow.store(true, Ordering::Release);
        }
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let is_end = !matches!(frame, Some(Ok(_))) || body.is_end_stream();
        if is_end && let Some(shared) = this.remainder.take() {
            shared.whole.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        let (Some(shared), Some(body)) = (self.remainder.take(), self.body.take()) else {
            return;
        };
        let mut state = shared.state();
        match &mut *state {
            State::Open(left) => *left = Some(body),
            State::Answered { reading } => {
                if *reading {
                    read_on(body);
                }
            }
        }
    }
}
