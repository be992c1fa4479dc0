//! One request, and its answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Response, request};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::decode::{self, Framing, Head, Part};
use super::encode::Outgoing;
use super::failure::{Failure, Unfinished};
use super::one::One;
use super::ones::Ones;
use crate::unreachable::BoxError;

impl One {
    /// Sends a request, and gives its answer once the head is there; the connection goes to `ones` at the end of it.
    pub(in crate::upstream) async fn exchange<B>(
        mut self: Box<Self>,
        head: &request::Parts,
        body: B,
        ones: &Arc<Ones>,
    ) -> Result<Response<AnswerBody>, Unfinished>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let mut request = Outgoing::new(head, body);
        let answered = poll_fn(|cx| self.poll_answer(cx, &mut request, &head.method)).await;
        let Head { answer, body, lasts } = answered.map_err(|failure| Unfinished {
            failure,
            begun: self.begun,
        })?;
        let ones = lasts.then(|| Arc::clone(ones));
        let reading = Reading {
            connection: self,
            framing: body,
            ones,
        };
        let body = if request.is_sent() {
            AnswerBody::read(reading)
        } else {
            AnswerBody::beside(reading, request)
        };
        Ok(answer.map(|()| body))
    }

    /// Goes on with the request, until the head of the answer is there.
    fn poll_answer<B>(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Outgoing<B>,
        method: &Method,
    ) -> Poll<Result<Head, Failure>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let sent = request.poll_send(cx, &mut self.wire);
        if let Poll::Ready(Err(failure @ Failure::Request(_))) = sent {
            return Poll::Ready(Err(failure));
        }
        loop {
            if let Some(head) = decode::head(&mut self.buffer, method)? {
                return Poll::Ready(Ok(head));
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Failure::Closed)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        // Upstream may have answered before it stopped to read; it has not.
        if let Poll::Ready(Err(failure)) = sent {
            return Poll::Ready(Err(failure));
        }
        if request.has_moved() {
            self.patience.restore();
        }
        if request.waits_for_its_body() {
            return Poll::Pending;
        }
        self.patience.poll_exhausted(cx).map(|()| Err(Failure::TimedOut))
    }
}

/// The next part of a body; `None` is its end.
type BodyPart = Option<Result<Frame<Bytes>, Failure>>;

/// An answer whose body is being read.
pub(in crate::upstream) struct Reading {
    connection: Box<One>,
    framing: Framing,
    /// Where the connection goes at the end, if it may serve again.
    ones: Option<Arc<Ones>>,
}

impl Reading {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<BodyPart> {
        loop {
            match self.framing.take(&mut self.connection.buffer) {
                Ok(Part::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Part::End) => return Poll::Ready(None),
                Ok(Part::More) => {}
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            match ready!(self.connection.poll_read(cx)) {
                Ok(0) if self.framing.may_close() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(Failure::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Gives the connection back, if it may serve again.
    fn end(self) {
        let Self {
            mut connection, ones, ..
        } = self;
        if let Some(ones) = ones.filter(|_| connection.buffer.is_empty()) {
            connection.forget();
            ones.put(connection);
        }
    }
}

/// The body of an answer over HTTP/1.1.
pub(in crate::upstream) enum AnswerBody {
    /// Read from the connection, of which there is none after the end.
    Read(Option<Reading>),
    /// Read by a task, beside the rest of the request.
    Beside(Beside),
}

/// What a task reads of an answer.
pub(in crate::upstream) struct Beside {
    /// As [`Reading::poll_part`] tells them; none after the end.
    parts: Option<mpsc::Receiver<BodyPart>>,
    /// What is to come, of a body that told its length.
    left: Option<u64>,
}

impl AnswerBody {
    fn read(reading: Reading) -> Self {
        let mut reading = Some(reading);
        look_for_end(&mut reading);
        Self::Read(reading)
    }

    /// Rule 2 of `http1`.
    fn beside<B>(reading: Reading, request: Outgoing<B>) -> Self
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (sender, parts) = mpsc::channel(1);
        let left = reading.framing.size_hint().exact();
        tokio::spawn(run_beside(reading, request, sender));
        Self::Beside(Beside {
            parts: Some(parts),
            left,
        })
    }
}

/// Nobody may ask again after the last byte, so the end is looked for with each.
fn look_for_end(reading: &mut Option<Reading>) {
    if let Some(reading) = reading.take_if(|reading| reading.framing.is_over()) {
        reading.end();
    }
}

/// Sends the rest of a request while its answer is read. It ends when both have, or when nobody wants the answer.
async fn run_beside<B>(mut reading: Reading, mut request: Outgoing<B>, parts: mpsc::Sender<BodyPart>)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let mut hands = PollSender::new(parts.clone());
    let mut is_over = false;
    let hand_on = poll_fn(|cx| {
        loop {
            let sent = request.poll_send(cx, &mut reading.connection.wire);
            // Where upstream reads no more of it, the answer may go on.
            if let Poll::Ready(Err(Failure::Request(_))) = sent {
                return Poll::Ready(false);
            }
            // Who has the last part may not wait for more.
            if is_over || reading.framing.is_over() {
                return Poll::Ready(true);
            }
            if ready!(hands.poll_reserve(cx)).is_err() {
                return Poll::Ready(false);
            }
            let part = ready!(reading.poll_part(cx));
            is_over = part.is_none();
            let failed = matches!(part, Some(Err(_)));
            if hands.send_item(part).is_err() || failed {
                return Poll::Ready(false);
            }
        }
    });
    let answered = tokio::select! {
        biased;
        answered = hand_on => answered,
        () = parts.closed() => false,
    };
    if answered
        && poll_fn(|cx| request.poll_send(cx, &mut reading.connection.wire))
            .await
            .is_ok()
    {
        reading.end();
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BodyPart> {
        match self.get_mut() {
            Self::Read(reading) => {
                let Some(within) = reading else {
                    return Poll::Ready(None);
                };
                let part = ready!(within.poll_part(cx));
                match &part {
                    Some(Ok(_)) => look_for_end(reading),
                    Some(Err(_)) => *reading = None,
                    None => {
                        if let Some(reading) = reading.take() {
                            reading.end();
                        }
                    }
                }
                Poll::Ready(part)
            }
            Self::Beside(beside) => beside.poll_part(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Read(reading) => reading.is_none(),
            Self::Beside(beside) => beside.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Read(Some(reading)) => reading.framing.size_hint(),
            Self::Read(None) => SizeHint::with_exact(0),
            Self::Beside(beside) => beside.left.map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}

impl Beside {
    fn is_over(&self) -> bool {
        self.left == Some(0) || self.parts.is_none()
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<BodyPart> {
        let Some(parts) = self.parts.as_mut().filter(|_| self.left != Some(0)) else {
            return Poll::Ready(None);
        };
        let part = ready!(parts.poll_recv(cx)).unwrap_or(Some(Err(Failure::Closed)));
        match (&part, &mut self.left) {
            (Some(Ok(frame)), Some(left)) => {
                *left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            }
            (Some(Ok(_)), None) => {}
            (Some(Err(_)) | None, _) => self.parts = None,
        }
        Poll::Ready(part)
    }
}
