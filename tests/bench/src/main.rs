//! Load for measurements, and a place for large bodies to end; each command ends with a line of JSON.
//!
//! Every connection has a thread that blocks: nothing here is clever, so that what is measured is the proxy. Latency
//! counts from the time at which a request was due, so that a proxy that falls behind cannot hide it.

mod http;
mod load;
mod sink;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Opens connections, asks once on each and says so; given a line, or none at all, each asks as soon as it has its
    /// answer; tells how many were answered.
    Closed {
        address: SocketAddr,
        #[arg(long, default_value = "/graphql")]
        path: String,
        #[arg(long, default_value_t = 32)]
        connections: usize,
        #[arg(long, default_value = "3")]
        seconds: f64,
    },
    /// Requests are due at a fixed rate, whatever becomes of those before; tells percentiles of latency.
    Open {
        address: SocketAddr,
        #[arg(long, default_value = "/graphql")]
        path: String,
        #[arg(long, default_value_t = 32)]
        connections: usize,
        #[arg(long)]
        rate: f64,
        #[arg(long, default_value = "3")]
        seconds: f64,
    },
    /// Opens connections, asks once on each, says so, and keeps them until its input ends.
    Idle {
        address: SocketAddr,
        #[arg(long)]
        connections: usize,
    },
    /// Reads one large answer.
    Download { address: SocketAddr, path: String },
    /// Sends one large request.
    Upload {
        address: SocketAddr,
        path: String,
        #[arg(long)]
        bytes: u64,
    },
    /// Asks until it is answered with 200, every half millisecond; tells how long that took.
    First { address: SocketAddr },
    /// Reads requests whole and answers each with a few bytes.
    Sink {
        address: SocketAddr,
        /// The certificate, PEM; with `--key` TLS is spoken.
        #[arg(long, requires = "key")]
        certificate: Option<PathBuf>,
        /// The certificate's key, PEM.
        #[arg(long, requires = "certificate")]
        key: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let told = match Cli::parse().command {
        Command::Closed {
            address,
            path,
            connections,
            seconds,
        } => load::closed(address, &path, connections, Duration::from_secs_f64(seconds)),
        Command::Open {
            address,
            path,
            connections,
            rate,
            seconds,
        } => load::open(
            address,
            &path,
            connections,
            rate,
            Duration::from_secs_f64(seconds),
        ),
        Command::Idle { address, connections } => load::idle(address, connections),
        Command::Download { address, path } => load::download(address, &path),
        Command::Upload { address, path, bytes } => load::upload(address, &path, bytes),
        Command::First { address } => load::first(address),
        Command::Sink {
            address,
            certificate,
            key,
        } => sink::run(address, certificate.zip(key)),
    };
    match told {
        Ok(told) => {
            say(&told);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&serde_json::json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

/// One line for who started the command.
#[expect(clippy::print_stdout, reason = "it is the command's result")]
fn say(told: &serde_json::Value) {
    println!("{told}");
}
