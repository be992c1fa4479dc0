//! Bearer in; on a 401, drop that token and send the request once more; so with a query whose connection died.
//!
//! 1. A request waits for a token first, and is sent with it.
//! 2. A 401 rejects the token that was sent, whatever becomes of this request.
//! 3. It is sent once more if another token came and the whole body is on the tape; where the 401 overtook the body,
//!    its end is waited for shortly. Otherwise the 401 goes to the caller as it came; so does a second one.
//! 4. Where the login after a 401 fails, that failure is the answer.
//! 5. A request whose connection died without a byte of an answer is sent once more, with the same token, if the whole
//!    body is on the tape and it asks for nothing but GraphQL queries. That is read then, not before.
//! 6. Two sends at most: a 401 that answers the second, or another death of a connection, is the end.
//!
//! Nothing else is sent twice here.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header, request};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::body::{Outcome, Recorder, Recording, RequestBody, Tape};
use crate::error::ProxyError;
use crate::graphql::{self, Question};
use crate::metrics::Replay;
use crate::telemetry::Exchange;
use crate::token::{AccessToken, BoxFuture, Rejection, Replacement, TokenError, TokenSource};
use crate::upstream::{AnswerBody, Leg, UpstreamError};

/// What is read of a 401 that a replay makes void, so that its connection lives.
const DRAIN_LIMIT: usize = 64 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// How long a 401 waits for the end of the body that it overtook: over HTTP/2 even a short body may be on its way.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// What is sent once more when its connection died without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// What asks for nothing but GraphQL queries.
    Queries,
    /// Nothing: it is no GraphQL.
    Nothing,
}

/// An answer of upstream.
pub type Answer = Box<Response<AnswerBody>>;

/// The way of one request: its leg, whose token it carries, and what its end will tell.
pub struct Passage<'a, B> {
    /// The way upstream.
    pub leg: &'a Leg<RequestBody<B>>,
    /// Gives tokens.
    pub tokens: &'a dyn TokenSource,
    /// What is told of it.
    pub exchange: &'a mut Exchange,
}

impl<B> Passage<'_, B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    /// Sends the request; `head` is ready but for `Authorization`.
    ///
    /// # Errors
    /// When there is no token, no answer, or when the body failed on its way.
    pub async fn send(
        mut self,
        mut head: Box<request::Parts>,
        body: Box<Recorder<B>>,
        recording: Recording,
        resend: Resend,
    ) -> Result<Answer, ProxyError> {
        let token = obtain(self.tokens, self.exchange).await?;
        let answer = self.attempt(&mut head, RequestBody::First(body), &token).await;
        if let (Err(UpstreamError::Unanswered(_)), Resend::Queries) = (&answer, resend)
            && let Some(tape) = recording.take_tape().filter(|tape| is_of_queries(&head, tape))
        {
            return Box::pin(self.resend(head, tape, token)).await;
        }
        let answer = answer.map_err(|error| cause(error, &recording))?;
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Rejection::Replacing(login) = self.tokens.reject(&token)
        {
            return Box::pin(self.replay(head, recording, login, answer)).await;
        }
        Ok(answer)
    }

    /// Rule 5, for a query that is on this tape.
    async fn resend(
        mut self,
        mut head: Box<request::Parts>,
        tape: Tape,
        token: AccessToken,
    ) -> Result<Answer, ProxyError> {
        self.exchange.replay = Some(Replay::Interrupted);
        let body = RequestBody::Again(tape.play());
        let answer = self.attempt(&mut head, body, &token).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // For the next request: nobody waits here for another token.
            drop(self.tokens.reject(&token));
        }
        Ok(answer)
    }

    /// Rules 3 and 4, for a request whose answer is this 401.
    async fn replay(
        mut self,
        mut head: Box<request::Parts>,
        recording: Recording,
        login: BoxFuture<'static, Result<Replacement, TokenError>>,
        answer: Answer,
    ) -> Result<Answer, ProxyError> {
        let _ = tokio::time::timeout(OVERTAKEN, recording.ended()).await;
        let Some(tape) = recording.take_tape() else {
            return Ok(answer);
        };
        let since = Instant::now();
        let waiting = self.exchange.span.wait_for_token();
        let replacement = login.await;
        drop(waiting);
        self.exchange.token_wait += since.elapsed();
        match replacement? {
            Replacement::Same => Ok(answer),
            Replacement::New(token) => {
                drain(answer.into_body()).await;
                self.exchange.replay = Some(Replay::Unauthorized);
                let body = RequestBody::Again(tape.play());
                Ok(self.attempt(&mut head, body, &token).await?)
            }
        }
    }

    /// Sends the request with this token.
    async fn attempt(
        &mut self,
        head: &mut request::Parts,
        body: RequestBody<B>,
        token: &AccessToken,
    ) -> Result<Answer, UpstreamError> {
        head.headers.insert(header::AUTHORIZATION, token.bearer());
        let exchange = &mut *self.exchange;
        exchange.attempts += 1;
        let span = exchange.span.attempt(&head.method, &head.uri, exchange.attempts);
        span.hand_on(&mut head.headers);
        let since = Instant::now();
        let answer = self.leg.send(head, body, since).await;
        exchange.waited_for_upstream(since);
        match &answer {
            Ok(answer) => span.answered(answer.status()),
            Err(error) => span.failed(error.word()),
        }
        answer
    }
}

async fn obtain(tokens: &dyn TokenSource, exchange: &mut Exchange) -> Result<AccessToken, ProxyError> {
    if let Some(token) = tokens.ready() {
        return Ok(token);
    }
    let since = Instant::now();
    let _waiting = exchange.span.wait_for_token();
    let token = tokens.obtain().await;
    exchange.token_wait += since.elapsed();
    Ok(token?)
}

/// Whether a request, as it was sent, asks for nothing but queries.
fn is_of_queries(head: &request::Parts, tape: &Tape) -> bool {
    graphql::holds_only_queries(Question {
        method: &head.method,
        headers: &head.headers,
        query: head.uri.query(),
        body: &tape.contents(),
    })
}

/// Upstream tells that the body failed; the recording knows how.
fn cause(error: UpstreamError, recording: &Recording) -> ProxyError {
    match recording.outcome() {
        Outcome::Failed(error) => error.into(),
        Outcome::InProgress | Outcome::Finished | Outcome::TooLong | Outcome::Abandoned => {
            ProxyError::Upstream(error)
        }
    }
}

/// Reads a small body to its end.
async fn drain(mut body: impl Body<Data = Bytes> + Unpin) {
    let whole = async {
        let mut left = DRAIN_LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, whole).await;
}
