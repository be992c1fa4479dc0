//! Logs: what an operator reads.

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

/// Which requests get a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Those that the proxy itself answered or cut, and those that upstream answered with 5xx.
    Errors,
    /// All.
    All,
    /// None.
    None,
}
