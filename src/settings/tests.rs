//! Laws of loading, from sources to settled settings or problems.

mod problems;
mod profile;
mod refusals;
mod text;

use std::path::{Path, PathBuf};

use super::*;
use crate::secret::Secret;
use crate::token::grant::Grant;

/// What every load needs, as TOML.
const NEEDED: &str = r#"
[fluent]
url = "https://acme.api.fluentretail.com"
username = "integration"
password = "hunter2"
client_id = "ACME"
client_secret = "s3cr3t"
"#;

/// What every load needs, as variables.
const NEEDED_VARIABLES: [(&str, &str); 5] = [
    ("FLUENT_URL", "https://acme.api.fluentretail.com"),
    ("FLUENT_USERNAME", "integration"),
    ("FLUENT_PASSWORD", "hunter2"),
    ("FLUENT_CLIENT_ID", "ACME"),
    ("FLUENT_CLIENT_SECRET", "s3cr3t"),
];

/// Sources for one load, with a folder for its files.
struct Trial {
    folder: tempfile::TempDir,
    sources: Sources,
}

impl Trial {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            sources: Sources::default(),
        }
    }

    fn needed() -> Self {
        NEEDED_VARIABLES
            .iter()
            .fold(Self::new(), |trial, (name, value)| trial.variable(name, value))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.path(name), bytes).unwrap();
        self
    }

    /// `{}` in the text is the folder.
    fn file(mut self, text: &str) -> Self {
        let folder = self.folder.path().display().to_string();
        self = self.write("proxy.toml", text.replace("{}", &folder));
        self.sources.file = Some(self.path("proxy.toml"));
        self
    }

    fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.sources.environment.retain(|(known, _)| known != name);
        self
    }

    fn set(mut self, assignment: &str) -> Self {
        self.sources.set.push(assignment.to_owned());
        self
    }

    fn load(&self) -> Loaded {
        Settings::load(&self.sources).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn settings(&self) -> Settings {
        self.load().settings
    }

    /// The problems as text, with the folder left out; every secret of these tests begins with `hunter`.
    fn problems(&self) -> Vec<String> {
        let problems = Settings::load(&self.sources).expect_err("these settings must be refused");
        assert!(
            !format!("{problems} {problems:?}").contains("hunter"),
            "a secret is in {problems}"
        );
        let folder = format!("{}/", self.folder.path().display());
        problems
            .iter()
            .map(|problem| problem.to_string().replace(&folder, ""))
            .collect()
    }

    /// The one problem.
    fn problem(&self) -> String {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.concat()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests ask whether a secret arrived as it was written"
)]
fn exposed(secret: &Secret) -> &str {
    secret.expose()
}

fn password(settings: &Settings, instance: &str, user: &str) -> (String, String) {
    let login = &settings.instances[instance].users[user];
    let Grant::Password { username, password } = &login.grant else {
        panic!("{:?}", login.grant)
    };
    (username.clone(), exposed(password).to_owned())
}

#[test]
fn defaults_and_credentials_are_enough() {
    let settings = Trial::new().file(NEEDED).settings();
    let fluent = &settings.instances["default"];
    assert_eq!(fluent.url.as_str(), "https://acme.api.fluentretail.com/");
    assert_eq!(fluent.account, None);
    let login = &fluent.users["default"];
    assert_eq!(
        login.endpoint.as_str(),
        "https://acme.api.fluentretail.com/oauth/token"
    );
    assert_eq!(
        (login.client_id.as_str(), exposed(&login.client_secret)),
        ("ACME", "s3cr3t")
    );
    assert_eq!(
        (login.scope.as_str(), login.token_key.as_slice()),
        ("api", ["accessToken".to_owned()].as_slice())
    );
    assert_eq!(
        password(&settings, "default", "default"),
        ("integration".into(), "hunter2".into())
    );
    let seconds = Duration::from_secs;
    assert_eq!(fluent.policy.timeout, seconds(10));
    assert_eq!(fluent.policy.default_lifetime, seconds(3600));
    assert_eq!(fluent.policy.margin, seconds(60));
    assert_eq!(fluent.policy.cool_down, seconds(16 * 60));
    assert_eq!(settings.listen.addresses, [Address::Localhost(4280)]);
    assert_eq!(
        settings.listen.rules.paths,
        [guard::PathRule::Exact("/graphql".into())]
    );
    assert!(settings.listen.rules.required_header.is_none());
    assert_eq!(settings.listen.max_body, Some(64 << 20));
    assert_eq!(settings.listen.body_timeout, seconds(30));
    assert_eq!(settings.listen.limits.max_connections, 4096);
    assert_eq!(settings.listen.limits.header_timeout, seconds(10));
    assert_eq!(settings.listen.limits.idle_timeout, seconds(75));
    assert_eq!(settings.listen.limits.write_timeout, seconds(60));
    let upstream = &settings.upstream;
    assert_eq!(upstream.connect_timeout, seconds(5));
    assert_eq!(upstream.response_timeout, seconds(120));
    assert_eq!(upstream.idle_timeout, seconds(15));
    assert_eq!(upstream.read_timeout, seconds(120));
    assert_eq!(upstream.max_age, seconds(300));
    assert_eq!(upstream.http_version, upstream::HttpVersion::Http1);
    let api = "https://fluent.example".parse().unwrap();
    assert!(upstream.egress.proxy_for(&api).is_none());
    assert_eq!((upstream.max_in_flight, upstream.queue), (1024, 1024));
    assert_eq!(upstream.queue_timeout, seconds(2));
    assert_eq!((settings.tape.request, settings.tape.total), (2 << 20, 64 << 20));
    assert!(settings.via);
    assert_eq!(settings.admin, Some(Address::Localhost(4281)));
    assert_eq!(settings.log.format, crate::telemetry::LogFormat::Auto);
    assert_eq!(settings.log.level, "info");
    assert_eq!(settings.log.access, crate::telemetry::AccessLog::Errors);
    assert_eq!(
        (settings.shutdown.delay, settings.shutdown.deadline),
        (seconds(0), seconds(25))
    );
    assert!(settings.workers >= 1);
}

#[test]
fn later_layers_win() {
    let file =
        Trial::needed().file("listen.max_connections = 1\nupstream.queue = 1\nlisten.max_body = \"1KiB\"");
    let variables = file
        .variable("FLUENT_PROXY__UPSTREAM__QUEUE", "2")
        .variable("FLUENT_PROXY__LISTEN__MAX_BODY", "2KiB");
    let settings = variables.set("listen.max_body=3KiB").settings();
    assert_eq!(settings.listen.limits.max_connections, 1);
    assert_eq!(settings.upstream.queue, 2);
    assert_eq!(settings.listen.max_body, Some(3 << 10));
}

#[test]
fn the_last_set_of_a_key_wins() {
    let settings = Trial::needed()
        .set("upstream.queue=1")
        .set("upstream.queue=2")
        .settings();
    assert_eq!(settings.upstream.queue, 2);
}

#[test]
fn every_connector_variable_stands_for_its_key() {
    let trial = Trial::needed()
        .variable("FLUENT_SCOPE", "api extra")
        .variable("FLUENT_GRANT_TYPE", "password")
        .variable("FLUENT_TOKEN_KEY", "data.token")
        .variable("FLUENT_ACCOUNT", "ACME");
    let settings = trial.settings();
    let login = &settings.instances["default"].users["default"];
    assert_eq!(login.scope, "api extra");
    assert_eq!(login.token_key, ["data", "token"]);
    assert_eq!(login.account, Some(HeaderValue::from_static("ACME")));
    assert_eq!(settings.instances["default"].account, login.account);
}

#[test]
fn connector_variables_name_files_too() {
    let mut trial = Trial::new().variable("FLUENT_URL", "https://acme.example");
    for (name, text) in [
        ("USERNAME", "u\n"),
        ("PASSWORD", "p\r\n"),
        ("CLIENT_ID", "i"),
        ("CLIENT_SECRET", "s\n\n"),
    ] {
        trial = trial.write(name, text);
        let path = trial.path(name);
        trial = trial.variable(&format!("FLUENT_{name}_FILE"), path);
    }
    let loaded = trial.load();
    assert_eq!(
        password(&loaded.settings, "default", "default"),
        ("u".into(), "p".into())
    );
    let login = &loaded.settings.instances["default"].users["default"];
    assert_eq!(
        (login.client_id.as_str(), exposed(&login.client_secret)),
        ("i", "s\n")
    );
    assert_eq!(loaded.secret_files.len(), 4);
}

#[test]
fn a_later_layer_replaces_a_setting_and_its_file() {
    let trial = || {
        Trial::needed()
            .without("FLUENT_PASSWORD")
            .write("password", "filed")
    };
    let over = trial()
        .file("fluent.password_file = '/nowhere'")
        .variable("FLUENT_PASSWORD", "later");
    assert_eq!(password(&over.settings(), "default", "default").1, "later");
    let path = trial();
    let file = path.path("password");
    let over = path
        .file("fluent.password = 'earlier'")
        .variable("FLUENT_PASSWORD_FILE", file);
    assert_eq!(password(&over.settings(), "default", "default").1, "filed");
    let path = trial();
    let file = format!("fluent.password_file={}", path.path("password").display());
    let over = path
        .file("fluent.password_file = '/nowhere'")
        .variable("FLUENT_PASSWORD", "earlier")
        .set(&file);
    assert_eq!(password(&over.settings(), "default", "default").1, "filed");
}

#[test]
fn instances_have_the_defaults_of_fluent_and_users_their_own_names() {
    let text = r#"
        [fluent]
        scope = "changed"
        [fluent.users.ops]
        username = "operations"
        password = "o"
        [instances.eu-prod]
        url = "https://eu.example/base/"
        client_id = "EU"
        client_secret = "e"
        username = "eu"
        [instances.eu-prod.token]
        path = "/token"
        margin = "5s"
    "#;
    let trial = Trial::needed()
        .file(text)
        .variable("FLUENT_PROXY__INSTANCES__EU_PROD__PASSWORD", "from-variable")
        .variable(
            "FLUENT_PROXY__INSTANCES__EU_PROD__USERS__NIGHT_SHIFT__USERNAME",
            "night",
        )
        .variable(
            "FLUENT_PROXY__INSTANCES__EU_PROD__USERS__NIGHT_SHIFT__PASSWORD",
            "n",
        );
    let settings = trial.settings();
    assert_eq!(
        password(&settings, "default", "ops"),
        ("operations".into(), "o".into())
    );
    assert_eq!(
        password(&settings, "eu-prod", "default"),
        ("eu".into(), "from-variable".into())
    );
    assert_eq!(
        password(&settings, "eu-prod", "night-shift"),
        ("night".into(), "n".into())
    );
    let eu = &settings.instances["eu-prod"];
    assert_eq!(eu.users["default"].scope, "api");
    assert_eq!(
        eu.users["night-shift"].endpoint.as_str(),
        "https://eu.example/base/token"
    );
    assert_eq!(eu.policy.margin, Duration::from_secs(5));
    assert_eq!(settings.instances["default"].users["ops"].scope, "changed");
}

#[test]
fn client_credentials_need_no_user() {
    let trial = Trial::needed()
        .without("FLUENT_USERNAME")
        .without("FLUENT_PASSWORD")
        .variable("FLUENT_GRANT_TYPE", "client_credentials");
    let settings = trial.settings();
    assert!(matches!(
        settings.instances["default"].users["default"].grant,
        Grant::ClientCredentials
    ));
}

#[test]
fn variables_that_are_not_ours_are_ignored() {
    let trial = Trial::needed()
        .variable("FLUENT_PROXY_SERVICE_HOST", "10.0.0.1")
        .variable("FLUENT_PROXY_PORT", "tcp://10.0.0.1:4280")
        .variable("FLUENT_PROXY_PORT_4280_TCP", "tcp://10.0.0.1:4280")
        .variable("FLUENT_PROFILE_DIR", "/x")
        .variable("FLUENT_SERVICE_PORT", "1")
        .variable("PATH", "/bin");
    trial.load();
}

#[test]
fn the_environment_names_the_file_where_the_command_line_does_not() {
    let trial = Trial::needed().write("named.toml", "upstream.queue = 7");
    let named = trial.path("named.toml");
    let mut trial = trial.variable("FLUENT_PROXY_CONFIG", named);
    assert_eq!(trial.settings().upstream.queue, 7);
    trial = trial.file("upstream.queue = 8");
    assert_eq!(trial.settings().upstream.queue, 8);
}

#[test]
fn lists_come_from_toml_variables_and_the_command_line() {
    let expected = [
        guard::PathRule::Exact("/graphql".into()),
        guard::PathRule::Under("/api/v4.1/".into()),
    ];
    let toml = Trial::needed().file("listen.paths = [\"/graphql\", \"/api/v4.1/*\"]");
    let variable = Trial::needed().variable("FLUENT_PROXY__LISTEN__PATHS", "/graphql, /api/v4.1/*");
    let line = Trial::needed().set("listen.paths=/graphql,/api/v4.1/*");
    for trial in [toml, variable, line] {
        assert_eq!(trial.settings().listen.rules.paths, expected);
    }
}

#[test]
fn a_listener_may_be_remote_where_that_is_said() {
    let trial = Trial::needed()
        .file("listen = { address = [\"0.0.0.0:80\", \"[::1]:80\"], danger_allow_remote = true }");
    let expected = [
        Address::Tcp("0.0.0.0:80".parse().unwrap()),
        Address::Tcp("[::1]:80".parse().unwrap()),
    ];
    assert_eq!(trial.settings().listen.addresses, expected);
}

#[test]
fn cleartext_goes_to_loopback_or_where_that_is_said() {
    for url in ["http://localhost:1", "http://127.0.0.2:1", "http://[::1]:1"] {
        let trial = Trial::needed().without("FLUENT_URL").variable("FLUENT_URL", url);
        assert_eq!(
            trial.settings().instances["default"].url.as_str(),
            format!("{url}/")
        );
    }
    let trial = Trial::needed()
        .without("FLUENT_URL")
        .variable("FLUENT_URL", "http://fluent.internal");
    trial
        .variable("FLUENT_PROXY__FLUENT__DANGER_ALLOW_HTTP", "true")
        .load();
}

#[test]
fn the_token_endpoint_may_be_elsewhere() {
    let trial = Trial::needed().file("fluent.token.path = \"https://login.example/oauth2/token\"");
    let settings = trial.settings();
    assert_eq!(
        settings.instances["default"].users["default"].endpoint.as_str(),
        "https://login.example/oauth2/token"
    );
}

#[test]
fn zero_is_no_limit() {
    assert_eq!(
        Trial::needed()
            .file("listen.max_body = 0")
            .settings()
            .listen
            .max_body,
        None
    );
    assert_eq!(
        Trial::needed()
            .set("listen.max_body=0")
            .settings()
            .listen
            .max_body,
        None
    );
}

#[test]
fn a_required_header_is_read_apart() {
    let settings = Trial::needed()
        .file("listen.required_header = 'X-Proxy-Key: a: b'")
        .settings();
    let header = settings.listen.rules.required_header.unwrap();
    assert_eq!(
        (header.name.as_str(), exposed(&header.value)),
        ("x-proxy-key", "a: b")
    );
}

#[test]
fn a_rule_turns_inspection_on_and_its_default_does_not() {
    let inspected = |toml: &str| {
        let trial = Trial::needed().write("documents", r#"{"a":"{ me { id } }"}"#);
        let inspection = trial.file(toml).settings().graphql;
        inspection.map(|inspection| inspection.purpose)
    };
    for off in [
        "",
        "graphql.inspect = false",
        "graphql = { mutations = 'allow', introspection = 'allow', max_depth = 0, max_aliases = 0, rest = 'allow' }",
        "graphql = { max_root_fields = 0, max_tokens = 15000, inspect_limit = '2048KiB', trusted_only = false }",
    ] {
        assert_eq!(inspected(off), None, "{off}");
    }
    for telling in [
        "graphql.inspect = true",
        "graphql = { inspect = true, inspect_memory = 0 }",
    ] {
        assert_eq!(inspected(telling), Some(graphql::Purpose::Telling), "{telling}");
    }
    for on in [
        "graphql.mutations = 'deny'",
        "graphql.mutations = ['createOrder']",
        "graphql.introspection = 'deny'",
        "graphql.max_depth = 1",
        "graphql.max_aliases = 1",
        "graphql.max_root_fields = 1",
        "graphql.max_tokens = 14999",
        "graphql.inspect_limit = '1MiB'",
        "graphql.inspect_limit = 0",
        "graphql.rest = 'deny'",
        "graphql.trusted_documents = '{}/documents'",
        "graphql = { inspect = false, mutations = 'deny' }",
    ] {
        assert_eq!(inspected(on), Some(graphql::Purpose::Ruling), "{on}");
    }
}

#[test]
fn the_rules_of_graphql_arrive_as_they_are_written() {
    let settings = Trial::needed()
        .variable("FLUENT_PROXY__GRAPHQL__MUTATIONS", "createOrder, updateOrder")
        .file("graphql = { max_depth = 7, max_aliases = 0, inspect_limit = 0, rest = 'deny' }")
        .settings();
    let inspection = settings.graphql.unwrap();
    let Inspection { rules, limit, .. } = inspection;
    assert_eq!(inspection.purpose, graphql::Purpose::Ruling);
    assert_eq!(inspection.memory, 64 * 1024 * 1024);
    let fields = ["createOrder", "updateOrder"].map(str::to_owned);
    assert_eq!(rules.mutations, graphql::Mutations::Only(fields.into()));
    assert_eq!((rules.max_depth, rules.max_aliases, limit), (Some(7), None, None));
    assert_eq!(
        (rules.rest, rules.introspection),
        (graphql::Permission::Deny, graphql::Permission::Allow)
    );
}

#[test]
fn provenance_tells_value_and_source_of_each_key_and_no_secret() {
    let trial = Trial::needed()
        .file("listen.header_timeout = \"60s\"\nlisten.required_header = 'x-key: k3y'\n[fluent.users.ops]\nusername = 'ops'\npassword = 'hunter3'")
        .set("upstream.queue=5");
    let loaded = trial.load();
    let row = |key: &str| {
        let row = loaded
            .provenance
            .rows()
            .iter()
            .find(|row| row.key == key)
            .unwrap();
        (
            row.value.to_string(),
            row.source.clone().map(|source| source.to_string()),
        )
    };
    let file = |place: &str| Some(format!("{}:{place}", trial.path("proxy.toml").display()));
    assert_eq!(row("listen.header_timeout"), ("\"1m\"".into(), file("1:25")));
    assert_eq!(
        row("fluent.url"),
        (
            "\"https://acme.api.fluentretail.com\"".into(),
            Some("FLUENT_URL".into())
        )
    );
    assert_eq!(
        row("fluent.password"),
        ("set".into(), Some("FLUENT_PASSWORD".into()))
    );
    assert_eq!(row("fluent.users.ops.password"), ("set".into(), file("5:12")));
    assert_eq!(row("listen.required_header").0, "set");
    assert_eq!(row("fluent.account"), ("unset".into(), None));
    assert_eq!(row("upstream.queue"), ("\"5\"".into(), Some("--set".into())));
    assert_eq!(row("cache.store"), ("\"memory\"".into(), Some("default".into())));
    let table = loaded.provenance.to_string();
    for secret in ["hunter2", "hunter3", "s3cr3t", "k3y"] {
        assert!(!table.contains(secret) && !format!("{loaded:?}").contains(secret));
    }
}

#[test]
fn the_example_files_load() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut development = Trial::new()
        .variable("FLUENT_PASSWORD", "p")
        .variable("FLUENT_CLIENT_SECRET", "s");
    development.sources.file = Some(config.join("development.toml"));
    development.load();

    let text = std::fs::read_to_string(config.join("sidecar.toml")).unwrap();
    let mut sidecar = Trial::new().variable("FLUENT_URL", "https://acme.example");
    for name in ["username", "password", "client-id", "client-secret"] {
        sidecar = sidecar.write(&format!("fluent-{name}"), "x");
    }
    sidecar.file(&text.replace("/run/secrets", "{}")).load();
}
