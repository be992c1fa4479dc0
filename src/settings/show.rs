//! Which settings are in force, and where each comes from: what `config show` prints.

use std::fmt;

use super::problem::Source;

/// The settled value of each key with its source, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance(Vec<Row>);

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key, as `section.key`.
    pub key: String,
    /// What it settled to.
    pub value: Value,
    /// Where that stands; `None` where it is not set.
    pub source: Option<Source>,
}

/// What a setting settled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// It has no value.
    Unset,
    /// It has one, which is never shown.
    Secret,
    /// As text.
    Text(String),
}

impl Provenance {
    pub(super) fn of(rows: impl Iterator<Item = (String, Value, Option<Source>)>) -> Self {
        Self(
            rows.map(|(key, value, source)| Row { key, value, source })
                .collect(),
        )
    }

    /// Each setting.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.0
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.pad("unset"),
            Self::Secret => f.pad("set"),
            Self::Text(text) => f.pad(&format!("{text:?}")),
        }
    }
}

/// A table of three columns: key, value, source.
impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: &dyn Fn(&Row) -> String| {
            self.0
                .iter()
                .map(|row| text(row).chars().count())
                .max()
                .unwrap_or_default()
        };
        let keys = width(&|row| row.key.clone());
        // One long value must not push all sources off the screen.
        let values = width(&|row| row.value.to_string()).min(40);
        for row in &self.0 {
            let source = row.source.as_ref().map(Source::to_string).unwrap_or_default();
            let line = format!("{:keys$}  {:values$}  {source}", row.key, row.value);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
