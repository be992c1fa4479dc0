//! Names of instances and users: what a path, a header, a label of a metric may say without escaping.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name of an instance or a user: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The text is no [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 63 of the characters a-z, 0-9 and '-', and does not start with '-'")]
pub struct InvalidName;

impl Name {
    /// The instance of `[fluent]`, and the user that each instance itself names.
    pub const DEFAULT: &'static str = "default";

    /// The name that is [`Name::DEFAULT`].
    #[must_use]
    pub fn default_name() -> Self {
        Self(Arc::from(Self::DEFAULT))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
        let fits = (1..=63).contains(&text.len());
        if fits && !text.starts_with('-') && text.as_bytes().iter().all(allowed) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(InvalidName)
        }
    }
}

/// So that maps keyed by names are searched with the text of a path or header, without allocating.
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_pattern_takes() {
        for good in ["a", "0", "eu-prod", "a-", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a_b", "a.b", "ä", "a b", &"x".repeat(64)] {
            assert_eq!(bad.parse::<Name>(), Err(InvalidName));
        }
    }
}
