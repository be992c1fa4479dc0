//! Values as they were given, before anybody knows what they ought to be.
//!
//! 1. Text stays text: nothing turns `007` into 7 or trims a space.
//! 2. What is given may be a secret, in whatever key it stands: no `Debug`, no `Display`, and wiped at the end.

use toml::de::DeValue;
use zeroize::Zeroizing;

/// One value as it was given.
#[derive(Clone)]
pub(super) enum Given {
    /// In a variable or after `--set`, where a number and a list are text as well.
    Plain(Zeroizing<String>),
    /// A string of TOML.
    Text(Zeroizing<String>),
    /// A whole number of TOML.
    Integer(Zeroizing<String>),
    /// `true` or `false` of TOML.
    Switch(bool),
    /// A list of TOML.
    List(Vec<Given>),
    /// Another value of TOML, with its name.
    Other(&'static str, Zeroizing<String>),
}

impl Given {
    pub(super) fn plain(text: &str) -> Self {
        Self::Plain(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn of_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(Zeroizing::new(text.to_string())),
            DeValue::Integer(number) => Self::Integer(Zeroizing::new(number.to_string())),
            DeValue::Float(number) => Self::Other("a fraction", Zeroizing::new(number.to_string())),
            DeValue::Boolean(switch) => Self::Switch(*switch),
            DeValue::Datetime(date) => Self::Other("a date", Zeroizing::new(date.to_string())),
            DeValue::Array(items) => {
                Self::List(items.iter().map(|item| Self::of_toml(item.get_ref())).collect())
            }
            DeValue::Table(_) => Self::Other("a table", Zeroizing::default()),
        }
    }

    /// What kind of value this is, for the sentence that refuses it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Plain(_) | Self::Text(_) => "text",
            Self::Integer(_) => "a number",
            Self::Switch(_) => "a switch",
            Self::List(_) => "a list",
            Self::Other(kind, _) => kind,
        }
    }

    /// The text, where text was given.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Switch(_) | Self::List(_) | Self::Other(..) => None,
        }
    }

    /// The items: those of a list, the parts between the commas of a variable, or the one value.
    pub(super) fn items(&self) -> Vec<Self> {
        match self {
            Self::Plain(text) if text.trim().is_empty() => Vec::new(),
            Self::Plain(text) => text.split(',').map(|item| Self::plain(item.trim())).collect(),
            Self::List(items) => items.clone(),
            Self::Text(_) | Self::Integer(_) | Self::Switch(_) | Self::Other(..) => vec![self.clone()],
        }
    }

    /// The value as a variable would hold it, to compare and to show; never for a secret.
    pub(super) fn spelled(&self) -> String {
        match self {
            Self::Plain(text) | Self::Text(text) | Self::Integer(text) | Self::Other(_, text) => {
                text.to_string()
            }
            Self::Switch(switch) => switch.to_string(),
            Self::List(items) => items.iter().map(Self::spelled).collect::<Vec<_>>().join(","),
        }
    }
}
