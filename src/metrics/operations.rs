//! Which operations were asked for, where requests are read.
//!
//! 1. Names are the callers' own: the first 200 have series of their own, all others one, as `other`.
//! 2. A name that is longer than people choose is `other` as well.
//! 3. An operation without a name is `operation=""`; a batch, and a document of which no operation is told, are not
//!    counted.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::graphql::{Kind, Operation};
use crate::name::Name;

/// Names with series of their own.
const NAMES: usize = 200;
/// The longest of them.
const LENGTH: usize = 128;
/// All the others.
const OTHER: &str = "other";

/// Counts operations; clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Operations {
    counters: Family<Labels, Counter>,
    names: Arc<RwLock<HashSet<Arc<str>>>>,
}

impl Operations {
    /// What is scraped.
    pub(super) fn counters(&self) -> &Family<Labels, Counter> {
        &self.counters
    }

    pub(super) fn count(&self, instance: &Name, operation: &Operation) {
        let labels = Labels {
            instance: instance.clone(),
            kind: operation.kind,
            operation: operation.name.as_ref().map(|name| self.known(name)),
        };
        self.counters.get_or_create(&labels).inc();
    }

    /// The name itself, or the one that stands for all others.
    fn known(&self, name: &Arc<str>) -> Arc<str> {
        if name.len() > LENGTH {
            return Arc::from(OTHER);
        }
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            return Arc::clone(name);
        }
        let full = names.len() >= NAMES;
        drop(names);
        let mut names = if full {
            return Arc::from(OTHER);
        } else {
            self.names.write().unwrap_or_else(PoisonError::into_inner)
        };
        // Others may have come meanwhile.
        if names.len() < NAMES || names.contains(name) {
            names.insert(Arc::clone(name));
            Arc::clone(name)
        } else {
            Arc::from(OTHER)
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    instance: Name,
    kind: Kind,
    operation: Option<Arc<str>>,
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [
            ("instance", self.instance.as_str()),
            ("kind", self.kind.as_str()),
            ("operation", self.operation.as_deref().unwrap_or_default()),
        ]
        .encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    /// The series after these operations of the default instance, in order.
    fn series(operations: impl IntoIterator<Item = (Kind, Option<String>)>) -> Vec<String> {
        let counted = Operations::default();
        for (kind, name) in operations {
            let name = name.map(Arc::from);
            counted.count(&Name::default_name(), &Operation { kind, name });
        }
        let mut registry = Registry::default();
        registry.register("operations", "Operations", counted.counters().clone());
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        let mut series: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("operations_total").map(str::to_owned))
            .collect();
        series.sort();
        series
    }

    #[test]
    fn operations_are_told_by_kind_and_name() {
        let named = |name: &str| Some(name.to_owned());
        let told = series([
            (Kind::Query, named("Orders")),
            (Kind::Query, None),
            (Kind::Mutation, named("Orders")),
            (Kind::Query, named("Orders")),
        ]);
        let expected = [
            r#"{instance="default",kind="mutation",operation="Orders"} 1"#,
            r#"{instance="default",kind="query",operation=""} 1"#,
            r#"{instance="default",kind="query",operation="Orders"} 2"#,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn ten_thousand_names_make_two_hundred_series_and_one_for_the_rest() {
        let names = (0..10_000)
            .chain(0..200)
            .map(|n| (Kind::Query, Some(format!("Name{n}"))));
        let told = series(names);
        assert_eq!(told.len(), NAMES + 1);
        let other = r#"{instance="default",kind="query",operation="other"} 9800"#;
        assert!(told.iter().any(|line| line == other), "{told:#?}");
        let first = r#"{instance="default",kind="query",operation="Name7"} 2"#;
        assert!(told.iter().any(|line| line == first), "{told:#?}");
    }

    #[test]
    fn a_name_that_is_too_long_takes_no_place() {
        let told = series([(Kind::Query, Some("x".repeat(LENGTH + 1)))]);
        assert_eq!(told, [r#"{instance="default",kind="query",operation="other"} 1"#]);
    }
}
