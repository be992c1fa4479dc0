//! Settles the rules for what is asked.

use std::sync::Arc;

use super::Settler;
use crate::graphql::{Manifest, Purpose, Rules, Trusted};
use crate::settings::Inspection;
use crate::settings::kind::{File, Kind};
use crate::settings::problem::{Source, Wrong};
use crate::settings::raw::{self, Field};

/// The longest manifest that is read.
const LONGEST_MANIFEST: usize = 64 * 1024 * 1024;

impl Settler {
    /// What requests are read for, where they are; `None` where a value is wrong.
    #[expect(clippy::option_option, reason = "it is wrong, or not wanted, or there")]
    pub(super) fn inspection(&mut self, raw: &raw::Graphql) -> Option<Option<Inspection>> {
        let inspect = self.read(&raw.inspect);
        let mutations = self.read(&raw.mutations);
        let introspection = self.read(&raw.introspection);
        let max_depth = self.read(&raw.max_depth);
        let max_aliases = self.read(&raw.max_aliases);
        let max_root_fields = self.read(&raw.max_root_fields);
        let max_tokens = self.read(&raw.max_tokens);
        let inspect_limit = self.read(&raw.inspect_limit);
        let inspect_memory = self.read(&raw.inspect_memory);
        let rest = self.read(&raw.rest);
        let documents = self.manifest(&raw.trusted_documents);
        let trusted_only = self.read(&raw.trusted_only);
        if trusted_only == Some(true) && !self.is_given(&raw.trusted_documents) {
            let wrong =
                Wrong::is("stands without graphql.trusted_documents, so that every request is refused")
                    .instead("name the manifest of the documents that may be sent");
            self.refuse(&raw.trusted_only, wrong);
        }
        let unbounded = |size: u64| if size == 0 { u64::MAX } else { size };
        if unbounded(inspect_memory?) < inspect_limit? {
            let wrong = Wrong::is("has no room for one body as long as graphql.inspect_limit lets it be")
                .instead("make it larger, or graphql.inspect_limit smaller");
            self.refuse(&raw.inspect_memory, wrong);
        }
        let limit = |limit: usize| (limit > 0).then_some(limit);
        let rules = Rules {
            mutations: mutations?,
            introspection: introspection?,
            max_depth: limit(max_depth?),
            max_aliases: limit(max_aliases?),
            max_root_fields: limit(max_root_fields?),
            max_tokens: max_tokens?,
            rest: rest?,
            documents,
            trusted: if trusted_only? {
                Trusted::Only
            } else {
                Trusted::Any
            },
        };
        let purpose = match (self.has_rule(raw), inspect?) {
            (true, _) => Purpose::Ruling,
            (false, true) => Purpose::Telling,
            (false, false) => return Some(None),
        };
        let limit = inspect_limit?;
        Some(Some(Inspection {
            purpose,
            rules,
            limit: (limit > 0).then_some(limit),
            memory: usize::try_from(unbounded(inspect_memory?)).unwrap_or(usize::MAX),
        }))
    }

    /// Whether anything that rules is not as it is by default.
    fn has_rule(&self, raw: &raw::Graphql) -> bool {
        self.is_changed(&raw.mutations)
            || self.is_changed(&raw.introspection)
            || self.is_changed(&raw.max_depth)
            || self.is_changed(&raw.max_aliases)
            || self.is_changed(&raw.max_root_fields)
            || self.is_changed(&raw.max_tokens)
            || self.is_changed(&raw.inspect_limit)
            || self.is_changed(&raw.rest)
            || self.is_changed(&raw.trusted_documents)
            || self.is_changed(&raw.trusted_only)
    }

    /// Whether a value is another than the built-in one, however it is spelled.
    fn is_changed<K: Kind>(&self, field: &Field<K>) -> bool {
        let Some(entry) = field.place().and_then(|place| self.entries.get(place)) else {
            return false;
        };
        let built_in = self
            .entries
            .iter()
            .find(|other| other.source == Source::Default && other.key == entry.key);
        let shown = |given| K::read(given).ok().map(|settled| K::show(&settled));
        built_in.and_then(|entry| shown(&entry.given)) != shown(&entry.given)
    }

    fn manifest(&mut self, field: &Field<File>) -> Option<Arc<Manifest>> {
        let path = self.read(field)?;
        let json = self.file(field, &path, LONGEST_MANIFEST)?;
        let manifest = match std::str::from_utf8(&json) {
            Ok(json) => Manifest::read(json).map_err(|error| error.to_string()),
            Err(_) => Err(format!("is not UTF-8: {}", path.display())),
        };
        let refuse = |wrong| self.refuse(field, Wrong::is(format!("names a file that {wrong}")));
        manifest.map(Arc::new).map_err(refuse).ok()
    }
}
