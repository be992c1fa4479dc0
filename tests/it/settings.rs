//! What each setting does, seen from outside: its default, and that another value changes it.
//!
//! 1. A key of the schema without a row fails a test; so does a row whose key the schema does not have.
//! 2. A row is a test of its own, by the name of its function, which looks at the default and at another value.
//! 3. The keys of `[instances.NAME]` are those of `[fluent]`, which a test proves of the schema, and are read by
//!    the same code; that they are read at all has a row.
//! 4. Waits are waits of time that stands still, see [`super::support::Frozen`].

mod cache;
mod fluent;
mod graphql;
mod listen;
mod process;
mod upstream;

use std::collections::BTreeSet;

use fluent_auth_proxy::settings::{Settings, Sources, schema};
use serde_json::Value;

use super::support::environment;

const ME: &str = "{ me { username } }";
const PATHS: &str = "[listen]\npaths = [\"/graphql\", \"/api/v4.1/*\"]\n";

/// Rows: each key, and the function that proves it.
macro_rules! rows {
    ($($key:literal => $module:ident::$check:ident;)*) => {
        const KEYS: &[&str] = &[$($key),*];

        mod row {
            $(
                #[tokio::test]
                async fn $check() {
                    super::$module::$check().await;
                }
            )*
        }
    };
}

rows! {
    "admin.address" => process::admin_address;
    "cache.key_file" => cache::key_file;
    "cache.path" => cache::path;
    "cache.prefix" => cache::prefix;
    "cache.redis_url" => cache::redis_url;
    "cache.redis_url_file" => cache::redis_url_file;
    "cache.store" => cache::store;
    "fluent.account" => fluent::fluent_account;
    "fluent.client_id" => fluent::client_id;
    "fluent.client_id_file" => fluent::client_id_file;
    "fluent.client_secret" => fluent::client_secret;
    "fluent.client_secret_file" => fluent::client_secret_file;
    "fluent.danger_allow_http" => fluent::danger_allow_http;
    "fluent.grant_type" => fluent::grant_type;
    "fluent.password" => fluent::password;
    "fluent.password_file" => fluent::password_file;
    "fluent.profile" => fluent::profile;
    "fluent.scope" => fluent::scope;
    "fluent.token.cool_down" => fluent::token_cool_down;
    "fluent.token.default_lifetime" => fluent::token_default_lifetime;
    "fluent.token.extra.*" => fluent::token_extra;
    "fluent.token.margin" => fluent::token_margin;
    "fluent.token.path" => fluent::token_path;
    "fluent.token.refresh" => fluent::token_refresh;
    "fluent.token.timeout" => fluent::token_timeout;
    "fluent.token_key" => fluent::token_key;
    "fluent.url" => fluent::url;
    "fluent.username" => fluent::username;
    "fluent.username_file" => fluent::username_file;
    "fluent.users.*.password" => fluent::users_password;
    "fluent.users.*.password_file" => fluent::users_password_file;
    "fluent.users.*.username" => fluent::users_username;
    "fluent.users.*.username_file" => fluent::users_username_file;
    "graphql.inspect" => graphql::inspect;
    "graphql.inspect_limit" => graphql::inspect_limit;
    "graphql.inspect_memory" => graphql::inspect_memory;
    "graphql.introspection" => graphql::introspection;
    "graphql.max_aliases" => graphql::max_aliases;
    "graphql.max_depth" => graphql::max_depth;
    "graphql.max_root_fields" => graphql::max_root_fields;
    "graphql.max_tokens" => graphql::max_tokens;
    "graphql.mutations" => graphql::mutations;
    "graphql.rest" => graphql::rest;
    "graphql.trusted_documents" => graphql::trusted_documents;
    "graphql.trusted_only" => graphql::trusted_only;
    "instances.*" => fluent::instances;
    "listen.address" => listen::address;
    "listen.allowed_hosts" => listen::allowed_hosts;
    "listen.allowed_origins" => listen::allowed_origins;
    "listen.allowed_uids" => listen::allowed_uids;
    "listen.body_timeout" => listen::body_timeout;
    "listen.danger_allow_remote" => listen::danger_allow_remote;
    "listen.graphiql" => listen::graphiql;
    "listen.header_timeout" => listen::header_timeout;
    "listen.idle_timeout" => listen::idle_timeout;
    "listen.max_body" => listen::max_body;
    "listen.max_connections" => listen::max_connections;
    "listen.paths" => listen::paths;
    "listen.required_header" => listen::required_header;
    "listen.write_timeout" => listen::write_timeout;
    "log.access" => process::log_access;
    "log.format" => process::log_format;
    "log.level" => process::log_level;
    "runtime.workers" => process::runtime_workers;
    "shutdown.deadline" => process::shutdown_deadline;
    "shutdown.delay" => process::shutdown_delay;
    "telemetry.otlp_endpoint" => process::telemetry_otlp_endpoint;
    "telemetry.sample_ratio" => process::telemetry_sample_ratio;
    "telemetry.service_name" => process::telemetry_service_name;
    "upstream.ca_file" => upstream::ca_file;
    "upstream.client_cert_file" => upstream::client_cert_file;
    "upstream.client_key_file" => upstream::client_key_file;
    "upstream.connect_timeout" => upstream::connect_timeout;
    "upstream.http_version" => upstream::http_version;
    "upstream.idle_timeout" => upstream::upstream_idle_timeout;
    "upstream.max_age" => upstream::max_age;
    "upstream.max_in_flight" => upstream::max_in_flight;
    "upstream.proxy" => upstream::proxy;
    "upstream.queue" => upstream::queue;
    "upstream.queue_timeout" => upstream::queue_timeout;
    "upstream.read_timeout" => upstream::read_timeout;
    "upstream.replay_limit" => upstream::replay_limit;
    "upstream.replay_memory" => upstream::replay_memory;
    "upstream.response_timeout" => upstream::response_timeout;
    "upstream.via" => upstream::via;
}

/// The keys below a table of the schema; what users name is `*`.
fn leaves(table: &Value, key: &str, into: &mut BTreeSet<String>) {
    let mut below: Vec<(&str, &Value)> = Vec::new();
    for (tables, named) in [("properties", true), ("patternProperties", false)] {
        let tables = table[tables].as_object().into_iter().flatten();
        below.extend(tables.map(|(name, table)| (if named { name.as_str() } else { "*" }, table)));
    }
    let free = &table["additionalProperties"];
    if free.is_object() {
        below.push(("*", free));
    }
    if below.is_empty() {
        assert!(into.insert(key.to_owned()));
    }
    for (name, table) in below {
        let key = if key.is_empty() {
            name.to_owned()
        } else {
            format!("{key}.{name}")
        };
        leaves(table, &key, into);
    }
}

#[test]
fn every_key_of_the_schema_has_a_row_and_no_row_is_of_another() {
    let mut schema: Value = serde_json::from_str(&schema()).unwrap();
    let sections = schema["properties"].as_object_mut().unwrap();
    let instances = sections.remove("instances").unwrap();
    let names = instances["patternProperties"].as_object().unwrap();
    assert!(names.values().eq([&sections["fluent"]]), "rule 3");
    let mut known = BTreeSet::from(["instances.*".to_owned()]);
    leaves(&schema, "", &mut known);
    let mut proven = BTreeSet::new();
    for key in KEYS {
        assert!(proven.insert((*key).to_owned()), "{key} has two rows");
    }
    let lacking: Vec<_> = known.difference(&proven).collect();
    let strange: Vec<_> = proven.difference(&known).collect();
    assert!(lacking.is_empty(), "without a row: {lacking:?}");
    assert!(strange.is_empty(), "no keys of the schema: {strange:?}");
}

/// The problems of settings that do not load.
fn problems(url: &str, toml: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment(url),
        set: Vec::new(),
    };
    Settings::load(&sources).unwrap_err().to_string()
}
