//! The program `fluent-auth-proxy`; see [`fluent_auth_proxy::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fluent_auth_proxy::cli::run()
}
