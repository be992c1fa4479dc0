//! What a sandbox promises, one law a test.
#![cfg(test)]

mod control;
mod faults;
mod graphql;
mod paths;
mod schema;
mod seen;
mod serving;
mod support;
mod token;
