//! An authenticating reverse proxy for the Fluent Commerce GraphQL API.

pub mod admin;
pub mod app;
pub mod authorize;
pub mod body;
pub mod cli;
pub mod clock;
pub mod error;
pub mod guard;
pub mod name;
pub mod proxy;
pub mod secret;
pub mod server;
pub mod settings;
pub mod telemetry;
pub mod token;
pub mod upstream;
