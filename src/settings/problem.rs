//! What is wrong with the settings: all of it at once, each with its place and the way to mend it.
//!
//! 1. A [`Problem`] never holds the value of a secret, nor a line of a file, as that may hold one: a place is
//!    told by name, line and column only.
//! 2. Problems are told in the order in which a reader meets their places: the file from its top, variables by
//!    name, the command line, and last what stands nowhere.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `config/default.toml`, built into the program.
    Default,
    /// A file of a profile of Fluent's command-line tool.
    Profile {
        /// Its path.
        path: PathBuf,
        /// The field in it.
        field: &'static str,
    },
    /// The settings file.
    File {
        /// Its path, as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// The bytes of the file that are meant.
        span: Range<usize>,
    },
    /// An environment variable.
    Variable(String),
    /// `--set` on the command line.
    CommandLine,
}

/// The layers of settings: a later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Default,
    Profile,
    File,
    Environment,
    CommandLine,
}

impl Source {
    pub(super) fn layer(&self) -> Layer {
        match self {
            Self::Default => Layer::Default,
            Self::Profile { .. } => Layer::Profile,
            Self::File { .. } => Layer::File,
            Self::Variable(_) => Layer::Environment,
            Self::CommandLine => Layer::CommandLine,
        }
    }

    fn rank(&self) -> (Layer, usize, usize, &str) {
        match self {
            Self::File { line, column, .. } => (Layer::File, *line, *column, ""),
            Self::Variable(name) => (Layer::Environment, 0, 0, name),
            Self::Profile { path, .. } => (Layer::Profile, 0, 0, path.to_str().unwrap_or_default()),
            Self::Default | Self::CommandLine => (self.layer(), 0, 0, ""),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile { path, field } => write!(f, "{} ({field})", path.display()),
            Self::File {
                path, line, column, ..
            } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::CommandLine => f.write_str("--set"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as `section.key`; `None` where the trouble is with a source as a whole.
    pub key: Option<String>,
    /// Where it stands; `None` where it is missing.
    pub source: Option<Source>,
    /// What is wrong, as the rest of a sentence that begins with the key.
    pub wrong: String,
    /// What would be right.
    pub right: Option<String>,
    /// For a name nobody knows: the nearest known one, spelled as its source would.
    pub nearest: Option<String>,
}

impl Problem {
    pub(super) fn new(key: &impl ToString, source: Option<Source>, wrong: Wrong) -> Self {
        Self {
            key: Some(key.to_string()),
            ..Self::of_source(source, wrong)
        }
    }

    pub(super) fn of_source(source: Option<Source>, wrong: Wrong) -> Self {
        Self {
            key: None,
            source,
            wrong: wrong.what,
            right: wrong.right,
            nearest: None,
        }
    }

    /// A bug in the program: the layers hold places only, so `error` cannot hold a value.
    pub(super) fn broken(error: &dyn fmt::Display) -> Self {
        Self::of_source(
            None,
            Wrong::is(format!(
                "the settings cannot be read by a bug in the proxy: {error}"
            )),
        )
    }

    pub(super) fn nearest(mut self, known: Option<String>) -> Self {
        self.nearest = known;
        self
    }
}

/// `proxy.toml:3:7: listen.max_body "12 MB" is no size`, and below it what would be right.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key} ")?;
        }
        f.write_str(&self.wrong)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; the nearest known one is {nearest}")?;
        }
        if let Some(right) = &self.right {
            write!(f, "\n    {right}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// What a reader of a value has to say against it; who knows key and place makes a [`Problem`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    what: String,
    right: Option<String>,
}

impl Wrong {
    /// `what` continues a sentence that begins with the key.
    pub(super) fn is(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            right: None,
        }
    }

    /// What would be right, as a sentence of its own without a full stop.
    pub(super) fn instead(mut self, right: impl Into<String>) -> Self {
        self.right = Some(right.into());
        self
    }
}

/// All that is wrong, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems in order. Where settings fail to settle without one, the program itself is at fault.
    pub(super) fn of(mut problems: Vec<Problem>) -> Self {
        if problems.is_empty() {
            problems.push(Problem::broken(&"a value has neither a default nor a problem"));
        }
        let rank = |problem: &Problem| {
            problem.source.as_ref().map(|s| {
                let (layer, line, column, name) = s.rank();
                (layer, line, column, name.to_owned())
            })
        };
        // What stands nowhere comes last; among equals the order of discovery stays.
        problems.sort_by_cached_key(|problem| (problem.source.is_none(), rank(problem)));
        Self(problems)
    }

    /// Each problem, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
