//! What a sandbox promises, one law a test.
#![allow(missing_docs, reason = "a test binary has no readers of its items")]

mod graphql;
mod support;
mod token;
