//! What this version does not do yet: the one table that each new feature shortens.
//!
//! A key whose feature is missing is known, and may be set to its default; any other value stops the start, so
//! that no setting parses and does nothing.

use super::given::Given;
use super::key::Key;
use super::problem::Wrong;

const UNSUPPORTED: &[&str] = &[
    "cache.store",
    "cache.path",
    "cache.redis_url",
    "cache.redis_url_file",
    "cache.prefix",
    "cache.key_file",
];

/// What is wrong with a value whose feature is missing.
pub(super) fn refuse(key: &Key, given: &Given, default: Option<&Given>) -> Option<Wrong> {
    let general = key.general();
    UNSUPPORTED.iter().find(|key| **key == general)?;
    let default = default.map(Given::spelled);
    let refused = default.as_ref() != Some(&given.spelled());
    let right = match default {
        Some(default) if default.is_empty() => "leave it out".to_owned(),
        Some(default) => format!("leave it out: it is {default:?} then"),
        None => "leave it out".to_owned(),
    };
    refused.then(|| Wrong::is("has a value that is not supported by this version").instead(right))
}

/// The keys of the table.
#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    UNSUPPORTED.iter().copied()
}
