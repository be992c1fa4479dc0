//! The end of each request: what an operator reads in the log, and what is counted.
//!
//! 1. A request gets one line at most, when its last byte has left or its caller, as `log.access` says.
//! 2. No line holds a query string, a body, a header's value or text of the token endpoint.
//!
//! How the log as a whole is written stands in [`log`], what spans are in [`trace`], how they are sent in [`otlp`].

pub mod log;
pub mod otlp;
pub mod trace;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Uri};
use tokio::time::Instant;
use tracing::Level;

use crate::body::{Beginning, Tally};
use crate::graphql::{Judge, Operation};
use crate::metrics::recent::{Failed, Fared, wall_millis};
use crate::metrics::{Ended, Metrics, Present, Replay};
use crate::name::Name;

pub use self::log::{LogConfig, LogFormat, init};
use self::trace::Span;

/// The longest path that is logged whole.
const PATH_LIMIT: usize = 256;

/// The code of a caller who left, in logs and metrics only.
pub const CALLER_GONE: &str = "CALLER_GONE";
/// The code of a bug.
pub const INTERNAL: &str = "INTERNAL";

/// Which requests get a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Those that the proxy itself answered or cut, and those that upstream answered with 5xx.
    Errors,
    /// All.
    All,
    /// None.
    None,
}

/// One request on its way through, as the log will tell it. Dropped before its [`end`](Self::end), it tells of
/// a caller who left, or of a bug where a panic dropped it.
#[derive(Debug)]
pub struct Exchange {
    access: AccessLog,
    metrics: Arc<Metrics>,
    _present: Present,
    started: Instant,
    method: Method,
    uri: Uri,
    told: bool,
    /// The request's id.
    pub request_id: HeaderValue,
    /// Its span, where there are traces.
    pub span: Span,
    /// The instance that it went to.
    pub instance: Option<Name>,
    /// The user whose token it carried.
    pub user: Option<Name>,
    /// What it asks for, where that is looked at.
    pub operation: Option<Operation>,
    /// What it asks for, where that is looked at when all is over.
    pub overheard: Option<Overheard>,
    /// What came of its body.
    pub bytes_in: Tally,
    /// The status of the answer.
    pub status: StatusCode,
    /// Why the proxy itself answered, or cut the answer.
    pub failure: Option<Failure>,
    /// Whether the proxy turned it down for what the caller did.
    pub rejected: bool,
    /// Why it was sent twice.
    pub replay: Option<Replay>,
    /// How often it was sent upstream.
    pub attempts: u32,
    /// The wait for a token.
    pub token_wait: Duration,
    /// The wait for the head of the last answer.
    upstream_wait: Duration,
    /// From the head of the request to the end of that wait.
    waited_until: Duration,
    /// Whether upstream's answer is there.
    answered: bool,
}

/// What went by of a request's body, and who can tell what it asks for.
#[derive(Debug)]
pub struct Overheard {
    /// Who can tell.
    pub judge: Arc<Judge>,
    /// What went by.
    pub beginning: Beginning,
}

/// Why the proxy itself answered, or cut the answer.
#[derive(Debug)]
pub struct Failure {
    /// The code of the answer.
    pub code: &'static str,
    /// Whose fault it was.
    pub fault: &'static str,
    /// How loudly to tell it.
    pub level: Level,
    /// The error with its causes.
    pub detail: String,
}

impl Exchange {
    /// A request whose head was just read.
    #[must_use]
    pub fn begin(
        access: AccessLog,
        metrics: &Arc<Metrics>,
        method: Method,
        uri: Uri,
        request_id: HeaderValue,
    ) -> Box<Self> {
        Box::new(Self {
            access,
            metrics: Arc::clone(metrics),
            _present: Present::new(metrics.in_flight()),
            started: Instant::now(),
            method,
            uri,
            told: false,
            request_id,
            span: Span::default(),
            instance: None,
            user: None,
            operation: None,
            overheard: None,
            bytes_in: Tally::default(),
            status: StatusCode::OK,
            failure: None,
            rejected: false,
            replay: None,
            attempts: 0,
            token_wait: Duration::ZERO,
            upstream_wait: Duration::ZERO,
            waited_until: Duration::ZERO,
            answered: false,
        })
    }

    /// The wait for upstream that began at `since` is over.
    pub fn waited_for_upstream(&mut self, since: Instant) {
        let now = Instant::now();
        self.upstream_wait = now - since;
        self.waited_until = now - self.started;
    }

    /// The head of upstream's answer is there.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = status;
        self.answered = true;
    }

    /// The answer has come to its end, after `bytes` of its body.
    pub fn end(mut self: Box<Self>, bytes: u64) {
        self.tell(bytes);
    }

    /// The caller left after `bytes` of the answer's body.
    pub fn caller_gone(mut self: Box<Self>, bytes: u64) {
        self.tell_caller_gone(bytes);
    }

    fn tell_caller_gone(&mut self, bytes: u64) {
        self.status = caller_gone();
        self.failure = Some(Failure {
            code: CALLER_GONE,
            fault: "client",
            level: Level::INFO,
            detail: "the caller left before its answer had ended".to_owned(),
        });
        self.tell(bytes);
    }

    /// The caller gets a 500: what panicked is caught above.
    fn tell_bug(&mut self) {
        self.status = StatusCode::INTERNAL_SERVER_ERROR;
        self.failure = Some(Failure {
            code: INTERNAL,
            fault: "proxy",
            level: Level::ERROR,
            detail: "a bug in the proxy".to_owned(),
        });
        self.tell(0);
    }

    /// Whose fault it was that the request failed, if it did.
    fn fault(&self) -> Option<&'static str> {
        match (&self.failure, self.status.as_u16()) {
            (Some(failure), _) => Some(failure.fault),
            // No new token cured it.
            (None, 401) => Some("identity"),
            (None, 400..=499) => Some("client"),
            (None, 500..) => Some("upstream"),
            (None, _) => None,
        }
    }

    /// What the dashboard shows.
    fn tell_who_looks(&self) {
        let recent = self.metrics.recent();
        let fault = self.fault();
        if let Some(fault) = fault {
            recent.keep(Failed {
                at: wall_millis(),
                method: self.method.to_string(),
                path: clip(self.uri.path()).to_owned(),
                instance: self.instance.as_ref().map(Name::to_string),
                status: self.status.as_u16(),
                code: self.failure.as_ref().map(|failure| failure.code),
                fault,
                request_id: self.request_id.to_str().unwrap_or_default().to_owned(),
            });
        }
        // A page is no request of an application.
        if fault.is_some() || self.instance.is_some() {
            recent.count(|| Fared {
                fault,
                upstream: self.answered.then_some(self.upstream_wait),
                own: self.own_share(),
            });
        }
    }

    /// What the proxy itself took of the time to the head. A replay hides the wait for the first attempt.
    fn own_share(&self) -> Option<Duration> {
        let waits = self.token_wait + self.upstream_wait;
        let once = self.answered && self.attempts == 1;
        once.then(|| self.waited_until.saturating_sub(waits))
    }

    fn tell(&mut self, bytes: u64) {
        self.told = true;
        if let Some(overheard) = self.overheard.take() {
            self.operation = overheard.judge.overhear(&overheard.beginning.take());
        }
        self.span.end(self, bytes);
        self.metrics.count(&Ended {
            instance: self.instance.as_ref(),
            status: self.status,
            code: self.failure.as_ref().map(|failure| failure.code),
            rejected: self.rejected,
            operation: self.operation.as_ref(),
            replay: self.replay,
            duration: self.started.elapsed(),
            upstream: self.upstream_wait,
        });
        self.tell_who_looks();
        let level = match (self.access, &self.failure) {
            (AccessLog::None, _) => return,
            (AccessLog::Errors | AccessLog::All, Some(failure)) => failure.level,
            (AccessLog::Errors, None) if !self.status.is_server_error() => return,
            (AccessLog::Errors, None) => Level::WARN,
            (AccessLog::All, None) => Level::INFO,
        };
        // A level is part of an event's static description: one macro call each.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    request_id = self.request_id.to_str().unwrap_or_default(),
                    method = %self.method,
                    path = clip(self.uri.path()),
                    instance = self.instance.as_ref().map(Name::as_str),
                    user = self.user.as_ref().map(Name::as_str),
                    operation_kind = self.operation.as_ref().map(|operation| operation.kind.as_str()),
                    operation = self.operation.as_ref().and_then(|operation| operation.name.as_deref()).map(clip),
                    status = self.status.as_u16(),
                    code = self.failure.as_ref().map(|failure| failure.code),
                    fault = self.failure.as_ref().map(|failure| failure.fault),
                    error = self.failure.as_ref().map(|failure| failure.detail.as_str()),
                    attempts = self.attempts,
                    bytes_in = self.bytes_in.bytes(),
                    bytes_out = bytes,
                    total_ms = millis(self.started.elapsed()),
                    token_ms = millis(self.token_wait),
                    upstream_ms = millis(self.upstream_wait),
                    "request"
                )
            };
        }
        if level == Level::ERROR {
            line!(Level::ERROR);
        } else if level == Level::WARN {
            line!(Level::WARN);
        } else {
            line!(Level::INFO);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        match (self.told, std::thread::panicking()) {
            (true, _) => {}
            (false, true) => self.tell_bug(),
            (false, false) => self.tell_caller_gone(0),
        }
    }
}

/// 499, as many servers log a caller who left; it is never sent.
#[must_use]
pub fn caller_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn clip(path: &str) -> &str {
    path.get(..PATH_LIMIT).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;
    use crate::metrics::{TokenRequests, TokenSample, Tokens};

    struct NoTokens;

    impl Tokens for NoTokens {
        fn samples(&self) -> Vec<TokenSample> {
            Vec::new()
        }

        fn requests(&self) -> Vec<TokenRequests> {
            Vec::new()
        }

        fn shared_cache_errors(&self) -> u64 {
            0
        }
    }

    fn exchange(metrics: &Arc<Metrics>) -> Box<Exchange> {
        let id = HeaderValue::from_static("id");
        Exchange::begin(
            AccessLog::None,
            metrics,
            Method::POST,
            Uri::from_static("/graphql"),
            id,
        )
    }

    #[test]
    fn what_is_dropped_tells_of_a_caller_who_left_but_of_a_bug_where_there_was_a_panic() {
        let metrics = Arc::new(Metrics::new([], NoTokens));
        drop(exchange(&metrics));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _exchange = exchange(&metrics);
            resume_unwind(Box::new("a bug"));
        }));
        assert!(panicked.is_err());
        let page = metrics.scrape().unwrap();
        let counted = |labels: &str| {
            page.lines()
                .any(|line| line.contains(labels) && line.ends_with("} 1"))
        };
        assert!(counted(r#"status="499",code="CALLER_GONE""#), "{page}");
        assert!(counted(r#"status="500",code="INTERNAL""#), "{page}");
    }
}
