//! Settings: sources → raw → settled, with all problems told at once.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use url::Url;

use crate::body::TapeLimits;
use crate::guard;
use crate::name::Name;
use crate::server::{self, Address};
use crate::telemetry::LogConfig;
use crate::token::grant::{Login, Policy};
use crate::upstream;

/// The settled settings: what every part is built from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The instances; the default one, of `[fluent]`, bears [`Name::default_name`].
    pub instances: BTreeMap<Name, Instance>,
    /// The proxy's listener.
    pub listen: Listen,
    /// The leg to Fluent.
    pub upstream: upstream::Config,
    /// What is kept of a request for its replay.
    pub tape: TapeLimits,
    /// Whether `Via` is added, both ways.
    pub via: bool,
    /// The admin listener, where there is one.
    pub admin: Option<Address>,
    /// The log.
    pub log: LogConfig,
    /// The end.
    pub shutdown: Shutdown,
    /// Threads that serve requests.
    pub workers: usize,
}

/// One Fluent account.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The root of its API, without a final slash.
    pub url: Url,
    /// The header `fluent.account` on each request.
    pub account: Option<HeaderValue>,
    /// The users, by the name that `x-fluent-user` gives; the instance's own is [`Name::default_name`].
    pub users: BTreeMap<Name, Login>,
    /// When tokens are asked for.
    pub policy: Policy,
}

/// The proxy's listener.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where it stands.
    pub addresses: Vec<Address>,
    /// Who may ask for what.
    pub rules: guard::Rules,
    /// What a connection may take.
    pub limits: server::Limits,
    /// How long a caller may pause within a request's body.
    pub body_timeout: Duration,
    /// Bytes of a request's body; `None` without a limit.
    pub max_body: Option<u64>,
}

/// How the program ends.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    /// How long it goes on serving, no longer ready, before it drains.
    pub delay: Duration,
    /// When the last connection is cut; counted from the signal.
    pub deadline: Duration,
}
