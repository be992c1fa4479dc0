//! Settings: sources → raw → settled, with all problems told at once.
//!
//! 1. Later wins: built-in `config/default.toml`, a profile of Fluent's command-line tool, the file, the environment,
//!    `--set`.
//! 2. Text stays text: a password `007` or one with a space at its end arrives as it was written.
//! 3. A setting stands in two places: key and kind in `raw`, default and description in `config/default.toml`.
//!    Known keys, the schema and what counts as a secret follow from them.
//! 4. Unknown keys and odd values stop the start, all of them in one run, each with its place and what would be
//!    right.
//! 5. No secret is in any problem, in what is shown, or on the command line.
//!
//! The way of a value: `layers` (with `key`, `given`) gather and merge, `settle` (with `kind`) reads and weighs.
//! What weakens rule 5: who writes a secret into a setting that is none will see it shown.

mod given;
mod key;
mod kind;
mod layers;
mod problem;
mod raw;
mod schema;
mod settle;
mod show;
#[cfg(test)]
mod tests;
pub mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use http::HeaderValue;
use url::Url;

pub use self::problem::{Problem, Problems, Source};
pub use self::show::{Provenance, Row, Value};
use crate::body::TapeLimits;
use crate::graphql;
use crate::guard;
use crate::name::Name;
use crate::server::{self, Address};
use crate::telemetry::LogConfig;
use crate::telemetry::otlp::TraceConfig;
use crate::token::grant::{Login, Policy};
use crate::token::store;
use crate::upstream;

/// The built-in layer, which is also the documentation of every setting: what `config default` prints.
pub const DEFAULT: &str = include_str!("../config/default.toml");

/// The keys that there are; they never change while the program runs.
static CATALOGUE: LazyLock<key::Catalogue> = LazyLock::new(|| key::Catalogue::of(&schema::shape()));

/// Where settings come from beside the built-in layer. No `Debug`: an environment holds secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file that `--config` names; without it, the one that the variable `FLUENT_PROXY_CONFIG` names.
    pub file: Option<PathBuf>,
    /// The environment, ours and all the rest.
    pub environment: Vec<(OsString, OsString)>,
    /// Each `section.key=value` of `--set`, in order.
    pub set: Vec<String>,
}

/// Settings, and what else there is to know of them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where each comes from.
    pub provenance: Provenance,
    /// The files that secrets were read from, for who wants to see them change.
    pub secret_files: Vec<PathBuf>,
}

/// The JSON Schema of the settings file: what `config schema` prints.
#[must_use]
pub fn schema() -> String {
    format!("{:#}\n", schema::schema())
}

impl Settings {
    /// Loads the settings, reading the files that they name.
    ///
    /// # Errors
    /// All that is wrong with them, at once.
    pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
        let gathered = layers::Gathered::of(sources, &CATALOGUE);
        let problems = match gathered.merge() {
            Ok(merged) => match settle::settle(gathered, &merged, &CATALOGUE) {
                Ok(loaded) => return Ok(loaded),
                Err(problems) => problems,
            },
            Err(error) => vec![Problem::broken(&error)],
        };
        Err(Problems::of(problems))
    }
}

/// Loads `admin.address` alone, for who asks a running proxy how it is: needs no credentials, reads no secret.
///
/// # Errors
/// What is wrong with it, or with the sources as a whole, such as unknown keys.
pub fn admin_address(sources: &Sources) -> Result<Option<Address>, Problems> {
    let gathered = layers::Gathered::without_profiles(sources, &CATALOGUE);
    let settled = match gathered.merge() {
        Ok(merged) => settle::admin_address(gathered, &merged),
        Err(error) => Err(vec![Problem::broken(&error)]),
    };
    settled.map_err(Problems::of)
}

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
    /// The store that shares logins with other processes.
    pub cache: store::Config,
    /// What is asked of requests' documents, where anything is.
    pub graphql: Option<Inspection>,
    /// The admin listener, where there is one.
    pub admin: Option<Address>,
    /// The log.
    pub log: LogConfig,
    /// Traces, where they are sent.
    pub traces: Option<TraceConfig>,
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
    /// Who may be able to reach it.
    pub reach: Reach,
    /// Who may ask for what.
    pub rules: guard::Rules,
    /// What a connection may take.
    pub limits: server::Limits,
    /// How long a caller may pause within a request's body.
    pub body_timeout: Duration,
    /// Bytes of a request's body; `None` without a limit.
    pub max_body: Option<u64>,
    /// Whether GraphiQL is served.
    pub graphiql: bool,
}

/// What may be asked of Fluent.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What requests are read for.
    pub purpose: graphql::Purpose,
    /// The rules.
    pub rules: graphql::Rules,
    /// Bytes of a body that is judged; `None` where `listen.max_body` is the only limit.
    pub limit: Option<u64>,
    /// Bytes of all bodies that are held at once to be judged.
    pub memory: usize,
}

/// From where a listener may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From this machine only.
    Machine,
    /// From others too.
    Network,
}

/// How the program ends.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    /// How long it goes on serving, no longer ready, before it drains.
    pub delay: Duration,
    /// When the last connection is cut; counted from the signal.
    pub deadline: Duration,
}
