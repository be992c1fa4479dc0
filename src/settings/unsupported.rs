//! What this version does not do yet: the one table that each new feature shortens.
//!
//! A key whose feature is missing is known, and may be set to its default; any other value stops the start, so
//! that no setting parses and does nothing.

use super::given::Given;
use super::key::Key;
use super::problem::Wrong;

/// What of a key is not supported.
enum Extent {
    /// Everything but the default, or everything where there is none.
    All,
    /// The items for which this says so.
    Items(fn(&str) -> bool),
}

const UNSUPPORTED: &[(&str, Extent)] = &[
    (
        "listen.address",
        Extent::Items(|item| item == "systemd" || item.starts_with("unix:")),
    ),
    ("listen.allowed_uids", Extent::All),
    ("cache.store", Extent::All),
    ("cache.path", Extent::All),
    ("cache.redis_url", Extent::All),
    ("cache.redis_url_file", Extent::All),
    ("cache.prefix", Extent::All),
    ("cache.key_file", Extent::All),
];

/// What is wrong with a value whose feature is missing.
pub(super) fn refuse(key: &Key, given: &Given, default: Option<&Given>) -> Option<Wrong> {
    let general = key.general();
    let (_, extent) = UNSUPPORTED.iter().find(|(key, _)| *key == general)?;
    let default = default.map(Given::spelled);
    let refused = match extent {
        Extent::All => default.as_ref() != Some(&given.spelled()),
        Extent::Items(refused) => given.items().iter().any(|item| refused(&item.spelled())),
    };
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
    UNSUPPORTED.iter().map(|(key, _)| *key)
}
