//! The program as its users meet it, against the simulated Fluent.
//!
//! Each module is a topic; each test's name is a law. [`support`] starts what a test needs on free ports, and
//! looks for secrets in every answer and every line of the log.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, also where it does so in a function that tests share"
)]

mod admin;
mod clients;
mod commands;
mod cors;
mod cost;
mod credentials;
mod early;
mod egress;
mod fleet;
mod graphql;
mod guard;
mod headers;
mod hostile;
mod limits;
mod log;
mod long;
mod main_job;
mod memory;
mod metrics;
mod names;
mod network;
mod overload;
mod pages;
mod replay;
mod resend;
mod settings;
mod shutdown;
mod sockets;
mod streaming;
mod support;
mod tls;
mod token_trouble;
mod tokens;
mod traces;
mod upstream;
