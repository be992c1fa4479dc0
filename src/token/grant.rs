//! Asks the token endpoint for a token (RFC 6749, sections 4.3, 4.4 and 6).
//!
//! 1. Everything travels in a **form body**, byte for byte as it was set: never in the URL, never as HTTP Basic.
//! 2. One call sends **one request**: no redirect is followed, nothing is sent again, no connection is kept
//!    to die between two logins.
//! 3. An error tells whether the login **counts** ([`GrantError::counts`]), that is, may have cost one of the
//!    attempts that Fluent grants a username: it was sent, and no 200 came. A login was sent when its body
//!    was asked for, which happens on a connection that stands. A 200 that makes no sense does not count.
//! 4. An answer is read up to 256 KiB, within the login's timeout. How it is read stands in `token::answer`.
//! 5. Nothing of an answer or of a library's error is kept but words of closed sets: they may hold secrets,
//!    and URLs that do.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use url::Url;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::telemetry::trace::Tracer;
use crate::token::answer::{self, Answer, LONGEST_LIFE};
use crate::token::{BoxFuture, GrantError, Trouble};
use crate::unreachable::Unreachable;

/// The header that names a Fluent account.
const ACCOUNT: HeaderName = HeaderName::from_static("fluent.account");

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 256 * 1024;

/// All that a login sends, and how its answer is read: the inputs that a token depends on.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where tokens are asked for: the instance's URL with `token.path`, or a whole URL.
    pub endpoint: Url,
    /// The grant, with what only it needs.
    pub grant: Grant,
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`: sent as a parameter, never as HTTP Basic.
    pub client_secret: Secret,
    /// `scope`; an empty one is not sent.
    pub scope: String,
    /// Further parameters, as the settings name them.
    pub extra: Vec<(String, String)>,
    /// Where the answer holds the token: the path of field names to it. `access_token` is understood too.
    pub token_key: Vec<String>,
    /// The header `fluent.account`, where the account wants it.
    pub account: Option<HeaderValue>,
}

/// How the token is asked for.
#[derive(Clone, Debug)]
pub enum Grant {
    /// The resource owner's password (RFC 6749, section 4.3).
    Password {
        /// `username`.
        username: String,
        /// `password`.
        password: Secret,
    },
    /// The client's own credentials (RFC 6749, section 4.4).
    ClientCredentials,
}

/// When a token is asked for, and how long an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long one request to the token endpoint may take, from connecting to the last byte.
    pub timeout: Duration,
    /// The lifetime of a token whose answer names none.
    pub default_lifetime: Duration,
    /// How long before its end a token is renewed; never more than a fifth of its lifetime.
    pub margin: Duration,
    /// How long no login is tried after refused credentials.
    pub cool_down: Duration,
    /// When a refresh token is used.
    pub refresh: Refresh,
}

impl Policy {
    /// How long a token lives by an answer that told this much.
    pub(crate) fn lifetime(&self, told: Option<Duration>) -> Duration {
        told.unwrap_or(self.default_lifetime).min(LONGEST_LIFE)
    }
}

/// When a refresh token is used in the place of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// When the token is dead or rejected: for servers where it kills the old token.
    Late,
    /// For renewals ahead too.
    Early,
}

/// The name of the grant that refreshes (RFC 6749, section 6).
pub const REFRESH_GRANT: &str = "refresh_token";

/// Gives tokens for logins: the seam between the cache and the network.
pub trait Grants: Send + Sync {
    /// Sends one login, and ends within `timeout`.
    fn request<'a>(
        &'a self,
        login: &'a Login,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, GrantError>>;

    /// Sends one request with a refresh token in the place of what the grant has, and ends within `timeout`.
    fn refresh<'a>(
        &'a self,
        login: &'a Login,
        refresh_token: &'a Secret,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, GrantError>>;
}

/// Asks token endpoints over HTTP.
pub struct Granter {
    client: reqwest::Client,
    tracer: Tracer,
}

/// The HTTP client for the token endpoint cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client for the token endpoint cannot be built")]
pub struct UnusableClient;

impl Granter {
    /// A granter whose way out (egress proxy, connect timeout, name resolution) is `way_out`, and that trusts
    /// whom `tls` trusts. What rule 2 asks of the client is set here.
    ///
    /// # Errors
    /// When the client cannot be built, such as without a system resolver.
    pub fn new(
        way_out: reqwest::ClientBuilder,
        mut tls: rustls::ClientConfig,
    ) -> Result<Self, UnusableClient> {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = way_out
            .tls_backend_preconfigured(tls)
            .http1_only()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| UnusableClient)?;
        Ok(Self {
            client,
            tracer: Tracer::default(),
        })
    }

    /// Makes a span of each login.
    #[must_use]
    pub fn traced_by(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    async fn ask(
        &self,
        login: &Login,
        grant: &'static str,
        form: String,
        timeout: Duration,
    ) -> Result<Answer, GrantError> {
        let span = self.tracer.login(&login.endpoint, grant);
        let answer = self.send(login, form, timeout).await;
        match &answer {
            Ok(_) => span.answered(StatusCode::OK),
            Err(GrantError::Refused(refusal)) => span.answered(refusal.status),
            Err(GrantError::Unavailable { trouble, .. }) => match trouble {
                Trouble::Status(status) => span.answered(*status),
                Trouble::Unreachable => span.failed("unreachable"),
                Trouble::TimedOut => span.failed("timeout"),
                Trouble::Interrupted => span.failed("interrupted"),
                Trouble::Nonsense(_) => span.failed("not_understood"),
                Trouble::HeldBack | Trouble::Elsewhere | Trouble::Internal => span.failed("not_sent"),
            },
        }
        answer
    }

    async fn send(&self, login: &Login, form: String, timeout: Duration) -> Result<Answer, GrantError> {
        let sent = Sent::default();
        let mut request = self
            .client
            .post(login.endpoint.clone())
            .timeout(timeout)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(reqwest::Body::wrap(Form::new(form, sent.clone())));
        if let Some(account) = &login.account {
            request = request.header(ACCOUNT, account.clone());
        }
        let mut response = request.send().await.map_err(|error| sent.trouble(&error))?;
        let body = whole(&mut response).await;
        match response.status() {
            StatusCode::OK => Ok(answer::granted(&body?, &login.token_key)?),
            status => Err(answer::declined(
                status,
                response.headers(),
                &body.unwrap_or_default(),
            )),
        }
    }
}

impl Grants for Granter {
    fn request<'a>(
        &'a self,
        login: &'a Login,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, GrantError>> {
        Box::pin(self.ask(login, login.grant.name(), login.form(), timeout))
    }

    fn refresh<'a>(
        &'a self,
        login: &'a Login,
        refresh_token: &'a Secret,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, GrantError>> {
        Box::pin(self.ask(login, REFRESH_GRANT, login.refresh_form(refresh_token), timeout))
    }
}

async fn whole(response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let mut body = Zeroizing::new(Vec::new());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_ANSWER => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(Trouble::Nonsense("its body is too large")),
            Ok(None) => return Ok(body),
            Err(_) => return Err(Trouble::Nonsense("its body did not come to its end")),
        }
    }
}

impl Grant {
    /// The name of the grant, as `grant_type` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Password { .. } => "password",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

impl Login {
    /// This login with the credentials of `other`: user, password, client id and client secret. Another grant than
    /// this one's is left aside.
    #[must_use]
    pub fn with_credentials_of(&self, other: &Self) -> Self {
        if self.grant.name() != other.grant.name() {
            return self.clone();
        }
        Self {
            grant: other.grant.clone(),
            client_id: other.client_id.clone(),
            client_secret: other.client_secret.clone(),
            ..self.clone()
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the secrets are what a login sends")]
    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", self.grant.name());
        if let Grant::Password { username, password } = &self.grant {
            form.append_pair("username", username);
            form.append_pair("password", password.expose());
        }
        self.finish(form)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the refresh token is what a refresh sends"
    )]
    fn refresh_form(&self, refresh_token: &Secret) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", REFRESH_GRANT);
        form.append_pair(REFRESH_GRANT, refresh_token.expose());
        self.finish(form)
    }

    /// Adds what every grant sends.
    #[expect(
        clippy::disallowed_methods,
        reason = "the client secret is what a login sends"
    )]
    fn finish(&self, mut form: form_urlencoded::Serializer<'_, String>) -> String {
        form.append_pair("client_id", &self.client_id);
        form.append_pair("client_secret", self.client_secret.expose());
        if !self.scope.is_empty() {
            form.append_pair("scope", &self.scope);
        }
        form.extend_pairs(&self.extra);
        form.finish()
    }
}

/// Whether a login left: its body was asked for.
#[derive(Clone, Default)]
struct Sent(Arc<AtomicBool>);

impl Sent {
    /// What an error means that came before the head of an answer.
    fn trouble(&self, error: &reqwest::Error) -> Trouble {
        if !self.0.load(Ordering::Acquire) || Unreachable::late(error).is_some() {
            // A cause of a closed set: nothing of the error itself is told.
            tracing::warn!(cause = %Unreachable::of(error), "no connection to the token endpoint");
            Trouble::Unreachable
        } else if error.is_timeout() {
            Trouble::TimedOut
        } else {
            Trouble::Interrupted
        }
    }
}

/// The body of a login; it remembers that it was asked for.
struct Form {
    left: Option<Bytes>,
    sent: Sent,
}

impl Form {
    fn new(form: String, sent: Sent) -> Self {
        Self {
            left: Some(Bytes::from(form)),
            sent,
        }
    }
}

impl http_body::Body for Form {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.0.store(true, Ordering::Release);
        Poll::Ready(self.left.take().map(|form| Ok(Frame::data(form))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.as_ref().map_or(0, |form| form.len() as u64))
    }
}

#[cfg(test)]
mod tests;
