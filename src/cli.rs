//! The command line: arguments, exit codes, signals.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::clock::Clock;
use crate::settings::{self, Loaded, Problems, Settings, Sources};
use crate::telemetry;

/// The settings cannot be used (`EX_CONFIG` of sysexits).
const BAD_SETTINGS: u8 = 78;
/// The program stops for another cause.
const FAILURE: u8 = 1;

/// Takes unauthenticated GraphQL and hands it to Fluent Commerce with a token.
#[derive(Parser)]
#[command(version, arg_required_else_help = false)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Options {
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "The settings file [env: FLUENT_PROXY_CONFIG]"
    )]
    config: Option<PathBuf>,
    /// Sets one setting, such as listen.address=localhost:8080; never a secret.
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the proxy until SIGTERM or SIGINT (also without a command).
    Serve,
    /// Tells of settings.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// The settings in force, each with its source; secrets only as set or unset.
    Show,
    /// The JSON Schema of the settings file.
    Schema,
    /// Every setting with its default and what it is for.
    Default,
}

/// Runs the program with the arguments and the environment of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => with_settings(cli.options, |loaded| serve(&loaded)),
        Command::Config {
            what: ConfigCommand::Show,
        } => with_settings(cli.options, |loaded| print(&loaded.provenance.to_string())),
        Command::Config {
            what: ConfigCommand::Schema,
        } => print(&settings::schema()),
        Command::Config {
            what: ConfigCommand::Default,
        } => print(settings::DEFAULT),
    }
}

fn with_settings(options: Options, then: impl FnOnce(Loaded) -> ExitCode) -> ExitCode {
    let sources = Sources {
        file: options.config,
        environment: std::env::vars_os().collect(),
        set: options.set,
    };
    match Settings::load(&sources) {
        Ok(loaded) => then(loaded),
        Err(problems) => refuse(&problems),
    }
}

fn refuse(problems: &Problems) -> ExitCode {
    complain(&problems.to_string());
    ExitCode::from(BAD_SETTINGS)
}

fn serve(loaded: &Loaded) -> ExitCode {
    let settings = &loaded.settings;
    telemetry::init(&settings.log);
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.workers)
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(run_until_signalled(settings)),
        Err(error) => Err(error.into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.as_ref(), "the proxy cannot run");
            ExitCode::from(FAILURE)
        }
    }
}

async fn run_until_signalled(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new()?;
    let app = App::start(settings, Clock::system())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = ?app.addresses(),
        admin = ?app.admin_addresses(),
        "serving"
    );
    signals.next().await;
    tokio::select! {
        () = app.stop() => Ok(()),
        () = signals.next() => Err("a second signal cut the shutdown short".into()),
    }
}

/// The signals that end the program.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Each request takes two descriptors, and the usual soft limit is 1024: takes all that the hard one gives.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Writes to standard output, whose reader may have left.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}
