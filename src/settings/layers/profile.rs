//! The layer of a profile of Fluent's command-line tool: whoever has logged in there needs no second set of secrets.
//!
//! 1. A profile is the folder of its name in `FLUENT_PROFILE_DIR`, else in `.fluentcommerce` of the home folder.
//! 2. `profile.json` gives `url` (its `baseUrl`), `client_id` (`id`) and `client_secret` (`clientSecret`) and names
//!    the user; `user.NAME.json` of that user gives `username` and `password`. What one leaves out is not given.
//! 3. A profile is the lowest layer but the defaults: what is set anywhere else wins.
//! 4. A secret goes only with the name that it belongs to: where a client id or a username is set elsewhere, or no user
//!    logs in, the profile's own is left aside with its secret, as a wrong pair would count as a failed login.
//! 5. A name leads nowhere but to a file of the profile. What is wrong is told by file and field, never by content.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::Gathered;
use crate::files;
use crate::settings::given::Given;
use crate::settings::key::{Catalogue, Key};
use crate::settings::problem::{Problem, Source, Wrong};

/// Where profiles stand, where not in the home folder.
const FOLDER: &str = "FLUENT_PROFILE_DIR";
/// Where they stand in the home folder.
const HOME_FOLDER: &str = ".fluentcommerce";

/// More than any file of a profile has.
const LONGEST: usize = 1024 * 1024;
/// Fields of `profile.json` that belong together, and the keys that they stand for.
const CLIENT_FIELDS: [(&str, &str); 2] = [("id", "client_id"), ("clientSecret", "client_secret")];
/// Fields of a user's file.
const USER_FIELDS: [(&str, &str); 2] = [("username", "username"), ("password", "password")];

/// Reads the profile of each instance that names one.
pub(super) fn read(gathered: &mut Gathered, catalogue: &Catalogue, environment: &[(OsString, OsString)]) {
    for (key, name, source) in named(gathered) {
        let mut reader = Reader {
            catalogue,
            instance: key.parent(),
            gathered: &mut *gathered,
        };
        if let Err(wrong) = reader.profile(environment, &name) {
            gathered.incomplete = true;
            gathered.problems.push(Problem::new(&key, Some(source), wrong));
        }
    }
}

/// The profiles that are in force: each key with its name and place.
fn named(gathered: &Gathered) -> Vec<(Key, String, Source)> {
    let keys = gathered.entries.iter().map(|entry| &entry.key);
    let keys: BTreeSet<_> = keys.filter(|key| key.general() == "fluent.profile").collect();
    let named = keys.into_iter().filter_map(|key| {
        let entry = gathered.in_force(key)?;
        Some((key.clone(), entry.given.text()?.to_owned(), entry.source.clone()))
    });
    named.collect()
}

struct Reader<'a> {
    gathered: &'a mut Gathered,
    catalogue: &'a Catalogue,
    instance: Key,
}

impl Reader<'_> {
    fn profile(&mut self, environment: &[(OsString, OsString)], name: &str) -> Result<(), Wrong> {
        if !is_file_name(name) {
            return Err(Wrong::is("is not the name of a profile")
                .instead("write the name of a folder in ~/.fluentcommerce, such as \"sandbox\""));
        }
        let folder = folder(environment)?.join(name);
        let path = folder.join("profile.json");
        let profile = self.object(&path)?;
        self.give(&path, &profile, &[("baseUrl", "url")])?;
        if !self.is_set("client_id") {
            self.give(&path, &profile, &CLIENT_FIELDS)?;
        }
        let user = text(&path, &profile, "user")?;
        let Some(user) = user.filter(|_| !self.is_set("username") && self.has_user()) else {
            return Ok(());
        };
        if !is_file_name(user) {
            return Err(Wrong::is(format!(
                "leads to {}, whose field user is not the name of a user",
                path.display()
            )));
        }
        let path = folder.join(format!("user.{user}.json"));
        let user = self.object(&path)?;
        self.give(&path, &user, &USER_FIELDS)
    }

    /// Whether a key has a value beside the profile's, written out or in a file.
    fn is_set(&self, name: &str) -> bool {
        let key = self.instance.join(name);
        let twin = key.twin();
        let mut keys = std::iter::once(key).chain(twin);
        keys.any(|key| self.gathered.in_force(&key).is_some())
    }

    /// Whether the grant is one of a user.
    fn has_user(&self) -> bool {
        let key = self.instance.join("grant_type");
        let given = self.gathered.in_force(&key);
        given.and_then(|entry| entry.given.text()) != Some("client_credentials")
    }

    /// Reads a file that holds one JSON object.
    fn object(&mut self, path: &Path) -> Result<Map<String, Value>, Wrong> {
        self.gathered.secret_files.push(path.to_owned());
        let leads = |wrong: String| Wrong::is(format!("leads to {}, which {wrong}", path.display()));
        let bytes = files::read(path, LONGEST)
            .map(Zeroizing::new)
            .map_err(|error| leads(format!("cannot be read: {error}")))?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(leads("holds no JSON object".to_owned())),
            Err(error) => Err(leads(format!(
                "is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ))),
        }
    }

    fn give(
        &mut self,
        path: &Path,
        object: &Map<String, Value>,
        fields: &[(&'static str, &str)],
    ) -> Result<(), Wrong> {
        for (field, key) in fields {
            if let Some(value) = text(path, object, field)? {
                let source = Source::Profile {
                    path: path.to_owned(),
                    field,
                };
                let key = self.instance.join(*key);
                self.gathered
                    .give(self.catalogue, key, Given::plain(value), source);
            }
        }
        Ok(())
    }
}

/// The text of a field; an empty one is none.
fn text<'a>(path: &Path, object: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, Wrong> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Err(Wrong::is(
            format!("leads to {}, whose field {field} is no text", path.display()),
        )),
    }
}

/// Whether a name stands for one file, and for no way out of its folder.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// The folder of all profiles.
fn folder(environment: &[(OsString, OsString)]) -> Result<PathBuf, Wrong> {
    let variable = |name: &str| -> Option<&OsStr> {
        let found = environment.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_os_str())
            .filter(|value| !value.is_empty())
    };
    variable(FOLDER)
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(variable("HOME")?).join(HOME_FOLDER)))
        .ok_or_else(|| {
            Wrong::is("cannot be found, as there is no home folder").instead(format!(
                "name the folder of the profiles in the variable {FOLDER}"
            ))
        })
}
