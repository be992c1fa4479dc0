//! The places in the record of requests under way: what is learnt of them is noted through these.

use super::{ApiEntry, ApiRequest, MutationSeen, ParametersIn, Seen, TokenOutcome, TokenRequest};
use crate::body::Tally;
use crate::invariant::{Credentials, LoginEnd};
use crate::lock;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use std::sync::{Arc, Mutex};

/// The place in the record of a token request under way.
pub(crate) struct TokenTicket {
    seen: Seen,
    request: Arc<Mutex<TokenRequest>>,
    login: Option<(String, Credentials)>,
}

impl TokenTicket {
    pub(super) fn new(seen: Seen, request: Arc<Mutex<TokenRequest>>) -> Self {
        Self {
            seen,
            request,
            login: None,
        }
    }

    /// Notes the parameters; from here on a password login counts.
    pub(crate) fn read(&mut self, parameters: &[(String, String)], place: ParametersIn) {
        let mut request = lock(&self.request);
        parameters.clone_into(&mut request.parameters);
        request.parameters_in = place;
        request.grant = request.parameter("grant_type").map(str::to_owned);
        request.username = request.parameter("username").map(str::to_owned);
        let login = match (request.grant.as_deref(), &request.username) {
            (Some("password"), Some(username)) => Some((username.clone(), credentials(&request))),
            (Some(_) | None, _) => None,
        };
        self.seen.change(|state| {
            match request.grant.as_deref() {
                Some("password") => state.counts.password_logins += 1,
                Some("refresh_token") => state.counts.refreshes += 1,
                Some("client_credentials") => state.counts.client_logins += 1,
                Some(_) | None => {}
            }
            if let Some((username, credentials)) = &login {
                state
                    .logins
                    .arrived(request.number, username, credentials, request.moment);
            }
        });
        drop(request);
        self.login = login;
    }

    /// Notes what is answered; `status` is `None` for a connection that ends without an answer.
    pub(crate) fn answered(&self, outcome: TokenOutcome, status: Option<u16>, end: LoginEnd) {
        let number = {
            let mut request = lock(&self.request);
            request.outcome = outcome;
            request.status = status;
            request.number
        };
        self.seen.change(|state| {
            state.counts.token_answers += 1;
            match outcome {
                TokenOutcome::Issued => state.counts.tokens_issued += 1,
                TokenOutcome::Same => state.counts.tokens_repeated += 1,
                TokenOutcome::Unanswered | TokenOutcome::Faulted => {}
                TokenOutcome::Refused
                | TokenOutcome::Locked
                | TokenOutcome::ClientRefused
                | TokenOutcome::ScopeRefused
                | TokenOutcome::RefreshRefused
                | TokenOutcome::SingleSignOn
                | TokenOutcome::Malformed => state.counts.tokens_refused += 1,
            }
            if let Some((username, credentials)) = &self.login {
                state.logins.ended(number, username, credentials, end);
            }
        });
    }
}

/// The place in the record of an API request under way.
#[derive(Clone)]
pub(crate) struct ApiTicket {
    seen: Seen,
    entry: Arc<ApiEntry>,
}

impl ApiTicket {
    pub(super) fn new(seen: Seen, entry: Arc<ApiEntry>) -> Self {
        Self { seen, entry }
    }

    /// The count of the request's body.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        self.entry.tally.clone()
    }

    /// What a test-only path echoes: the head as it came.
    pub(crate) fn snapshot(&self) -> ApiRequest {
        self.entry.snapshot()
    }

    pub(crate) fn body_ended(&self) {
        self.seen.change(|state| state.counts.api_bodies += 1);
    }

    pub(crate) fn admitted(&self) {
        self.seen.change(|state| state.counts.api_admitted += 1);
    }

    pub(crate) fn mutated(&self, field: &str, reference: &str) {
        let mutation = MutationSeen {
            field: field.to_owned(),
            reference: reference.to_owned(),
        };
        lock(&self.entry.end).mutations.push(mutation.clone());
        self.seen.change(|state| {
            state.counts.mutations += 1;
            *state.mutations.entry(mutation).or_default() += 1;
        });
    }

    pub(crate) fn clashed(&self) {
        self.seen.change(|state| state.counts.clashes += 1);
    }

    pub(crate) fn answered(&self, status: Option<u16>) {
        lock(&self.entry.end).status = status;
        self.seen.change(|state| {
            state.counts.api_answers += 1;
            state.counts.api_unauthorized += u64::from(status == Some(401));
        });
    }
}

/// A digest of what a login stands on.
fn credentials(request: &TokenRequest) -> Credentials {
    let mut context = Digest::new(&SHA256);
    for name in ["username", "password", "client_id", "client_secret"] {
        let value = request.parameter(name).unwrap_or_default();
        context.update(&(value.len() as u64).to_le_bytes());
        context.update(value.as_bytes());
    }
    context
        .finish()
        .as_ref()
        .first_chunk()
        .copied()
        .unwrap_or_default()
}
