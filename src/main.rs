//! The program `fluent-auth-proxy`; see [`fluent_auth_proxy::cli`].

use std::process::ExitCode;

/// A request makes some forty small allocations; this allocator takes a third of the system's time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fluent_auth_proxy::cli::run()
}
