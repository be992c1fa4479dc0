//! Settings in environment variables.
//!
//! 1. `FLUENT_PROXY__SECTION__KEY` is `section.key`; one that is unknown is a problem.
//! 2. The connector's fields have short names as well: `FLUENT_URL` is `fluent.url`.
//! 3. All other variables are not ours, Kubernetes' `FLUENT_PROXY_SERVICE_HOST` and the like among them.
//! 4. `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are kept for `upstream.proxy`.
//! 5. Of OpenTelemetry's standard variables only the names are kept: its library reads them itself.
//! 6. `FLUENT_PROXY_CONFIG` names the settings file where the command line does not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use super::Gathered;
use crate::settings::given::Given;
use crate::settings::key::{Catalogue, Key, Node, VARIABLE_PREFIX};
use crate::settings::problem::{Problem, Source, Wrong};

const SETTINGS_FILE: &str = "FLUENT_PROXY_CONFIG";
const CONNECTOR_PREFIX: &str = "FLUENT_";
/// The keys of `[fluent]` that are the connector's fields.
const CONNECTOR: [&str; 13] = [
    "url",
    "username",
    "username_file",
    "password",
    "password_file",
    "client_id",
    "client_id_file",
    "client_secret",
    "client_secret_file",
    "scope",
    "grant_type",
    "token_key",
    "account",
];

/// The settings file that the environment names.
pub(super) fn settings_file(environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let named = environment.iter().find(|(name, _)| name == SETTINGS_FILE);
    named.map(|(_, path)| PathBuf::from(path))
}

/// The variables that tell of proxies on the way out; `https_proxy` is `HTTPS_PROXY`, and an empty one is none.
pub(super) fn proxies(environment: &[(OsString, OsString)]) -> BTreeMap<String, Given> {
    let mut proxies = BTreeMap::new();
    for upper in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
        for name in [upper.to_owned(), upper.to_ascii_lowercase()] {
            let value = environment.iter().find(|(known, _)| *known == *name);
            let text = value.map(|(_, text)| text.to_string_lossy()).unwrap_or_default();
            if !text.trim().is_empty() && !proxies.contains_key(upper) {
                proxies.insert(upper.to_owned(), Given::plain(text.trim()));
            }
        }
    }
    proxies
}

/// The names of OpenTelemetry's variables that are set; an empty one is not.
pub(super) fn standard(environment: &[(OsString, OsString)]) -> BTreeSet<String> {
    let set = environment.iter().filter(|(_, value)| !value.is_empty());
    let names = set.filter_map(|(name, _)| name.to_str());
    names
        .filter(|name| name.starts_with("OTEL_"))
        .map(str::to_owned)
        .collect()
}

/// Reads the variables that are ours.
pub(super) fn read(gathered: &mut Gathered, catalogue: &Catalogue, environment: &[(OsString, OsString)]) {
    let mut environment: Vec<_> = environment.iter().collect();
    environment.sort();
    for (name, value) in environment {
        // A name that is not UTF-8 can begin like ours, and is then as unknown as any other.
        let name = name.to_string_lossy();
        let key = match key_of(catalogue, &name) {
            Some(Ok(key)) => key,
            Some(Err(problem)) => {
                gathered.problems.push(*problem);
                continue;
            }
            None => continue,
        };
        let source = Source::Variable(name.into_owned());
        let is_leaf = matches!(catalogue.node(&key), Some(Node::Leaf { .. }));
        let wrong = match value.to_str() {
            Some(value) if is_leaf => {
                gathered.give(catalogue, key, Given::plain(value), source);
                continue;
            }
            Some(_) | None if !is_leaf => Wrong::is("is a table").instead("set one of the keys in it"),
            Some(_) | None => Wrong::is("is not UTF-8"),
        };
        gathered.problems.push(Problem::new(&key, Some(source), wrong));
    }
}

/// The key that a variable stands for; `None` where it is not ours.
fn key_of(catalogue: &Catalogue, name: &str) -> Option<Result<Key, Box<Problem>>> {
    let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
        return connector_key(name).map(Ok);
    };
    let problem = |wrong| Problem::of_source(Some(Source::Variable(name.to_owned())), wrong);
    if let Some(key) = catalogue.of_variable(rest) {
        return Some(key.map_err(|wrong| Box::new(problem(wrong))));
    }
    let unknown = problem(Wrong::is("is not a variable that stands for a setting"));
    Some(Err(Box::new(unknown.nearest(catalogue.nearest_variable(name)))))
}

fn connector_key(name: &str) -> Option<Key> {
    let rest = name.strip_prefix(CONNECTOR_PREFIX)?;
    let key = CONNECTOR.iter().find(|key| key.to_ascii_uppercase() == rest)?;
    Some(Key::dotted("fluent").join(*key))
}
