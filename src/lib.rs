//! An authenticating reverse proxy for the Fluent Commerce GraphQL API.
//!
//! It accepts unauthenticated GraphQL on localhost, takes a token from a cache (fetching it with the password
//! grant when there is none), sets the `Authorization` header and streams the request to Fluent.
//!
//! # Floor plan
//! Imports only go down.
//!
//! | floor | rooms | what they know |
//! | --- | --- | --- |
//! | 7 | `main`, [`cli`] | arguments, exit codes, signals |
//! | 6 | [`app`] | builds every part from the settings, runs them, ends them in order |
//! | 5 | [`settings`] | sources → raw → settled; gathers all problems |
//! | 4 | [`proxy`], [`admin`] | the story of one request; is it well, and if not, why |
//! | 3 | [`authorize`] | bearer in; on a 401 drop that token and replay once |
//! | 2 | [`error`], [`token::cache`] | every fault becomes one answer; one flight, renewal ahead, cool-down |
//! | 1 | [`console`], [`token`], [`token::store`], [`upstream`] | the pages for people; what tokens are and how one is asked for; what processes share of them; the leg to Fluent |
//! | 0 | [`secret`], [`clock`], [`files`], [`name`], [`graphql`], [`guard`], [`body`], [`metrics`], [`places`], [`server`], [`telemetry`], [`mod@unreachable`] | pure or general: know nothing of the rest |
//!
//! **A request:** `guard.admit → places.take → graphql.judge (if on) → guard.scrub_request → authorize.send →
//! guard.scrub_response → stream`, told by [`proxy::Proxy::handle`].
//!
//! **A token:** `Secret → token::grant → token::store → token::cache → authorize → header`.

pub mod admin;
pub mod app;
pub mod authorize;
pub mod body;
pub mod cli;
pub mod clock;
pub mod console;
pub mod error;
pub mod files;
pub mod graphql;
pub mod guard;
pub mod metrics;
pub mod name;
pub mod places;
pub mod proxy;
pub mod secret;
pub mod server;
pub mod settings;
pub mod telemetry;
pub mod token;
pub mod unreachable;
pub mod upstream;
