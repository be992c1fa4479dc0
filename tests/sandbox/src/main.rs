//! A simulated Fluent Commerce to talk to, with a control interface for what goes wrong.

use clap::Parser;
use fluent_sandbox::{
    Account, Config, DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, DEFAULT_PASSWORD, DEFAULT_USERNAME, Sandbox,
    TokenReuse,
};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A simulated Fluent Commerce.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:4290")]
    address: SocketAddr,
    /// Where the control interface listens: POST and DELETE /faults, POST /revoke, POST /skew, GET /seen.
    #[arg(long)]
    control_address: Option<SocketAddr>,
    /// The username that may log in.
    #[arg(long, env = "FLUENT_SANDBOX_USERNAME", default_value = DEFAULT_USERNAME)]
    username: String,
    /// Its password.
    #[arg(long, env = "FLUENT_SANDBOX_PASSWORD", default_value = DEFAULT_PASSWORD, hide_env_values = true)]
    password: String,
    /// The client id.
    #[arg(long, env = "FLUENT_SANDBOX_CLIENT_ID", default_value = DEFAULT_CLIENT_ID)]
    client_id: String,
    /// The client secret.
    #[arg(
        long,
        env = "FLUENT_SANDBOX_CLIENT_SECRET",
        default_value = DEFAULT_CLIENT_SECRET,
        hide_env_values = true
    )]
    client_secret: String,
    /// What the header `fluent.account` of a token request must say; not looked at by default.
    #[arg(long)]
    fluent_account: Option<String>,
    /// How long an access token lives, in seconds.
    #[arg(long, default_value_t = 86_400)]
    token_lifetime: u64,
    /// Give refresh tokens that work once.
    #[arg(long)]
    refresh_tokens: bool,
    /// Give a new token at each login; by default it is the same one until it expires.
    #[arg(long)]
    new_token_each_time: bool,
    /// The field of the answer that holds the token.
    #[arg(long, default_value = "access_token")]
    token_field: String,
    /// How many orders there are from the start.
    #[arg(long, default_value_t = 1_000)]
    orders: usize,
    /// What all made-up data comes from.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How long a mutation that awaits orchestration holds its answer, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    orchestration_time: u64,
    /// How many requests of each kind the record keeps.
    #[arg(long, default_value_t = 10_000)]
    record_limit: usize,
}

impl Arguments {
    fn config(self) -> Config {
        let account = Account {
            username: self.username,
            password: self.password,
            client_id: self.client_id,
            client_secret: self.client_secret,
            fluent_account: self.fluent_account,
            ..Account::default()
        };
        let token_reuse = if self.new_token_each_time {
            TokenReuse::NewEachTime
        } else {
            TokenReuse::SameUntilExpiry
        };
        Config {
            address: self.address,
            control_address: self.control_address,
            accounts: vec![account],
            token_lifetime: Duration::from_secs(self.token_lifetime),
            refresh_tokens: self.refresh_tokens,
            token_reuse,
            token_field: self.token_field,
            orders: self.orders,
            seed: self.seed,
            orchestration_time: Duration::from_millis(self.orchestration_time),
            record_limit: self.record_limit,
            ..Config::default()
        }
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let sandbox = Sandbox::start(arguments.config()).await?;
    let mut out = io::stdout();
    writeln!(out, "listening on {}", sandbox.url())?;
    if let Some(control) = sandbox.control_url() {
        writeln!(out, "control on {control}")?;
    }
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sandbox.stop().await;
    Ok(())
}
