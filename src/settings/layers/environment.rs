//! Settings in environment variables.
//!
//! 1. `FLUENT_PROXY__SECTION__KEY` is `section.key`; one that is unknown is a problem.
//! 2. The connector's fields have short names as well: `FLUENT_URL` is `fluent.url`.
//! 3. All other variables are not ours, Kubernetes' `FLUENT_PROXY_SERVICE_HOST` and the like among them.
//! 4. `FLUENT_PROXY_CONFIG` names the settings file where the command line does not.

use std::ffi::{OsStr, OsString};
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

/// Reads the variables that are ours.
pub(super) fn read(gathered: &mut Gathered, catalogue: &Catalogue, environment: &[(OsString, OsString)]) {
    let mut environment: Vec<_> = environment.iter().collect();
    environment.sort();
    for (name, value) in environment {
        // A name that is not UTF-8 can begin like ours, and is then as unknown as any other.
        let name = name.to_string_lossy();
        if let Err(problem) = read_one(gathered, catalogue, &name, value) {
            gathered.problems.push(problem);
        }
    }
}

fn read_one(
    gathered: &mut Gathered,
    catalogue: &Catalogue,
    name: &str,
    value: &OsStr,
) -> Result<(), Problem> {
    let source = || Some(Source::Variable(name.to_owned()));
    let key = if let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) {
        let key = catalogue.of_variable(rest).ok_or_else(|| {
            let wrong = Wrong::is("is not a variable that stands for a setting");
            Problem::of_source(source(), wrong).nearest(catalogue.nearest_variable(name))
        })?;
        key.map_err(|wrong| Problem::of_source(source(), wrong))?
    } else if let Some(key) = connector_key(name) {
        key
    } else {
        return Ok(());
    };
    if !matches!(catalogue.node(&key), Some(Node::Leaf { .. })) {
        let wrong = Wrong::is("is a table").instead("set one of the keys in it");
        return Err(Problem::new(&key, source(), wrong));
    }
    let value = value
        .to_str()
        .ok_or_else(|| Problem::new(&key, source(), Wrong::is("is not UTF-8")))?;
    gathered.give(
        catalogue,
        key,
        Given::plain(value),
        Source::Variable(name.to_owned()),
    );
    Ok(())
}

fn connector_key(name: &str) -> Option<Key> {
    let rest = name.strip_prefix(CONNECTOR_PREFIX)?;
    let key = CONNECTOR.iter().find(|key| key.to_ascii_uppercase() == rest)?;
    Some(Key::dotted("fluent").join(*key))
}
