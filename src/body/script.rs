//! Bodies for tests that do as they are told.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

/// What a body does when it is polled.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Data(Bytes),
    Trailers,
    /// Nothing, once; the task is woken at once.
    Pending,
    Pause(Duration),
    Fail,
}

/// Takes its steps, then ends.
#[derive(Debug)]
pub(super) struct Script {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    /// The length it declares, true or not; counted down as hyper's bodies do.
    pub(super) declared: Option<u64>,
    /// Whether it says that it has ended before it is asked.
    pub(super) announces_end: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the script says so")]
pub(super) struct ScriptError;

impl Script {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            pause: None,
            declared: None,
            announces_end: false,
        }
    }

    pub(super) fn of(chunks: &[&'static str]) -> Self {
        Self::new(chunks.iter().map(|chunk| data(chunk)))
    }

    pub(super) fn declaring(self, length: u64) -> Self {
        Self {
            declared: Some(length),
            ..self
        }
    }

    pub(super) fn announcing_its_end(self) -> Self {
        Self {
            announces_end: true,
            ..self
        }
    }
}

pub(super) fn data(text: &'static str) -> Step {
    Step::Data(Bytes::from_static(text.as_bytes()))
}

impl Body for Script {
    type Data = Bytes;
    type Error = ScriptError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ScriptError>>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        match this.steps.pop_front() {
            Some(Step::Data(data)) => {
                if let Some(left) = &mut this.declared {
                    *left = left.saturating_sub(data.len() as u64);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Step::Trailers) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("1"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Pause(time)) => {
                this.pause = Some(Box::pin(tokio::time::sleep(time)));
                Pin::new(this).poll_frame(cx)
            }
            Some(Step::Fail) => Poll::Ready(Some(Err(ScriptError))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.announces_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What a body gives when it is asked.
type Asked<B> = Poll<Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>>;

/// Asks for the next frame once, with nobody to wake.
pub(super) fn poll<B: Body + Unpin>(body: &mut B) -> Asked<B> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// Asks as hyper does: until the end, an error, or until the body says that it has ended.
pub(super) fn drain<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> (Vec<u8>, Option<B::Error>) {
    let mut bytes = Vec::new();
    while !body.is_end_stream() {
        match poll(body) {
            Poll::Ready(Some(Ok(frame))) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Poll::Ready(Some(Err(error))) => return (bytes, Some(error)),
            Poll::Ready(None) => break,
            Poll::Pending => {}
        }
    }
    (bytes, None)
}
