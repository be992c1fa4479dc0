//! The main job, in one command: a simulated Fluent, the proxy before it, and a line to paste.
//!
//! `cargo run --release --example demo`

use std::error::Error;
use std::ffi::OsString;
use std::net::SocketAddr;

use fluent_auth_proxy::app::{App, StartError};
use fluent_auth_proxy::clock::Clock;
use fluent_auth_proxy::server::Address;
use fluent_auth_proxy::settings::{Provenance, Settings, Sources};
use fluent_auth_proxy::telemetry;
use fluent_sandbox::{
    Config, DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, DEFAULT_PASSWORD, DEFAULT_USERNAME, Sandbox,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start(Config::default()).await?;
    let mut settings = settings(&sandbox)?;
    telemetry::init(&settings.log);
    let app = match App::start(&settings, &Provenance::default(), Clock::system()) {
        Err(StartError::Bind(error)) => {
            say(&format!("{error}: using other ports."));
            settings.listen.addresses = vec![Address::Localhost(0)];
            settings.admin = Some(Address::Localhost(0));
            App::start(&settings, &Provenance::default(), Clock::system())?
        }
        started => started?,
    };
    say(&welcome(&sandbox, &app));
    tokio::signal::ctrl_c().await?;
    app.stop().await;
    sandbox.stop().await;
    Ok(())
}

/// What an operator would set for a real account, by the connector's own fields.
fn settings(sandbox: &Sandbox) -> Result<Settings, Box<dyn Error>> {
    let fields = [
        ("FLUENT_URL", sandbox.url()),
        ("FLUENT_USERNAME", DEFAULT_USERNAME.to_owned()),
        ("FLUENT_PASSWORD", DEFAULT_PASSWORD.to_owned()),
        ("FLUENT_CLIENT_ID", DEFAULT_CLIENT_ID.to_owned()),
        ("FLUENT_CLIENT_SECRET", DEFAULT_CLIENT_SECRET.to_owned()),
        ("FLUENT_PROXY__LOG__ACCESS", "all".to_owned()),
        ("FLUENT_PROXY__LOG__FORMAT", "text".to_owned()),
    ];
    let environment = fields.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let sources = Sources {
        environment: environment.into(),
        ..Sources::default()
    };
    Ok(Settings::load(&sources)
        .map_err(|problems| problems.to_string())?
        .settings)
}

fn welcome(sandbox: &Sandbox, app: &App) -> String {
    let port = |addresses: &[SocketAddr]| addresses.first().map_or(0, SocketAddr::port);
    let (fluent, proxy, admin) = (sandbox.url(), port(app.addresses()), port(app.admin_addresses()));
    format!(
        r#"
  A simulated Fluent runs at {fluent}; it takes no request without a token.
  The proxy stands before it at http://localhost:{proxy}/graphql; it wants none.

  Paste this into another terminal:

    curl -s http://localhost:{proxy}/graphql -H 'content-type: application/json' \
      -d '{{"query":"{{ orders(first: 3) {{ edges {{ node {{ id ref status totalPrice }} }} }} }}"}}'

  Try queries in a browser: http://localhost:{proxy}/
  How it stands: http://localhost:{admin}/
  Ctrl-C ends it.
"#
    )
}

#[expect(clippy::print_stdout, reason = "the demo speaks to a person")]
fn say(text: &str) {
    println!("{text}");
}
