//! A simulated Fluent Commerce: the stand-in for the real thing in every test and in the demo.
//!
//! 1. It behaves as the vendor documents, strictly: opaque tokens that stay the same until they expire,
//!    lockout, single-use refresh tokens, a 2 MB limit, business errors as HTTP 200.
//! 2. Every sandbox is an island: its own port, state, clock and record. Dropping it ends it.
//! 3. What goes wrong goes wrong on demand, see [`Faults`]; what came in is written down, see [`Seen`].
//! 4. It judges the project's login invariant by itself, see [`Seen::login_invariant_violations`].
//!
//! ```
//! # async fn example() -> std::io::Result<()> {
//! use fluent_sandbox::{Config, Fault, Place, Sandbox, Times};
//!
//! let sandbox = Sandbox::start(Config::default()).await?;
//! sandbox.faults().inject(Place::Api, Times::Once, Fault::Unauthorized);
//! // …let the proxy talk to sandbox.url()…
//! sandbox.seen().wait_for(|counts| counts.api_requests == 2).await;
//! sandbox.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//! | module | holds |
//! | --- | --- |
//! | `sandbox` | the handle: start, stop, away and back, faults, record |
//! | `config` | what can be set, and the default account |
//! | `server` | sockets: accept loop, TLS, connections that can be cut |
//! | `pipeline` | the story of one request: record, fault, bearer, answer |
//! | `identity`, `token_endpoint` | who may have a token; how it is asked for |
//! | `graphql` | the schema, the catalogue, the mutations |
//! | `rest`, `probe` | the other paths of the vendor; paths that only tests use |
//! | `faults`, `seen`, `invariant` | what goes wrong, what came in, what must never be seen |
//! | `control` | faults and record over HTTP, for the binary |

mod body;
mod clock;
mod config;
mod control;
mod faults;
mod graphql;
mod identity;
mod invariant;
mod pipeline;
mod probe;
mod rest;
mod sandbox;
mod seen;
mod server;
mod token_endpoint;

pub use body::BodySeen;
pub use config::{
    Account, Config, DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, DEFAULT_PASSWORD, DEFAULT_USERNAME, ExpiresIn,
    Lockout, SignOn, TokenReuse,
};
pub use faults::{Fault, FaultId, Faults, Injection, Place, Times, When};
pub use graphql::schema_sdl;
pub use invariant::{LOGIN_LIMIT, LOGIN_WINDOW, LoginViolation};
pub use sandbox::Sandbox;
pub use seen::{ApiRequest, Counts, MutationSeen, ParametersIn, Seen, TokenOutcome, TokenRequest};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whatever a panicking test thread left behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
