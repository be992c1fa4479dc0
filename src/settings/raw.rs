//! Every setting once: its key and its kind.
//!
//! 1. A field is a key, its [`Kind`] says what may stand there. The schema, the known keys and what counts as a
//!    secret are derived from here; defaults and descriptions stand in `config/default.toml`, and only there.
//! 2. A [`Field`] holds no value but the place of one among the entries: so values, secrets above all, never pass
//!    through the libraries that layer and deserialize.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::kind::collector::CollectorUrl;
use super::kind::domain::{
    Account, AdminAddress, FieldPath, GrantType, HostName, Level, ListenAddress, OriginText, PathPattern,
    Prefix, RootUrl, StoreKind, TokenPath, WayOut,
};
use super::kind::graphql::MutationRule;
use super::kind::secret::{NeededHeader, Parameter, SecretText};
use super::kind::{Count, DAY, File, Kind, List, Ratio, SECOND, Size, Switch, Text, Time, Timeout, Word};
use crate::graphql::Permission;
use crate::telemetry::{AccessLog, LogFormat};
use crate::token::grant::Refresh;
use crate::upstream::HttpVersion;

/// The place of a value of the kind `K`, if there is one.
pub(super) struct Field<K> {
    place: Option<usize>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Field<K> {
    pub(super) fn place(&self) -> Option<usize> {
        self.place
    }
}

impl<K> Default for Field<K> {
    fn default() -> Self {
        Self {
            place: None,
            kind: PhantomData,
        }
    }
}

impl<K> fmt::Debug for Field<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl<'de, K> Deserialize<'de> for Field<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            place: Some(usize::deserialize(deserializer)?),
            kind: PhantomData,
        })
    }
}

impl<K: Kind> JsonSchema for Field<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed(std::any::type_name::<K>())
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::try_from(K::schema()).unwrap_or_default()
    }
}

/// A name of an instance or a user, in the schema; its values are read by [`super::key::name_of`].
struct NamePattern;

impl JsonSchema for NamePattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Name")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(?!default$)[a-z0-9][a-z0-9-]{0,62}$" })
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) fluent: Instance,
    #[schemars(with = "BTreeMap<NamePattern, Instance>")]
    pub(super) instances: BTreeMap<String, Instance>,
    pub(super) listen: Listen,
    pub(super) upstream: Upstream,
    pub(super) cache: Cache,
    pub(super) graphql: Graphql,
    pub(super) admin: Admin,
    pub(super) log: Log,
    pub(super) telemetry: Telemetry,
    pub(super) shutdown: Shutdown,
    pub(super) runtime: Runtime,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Instance {
    pub(super) url: Field<RootUrl>,
    pub(super) username: Field<Text>,
    pub(super) username_file: Field<File>,
    pub(super) password: Field<SecretText>,
    pub(super) password_file: Field<File>,
    pub(super) client_id: Field<Text>,
    pub(super) client_id_file: Field<File>,
    pub(super) client_secret: Field<SecretText>,
    pub(super) client_secret_file: Field<File>,
    pub(super) scope: Field<Text>,
    pub(super) grant_type: Field<Word<GrantType>>,
    pub(super) token_key: Field<FieldPath>,
    pub(super) account: Field<Account>,
    pub(super) danger_allow_http: Field<Switch>,
    pub(super) profile: Field<Text>,
    pub(super) token: Token,
    #[schemars(with = "BTreeMap<NamePattern, User>")]
    pub(super) users: BTreeMap<String, User>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Token {
    pub(super) path: Field<TokenPath>,
    pub(super) extra: BTreeMap<String, Field<Parameter>>,
    pub(super) timeout: Field<Timeout>,
    pub(super) default_lifetime: Field<Time<SECOND, { 365 * DAY }>>,
    pub(super) margin: Field<Time<0, DAY>>,
    // Without a pause after a refusal, Fluent would lock the account.
    pub(super) cool_down: Field<Time<SECOND, DAY>>,
    pub(super) refresh: Field<Word<Refresh>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct User {
    pub(super) username: Field<Text>,
    pub(super) username_file: Field<File>,
    pub(super) password: Field<SecretText>,
    pub(super) password_file: Field<File>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) address: Field<List<ListenAddress>>,
    pub(super) danger_allow_remote: Field<Switch>,
    pub(super) allowed_hosts: Field<List<HostName>>,
    pub(super) allowed_origins: Field<List<OriginText>>,
    pub(super) allowed_uids: Field<List<Count<0, { u32::MAX as usize }>>>,
    pub(super) required_header: Field<NeededHeader>,
    pub(super) paths: Field<List<PathPattern>>,
    pub(super) max_connections: Field<Count<1, 1_000_000>>,
    pub(super) header_timeout: Field<Timeout>,
    pub(super) idle_timeout: Field<Timeout>,
    pub(super) body_timeout: Field<Timeout>,
    pub(super) write_timeout: Field<Timeout>,
    pub(super) max_body: Field<Size>,
    pub(super) graphiql: Field<Switch>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) connect_timeout: Field<Timeout>,
    pub(super) response_timeout: Field<Timeout>,
    pub(super) idle_timeout: Field<Timeout>,
    pub(super) read_timeout: Field<Timeout>,
    pub(super) max_age: Field<Timeout>,
    pub(super) http_version: Field<Word<HttpVersion>>,
    pub(super) ca_file: Field<File>,
    pub(super) client_cert_file: Field<File>,
    pub(super) client_key_file: Field<File>,
    pub(super) proxy: Field<WayOut>,
    pub(super) max_in_flight: Field<Count<1, 1_000_000>>,
    pub(super) queue: Field<Count<0, 1_000_000>>,
    pub(super) queue_timeout: Field<Timeout>,
    pub(super) replay_limit: Field<Size>,
    pub(super) replay_memory: Field<Size>,
    pub(super) via: Field<Switch>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cache {
    pub(super) store: Field<Word<StoreKind>>,
    pub(super) path: Field<File>,
    pub(super) redis_url: Field<SecretText>,
    pub(super) redis_url_file: Field<File>,
    pub(super) prefix: Field<Prefix>,
    pub(super) key_file: Field<File>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Graphql {
    pub(super) inspect: Field<Switch>,
    pub(super) mutations: Field<MutationRule>,
    pub(super) introspection: Field<Word<Permission>>,
    pub(super) max_depth: Field<Count<0, 1_000_000>>,
    pub(super) max_aliases: Field<Count<0, 1_000_000>>,
    pub(super) max_root_fields: Field<Count<0, 1_000_000>>,
    // Without a limit, a small document could cost more time than its sender.
    pub(super) max_tokens: Field<Count<1, 1_000_000>>,
    pub(super) inspect_limit: Field<Size>,
    pub(super) inspect_memory: Field<Size>,
    pub(super) rest: Field<Word<Permission>>,
    pub(super) trusted_documents: Field<File>,
    pub(super) trusted_only: Field<Switch>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) address: Field<AdminAddress>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: Field<Word<LogFormat>>,
    pub(super) level: Field<Level>,
    pub(super) access: Field<Word<AccessLog>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Telemetry {
    pub(super) otlp_endpoint: Field<CollectorUrl>,
    pub(super) service_name: Field<Text>,
    pub(super) sample_ratio: Field<Ratio>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Shutdown {
    pub(super) delay: Field<Time<0, DAY>>,
    pub(super) deadline: Field<Timeout>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Runtime {
    pub(super) workers: Field<Count<1, 1024>>,
}
