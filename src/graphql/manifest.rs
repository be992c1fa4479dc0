//! Documents that are known by a hash: what the builds of clients write.
//!
//! 1. Relay's form is an object of hash to text; Apollo's (`apollo-persisted-query-manifest`, version 1) a list of
//!    operations with `id` and `body`.
//! 2. No hash stands twice, no document is empty of operations: each is parsed when the manifest is read.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use super::document::is_readable;
use super::envelope::members;

/// The name of Apollo's form, and its only version.
const APOLLO: (&str, u64) = ("apollo-persisted-query-manifest", 1);

/// Documents by hash.
#[derive(Debug)]
pub struct Manifest {
    by_hash: HashMap<String, Arc<str>>,
    texts: HashSet<Arc<str>>,
}

/// What is wrong with a manifest. No document is named, but for its hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It has neither form.
    #[error("is neither a map of hash to document nor an apollo-persisted-query-manifest of version 1")]
    Form,
    /// It holds nothing.
    #[error("holds no document")]
    Empty,
    /// A hash stands twice.
    #[error("has the hash {0:?} twice")]
    Twice(String),
    /// A document cannot be read.
    #[error("has a document that is no GraphQL, under the hash {0:?}")]
    Document(String),
}

#[derive(Deserialize)]
struct Apollo {
    format: String,
    version: u64,
    operations: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    body: String,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(json: &str) -> Result<Self, ManifestError> {
        let mut manifest = Self {
            by_hash: HashMap::new(),
            texts: HashSet::new(),
        };
        for (hash, text) in entries(json).ok_or(ManifestError::Form)? {
            manifest.add(hash, &text)?;
        }
        if manifest.texts.is_empty() {
            return Err(ManifestError::Empty);
        }
        Ok(manifest)
    }

    fn add(&mut self, hash: String, text: &str) -> Result<(), ManifestError> {
        if !is_readable(text) {
            return Err(ManifestError::Document(hash));
        }
        let text: Arc<str> = Arc::from(text);
        if self.by_hash.insert(hash.clone(), Arc::clone(&text)).is_some() {
            return Err(ManifestError::Twice(hash));
        }
        self.texts.insert(text);
        Ok(())
    }

    /// The document of this hash.
    pub(super) fn document(&self, hash: &str) -> Option<&str> {
        self.by_hash.get(hash).map(AsRef::as_ref)
    }

    /// Whether this is one of the documents, letter for letter.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.texts.contains(text)
    }
}

fn entries(json: &str) -> Option<Vec<(String, String)>> {
    let members = members(json, usize::MAX).ok()?;
    if members.iter().any(|(name, _)| name == "format") {
        let Apollo {
            format,
            version,
            operations,
        } = serde_json::from_str(json).ok()?;
        let entries = operations.into_iter().map(|entry| (entry.id, entry.body));
        return ((format.as_str(), version) == APOLLO).then(|| entries.collect());
    }
    let entry =
        |(hash, text): (Cow<'_, str>, &str)| Some((hash.into_owned(), serde_json::from_str(text).ok()?));
    members.into_iter().map(entry).collect()
}
