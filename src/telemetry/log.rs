//! The log of the process.
//!
//! 1. Logs go to the standard error stream: text on a terminal, one JSON object a line elsewhere.
//! 2. Its level can be changed while the program runs, to any that the settings could name. There is one log in a
//!    process, so there is one level.
//! 3. The change itself is told at the level `info`, before or after it, wherever it can be read.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::AccessLog;

/// What [`toggle_debug`] turns to.
const DEBUG: &str = "debug";

/// The switch of the log that [`init`] started.
static SWITCH: OnceLock<Switch> = OnceLock::new();

/// How logs are written.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The form of a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives as `tracing` writes them.
    pub level: String,
    /// Which requests get a line.
    pub access: AccessLog,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the level of the log that is being written.
struct Switch {
    configured: String,
    current: Mutex<String>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Why the level of the log stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// The text is no level.
    #[error("no level of the log")]
    Unknown,
    /// The log of this process was not started here, so it is not ours to change.
    #[error("the log of this process is not the proxy's own")]
    NotOurs,
}

/// Reads `off`, `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,fluent_auth_proxy::token=debug`.
///
/// # Errors
/// When the text is none of these.
pub fn filter(text: &str) -> Result<EnvFilter, LevelError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // For `tracing` a misspelled level is a target at its most talkative.
    let meant = |directive: &str| LEVELS.contains(&directive) || directive.contains(['=', '[']);
    if text.split(',').all(|directive| meant(directive.trim())) {
        EnvFilter::try_new(text).map_err(|_| LevelError::Unknown)
    } else {
        Err(LevelError::Unknown)
    }
}

/// Starts the log of this process; a second start is ignored.
pub fn init(config: &LogConfig) {
    let filter = filter(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let log = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let text = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let started = if text {
        log.with(lines.with_ansi(terminal).with_target(false)).try_init()
    } else {
        let lines = lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        log.with(lines).try_init()
    };
    // Only the first start wins; tests start many in one process.
    if started.is_ok() {
        let _ = SWITCH.set(Switch::new(config, handle));
    }
}

/// The level in force.
///
/// # Errors
/// When the log is not ours.
pub fn level() -> Result<String, LevelError> {
    let switch = SWITCH.get().ok_or(LevelError::NotOurs)?;
    Ok(switch.level())
}

/// Changes the level, until the next change or the end of the process.
///
/// # Errors
/// When `text` is no level, or the log is not ours.
pub fn set_level(text: &str) -> Result<(), LevelError> {
    let filter = filter(text)?;
    SWITCH.get().ok_or(LevelError::NotOurs)?.set(text, filter)
}

/// Changes the level to `debug`, or from there to what the settings say.
///
/// # Errors
/// When the log is not ours.
pub fn toggle_debug() -> Result<(), LevelError> {
    let switch = SWITCH.get().ok_or(LevelError::NotOurs)?;
    let next = if switch.level() == DEBUG {
        &switch.configured
    } else {
        DEBUG
    };
    switch.set(next, filter(next)?)
}

impl Switch {
    fn new(config: &LogConfig, filter: reload::Handle<EnvFilter, Registry>) -> Self {
        Self {
            configured: config.level.clone(),
            current: Mutex::new(config.level.clone()),
            filter,
        }
    }

    fn level(&self) -> String {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, level: &str, filter: EnvFilter) -> Result<(), LevelError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let told = tell(level);
        // Fails only once the log is gone.
        self.filter.reload(filter).map_err(|_| LevelError::NotOurs)?;
        if !told {
            tell(level);
        }
        level.clone_into(&mut current);
        Ok(())
    }
}

/// Rule 3: whether anybody could read it.
fn tell(level: &str) -> bool {
    tracing::info!(new_level = level, "the level of the log changes");
    tracing::enabled!(Level::INFO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_of_the_settings_or_directives() {
        for good in ["off", "info", "trace", "info,fluent_auth_proxy::token=debug"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "INFO ", "info,", "a=b=c", "7", "warn, off x"] {
            assert_eq!(filter(bad).err(), Some(LevelError::Unknown), "{bad}");
        }
    }
}
