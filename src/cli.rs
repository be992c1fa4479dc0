//! The command line: arguments, exit codes, signals.
//!
//! 1. What a command tells goes to the standard output, what is wrong to the standard error stream.
//! 2. Wrong usage exits with 2, bad settings with 78; the other codes stand with their commands.

mod check;
mod health;
mod manual;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::clock::Clock;
use crate::settings::watch::Watch;
use crate::settings::{self, Loaded, Problems, Settings, Sources};
use crate::telemetry;

/// The settings cannot be used (`EX_CONFIG` of sysexits).
const BAD_SETTINGS: u8 = 78;
/// The credentials were refused (`EX_NOPERM`).
const REFUSED: u8 = 77;
/// Who was asked cannot be reached (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// The program stops for another cause.
const FAILURE: u8 = 1;
/// The command line makes no sense, as clap has it.
const WRONG_USAGE: u8 = 2;

/// How much of what the system has to tell is taken at once.
const EVENTS_AT_ONCE: usize = 32;
/// Steps of tasks after which the system is asked for more, though some are left: a bound, more than the events lead to.
const TASKS_AT_ONCE: u32 = 256;

/// The end of the help and of the manual page.
const EXIT_STATUS: &str = "\
EXIT STATUS:
  0   done; healthy
  1   a failure while running; not healthy
  2   wrong usage
  69  check: the token endpoint or Fluent cannot be reached, or talks nonsense
  77  check: the credentials were refused
  78  the settings cannot be used";

/// Takes unauthenticated GraphQL and hands it to Fluent Commerce with a token.
#[derive(Parser)]
#[command(version, arg_required_else_help = false, after_long_help = EXIT_STATUS)]
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
    /// Reads all settings and tells every problem; with --login, tries the credentials too.
    Check {
        /// Spends exactly one login and one query { me { id } }: without a value those of [fluent].
        ///
        /// A login that is refused counts towards the lockout of the account, after 5 within 15 minutes.
        #[arg(long, value_name = "INSTANCE[/USER]", num_args = 0..=1, default_missing_value = "default")]
        login: Option<check::Whom>,
        /// Logs in though a refusal in the shared cache cools down; the store in memory keeps none.
        #[arg(long)]
        force: bool,
    },
    /// Asks the running proxy whether it is ready; exits with 0 or 1.
    ///
    /// The proxy is found by admin.address of the settings, of which no other needs to be set.
    Health {
        /// Asks whether it is alive, as the health check of a container should.
        #[arg(long)]
        live: bool,
    },
    /// Tells of settings.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Prints the completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
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
        Command::Serve => {
            let sources = Sources::from(cli.options);
            match Settings::load(&sources) {
                Ok(loaded) => serve(sources, &loaded),
                Err(problems) => refuse(&problems),
            }
        }
        Command::Config {
            what: ConfigCommand::Show,
        } => with_settings(cli.options, |loaded| print(&loaded.provenance.to_string())),
        Command::Config {
            what: ConfigCommand::Schema,
        } => print(&settings::schema()),
        Command::Config {
            what: ConfigCommand::Default,
        } => print(settings::DEFAULT),
        Command::Check { login, force } => {
            let caution = if force {
                check::Caution::Force
            } else {
                check::Caution::Heed
            };
            with_settings(cli.options, |loaded| check(&loaded, login.as_ref(), caution))
        }
        Command::Health { live } => health(cli.options, if live { "/livez" } else { "/readyz" }),
        Command::Completions { shell } => print_bytes(&manual::completions(shell, Cli::command())),
        Command::Man => match manual::page(Cli::command()) {
            Ok(page) => print_bytes(&page),
            Err(error) => {
                complain(&error.to_string());
                ExitCode::from(FAILURE)
            }
        },
    }
}

impl From<Options> for Sources {
    fn from(options: Options) -> Self {
        Self {
            file: options.config,
            environment: std::env::vars_os().collect(),
            set: options.set,
        }
    }
}

fn with_settings(options: Options, then: impl FnOnce(Loaded) -> ExitCode) -> ExitCode {
    match Settings::load(&options.into()) {
        Ok(loaded) => then(loaded),
        Err(problems) => refuse(&problems),
    }
}

fn refuse(problems: &Problems) -> ExitCode {
    complain(&problems.to_string());
    ExitCode::from(BAD_SETTINGS)
}

fn check(loaded: &Loaded, whom: Option<&check::Whom>, caution: check::Caution) -> ExitCode {
    let settings = &loaded.settings;
    let checked = check::settings(loaded).and_then(|good| {
        print(&good);
        let Some(whom) = whom else { return Ok(()) };
        let attempt = check::Attempt::of(settings, whom)?;
        print(&attempt.announcement());
        let runtime = runtime(1).map_err(|error| check::Failed::Unavailable(error.to_string()))?;
        print(&runtime.block_on(attempt.run(settings, caution))?);
        Ok(())
    });
    let Err(failed) = checked else {
        return ExitCode::SUCCESS;
    };
    complain(&failed.to_string());
    ExitCode::from(match failed {
        check::Failed::Settings(_) => BAD_SETTINGS,
        check::Failed::Unknown { .. } => WRONG_USAGE,
        check::Failed::Refused(_) => REFUSED,
        check::Failed::Unavailable(_) => UNAVAILABLE,
    })
}

/// Whatever keeps it from an answer means that the proxy is not well: probes know 0 and 1 only.
fn health(options: Options, path: &str) -> ExitCode {
    let asked = settings::admin_address(&options.into())
        .map_err(|problems| problems.to_string())
        .and_then(|address| {
            let runtime = runtime(1).map_err(|error| error.to_string())?;
            let asked = runtime.block_on(health::ask(address.as_ref(), path));
            asked.map_err(|error| error.to_string())
        });
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            complain(&reason);
            ExitCode::from(FAILURE)
        }
    }
}

/// A runtime for so many workers, which carries what has come through before it takes more: with many connections, what
/// a request touched is still in the processor's cache when it goes on.
fn runtime(workers: usize) -> std::io::Result<Runtime> {
    let mut builder = match workers {
        // Nobody to share the work with: no price is paid for sharing it.
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(workers)
        .max_io_events_per_tick(EVENTS_AT_ONCE)
        .event_interval(TASKS_AT_ONCE)
        .enable_all()
        .build()
}

fn serve(sources: Sources, loaded: &Loaded) -> ExitCode {
    let settings = &loaded.settings;
    telemetry::init(&settings.log);
    raise_open_files();
    let served = match runtime(settings.workers) {
        Ok(runtime) => runtime.block_on(run_until_signalled(sources, loaded)),
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

async fn run_until_signalled(sources: Sources, loaded: &Loaded) -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new()?;
    // Once the end has begun nobody listens for these two, and they do nothing.
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut louder = signal(SignalKind::user_defined1())?;
    let app = App::start(&loaded.settings, &loaded.provenance, Clock::system())?;
    let mut credentials = Watch::new(sources, loaded);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = ?app.places(),
        admin = ?app.admin_addresses(),
        "serving"
    );
    tell_systemd(NotifyState::Ready);
    loop {
        tokio::select! {
            () = signals.end() => break,
            _ = hang_up.recv() => {
                app.change(credentials.read_now().await);
                app.retry().await;
            }
            changed = credentials.changed() => app.change(changed),
            _ = louder.recv() => toggle_debug(),
        }
    }
    tell_systemd(NotifyState::Stopping);
    tokio::select! {
        () = app.stop() => Ok(()),
        () = signals.end() => Err("a second signal cut the shutdown short".into()),
    }
}

/// Tells whoever started this process how far it is, where it asked to be told (`NOTIFY_SOCKET`).
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not told");
    }
}

/// Heeds SIGUSR1.
fn toggle_debug() {
    if let Err(error) = telemetry::log::toggle_debug() {
        tracing::warn!(%error, "the level of the log stays as it is");
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

    /// Waits for one that ends the program.
    async fn end(&mut self) {
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
    print_bytes(text.as_bytes())
}

fn print_bytes(text: &[u8]) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}
