//! The JSON Schema of the settings file: keys and kinds from [`super::raw`], defaults and descriptions from
//! `config/default.toml`.
//!
//! That file is documentation that is read by programs too:
//! 1. A run of lines `# …` describes the key right below it, whether that is set or an example `#key = value`.
//! 2. A header of a table is `[name]`, or `#[name]` where it stands for those that users name.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::key::{ANY, Key};
use super::{DEFAULT, raw};

/// A key as `default.toml` has it.
pub(super) struct Documented {
    /// The lines above it, as one text.
    pub(super) description: String,
    /// What stands after `=`.
    pub(super) value: String,
    /// Whether it is set, not an example.
    pub(super) set: bool,
}

/// The keys and kinds alone.
pub(super) fn shape() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings
        .into_generator()
        .into_root_schema_for::<raw::Settings>()
        .to_value()
}

/// The whole schema.
pub(super) fn schema() -> Value {
    let mut schema = shape();
    describe(&mut schema, &Key::default(), &documented());
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), json!("Settings of fluent-auth-proxy"));
    }
    schema
}

fn describe(schema: &mut Value, key: &Key, documented: &BTreeMap<String, Documented>) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    for tables in ["properties", "patternProperties"] {
        let Some(tables_below) = schema.get_mut(tables).and_then(Value::as_object_mut) else {
            continue;
        };
        for (part, below) in tables_below {
            let part = if tables == "properties" {
                part.as_str()
            } else {
                ANY
            };
            describe(below, &key.join(part), documented);
        }
    }
    if let Some(free) = schema.get_mut("additionalProperties") {
        describe(free, &key.join(ANY), documented);
    }
    let Some(known) = documented.get(&key.general()) else {
        return;
    };
    schema.insert("description".to_owned(), Value::from(known.description.as_str()));
    if known.set
        && let Some(default) = json_of(&known.value)
    {
        schema.insert("default".to_owned(), default);
    }
}

/// A value of TOML as JSON has it.
fn json_of(toml: &str) -> Option<Value> {
    fn value(toml: &DeValue<'_>) -> Value {
        match toml {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(number) => number.to_string().parse::<i64>().map_or(Value::Null, Value::from),
            DeValue::Float(number) => number.to_string().parse::<f64>().map_or(Value::Null, Value::from),
            DeValue::Boolean(switch) => Value::from(*switch),
            DeValue::Datetime(date) => Value::from(date.to_string()),
            DeValue::Array(items) => items.iter().map(|item| value(item.get_ref())).collect(),
            DeValue::Table(table) => Value::Object(
                table
                    .iter()
                    .map(|(key, below)| (key.get_ref().to_string(), value(below.get_ref())))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
    DeValue::parse(toml).ok().map(|toml| value(toml.get_ref()))
}

/// Each key of `default.toml`, in the spelling of [`Key::general`].
pub(super) fn documented() -> BTreeMap<String, Documented> {
    let mut documented = BTreeMap::new();
    let mut table = Key::default();
    let mut description = Vec::new();
    for line in DEFAULT.lines() {
        if let Some(prose) = line.strip_prefix("# ") {
            description.push(prose.trim());
            continue;
        }
        let code = line.strip_prefix('#').unwrap_or(line);
        if let Some(header) = code.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = Key::dotted(header);
        } else if let Some((key, value)) = code.split_once(" = ") {
            let known = Documented {
                description: description.join(" "),
                value: value.to_owned(),
                set: code.len() == line.len(),
            };
            documented.insert(table.join(key).general(), known);
        }
        description.clear();
    }
    documented
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings::key::Catalogue;
    use crate::settings::{Settings, Sources};

    fn known() -> BTreeSet<String> {
        Catalogue::of(&shape())
            .leaves()
            .iter()
            .map(Key::general)
            .collect()
    }

    #[test]
    fn the_committed_schema_is_the_one_of_this_program() {
        let committed = include_str!("../../config/schema.json");
        assert!(
            serde_json::from_str::<Value>(committed).ok() == Some(schema()),
            "config/schema.json has drifted: make it again by `cargo run -- config schema > config/schema.json`"
        );
    }

    #[test]
    fn every_key_stands_in_default_toml_and_no_other() {
        // A parameter of a name that users choose has an example of one.
        let written: BTreeSet<_> = documented().into_keys().collect();
        assert_eq!(written, known());
    }

    #[test]
    fn every_key_has_a_description_that_is_a_sentence() {
        for (key, documented) in documented() {
            assert!(
                documented.description.ends_with('.'),
                "{key}: {:?}",
                documented.description
            );
        }
    }

    #[test]
    fn every_example_is_a_value_that_loads() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        let manifest = folder.path().join("documents.json");
        std::fs::write(&manifest, r#"{"a1":"{ me { id } }"}"#).unwrap();
        let profile = folder.path().join("sandbox");
        std::fs::create_dir(&profile).unwrap();
        std::fs::write(profile.join("profile.json"), "{}").unwrap();
        for (general, example) in documented().into_iter().filter(|(_, known)| !known.set) {
            let key = general
                .replace("users.*", "users.ops")
                .replace("extra.*", "extra.audience");
            let is_file = general.ends_with("_file");
            let value = if is_file {
                format!("{:?}", file.display().to_string())
            } else if general == "graphql.trusted_documents" {
                format!("{:?}", manifest.display().to_string())
            } else {
                example.value
            };
            // What belongs together, so that only the example itself can be wrong.
            let mut needed = vec![
                ("fluent.url", "\"https://acme.example\"".to_owned()),
                ("fluent.client_id", "\"i\"".to_owned()),
                ("fluent.client_secret", "\"s\"".to_owned()),
                ("fluent.username", "\"u\"".to_owned()),
                ("fluent.password", "\"p\"".to_owned()),
                ("fluent.users.ops.username", "\"u\"".to_owned()),
                ("fluent.users.ops.password", "\"p\"".to_owned()),
            ];
            let content = match general.as_str() {
                "cache.key_file" => "A".repeat(43) + "=",
                "cache.redis_url_file" => "redis://localhost".to_owned(),
                _ => "x".to_owned(),
            };
            std::fs::write(&file, content).unwrap();
            if general.starts_with("cache.redis_url") {
                needed.push(("cache.store", "\"redis\"".to_owned()));
            } else if general.starts_with("cache.") && general != "cache.store" {
                needed.push(("cache.store", "\"file\"".to_owned()));
                needed.push(("cache.path", "\"folder\"".to_owned()));
            }
            if key.starts_with("upstream.client_") {
                let path = format!("{:?}", file.display().to_string());
                needed.push(("upstream.client_cert_file", path.clone()));
                needed.push(("upstream.client_key_file", path));
            }
            if key == "listen.allowed_uids" {
                needed.push(("listen.address", "\"unix:/run/proxy/socket\"".to_owned()));
            }
            let replaced = key.trim_end_matches("_file");
            needed.retain(|(known, _)| *known != key && (*known != replaced || !is_file));
            let lines = needed.iter().map(|(key, value)| format!("{key} = {value}\n"));
            let text: String = lines.chain([format!("{key} = {value}\n")]).collect();
            let path = folder.path().join("proxy.toml");
            std::fs::write(&path, text).unwrap();
            let sources = Sources {
                file: Some(path),
                environment: vec![("FLUENT_PROFILE_DIR".into(), folder.path().into())],
                set: Vec::new(),
            };
            if let Err(problems) = Settings::load(&sources) {
                panic!("{key}: {problems}");
            }
        }
    }

    #[test]
    fn the_schema_marks_secrets_and_no_file_of_one() {
        let catalogue = Catalogue::of(&shape());
        let secrets = catalogue
            .leaves()
            .iter()
            .filter(|leaf| catalogue.is_secret(leaf))
            .map(Key::general);
        let expected = [
            "cache.redis_url",
            "fluent.client_secret",
            "fluent.password",
            "fluent.token.extra.*",
            "fluent.users.*.password",
            "listen.required_header",
        ];
        assert_eq!(
            secrets.collect::<BTreeSet<_>>(),
            expected.map(str::to_owned).into()
        );
    }
}
