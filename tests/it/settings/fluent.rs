//! Rows of `[fluent]`, `[fluent.token]`, `[fluent.users.NAME]` and `[instances.NAME]`.

use std::time::Duration;

use fluent_sandbox::{Account, Config, ExpiresIn, Fault, Place, Times, TokenReuse};
use http::Request;
use serde_json::{Value, json};

use super::super::support::{
    Answer, CLIENT_ID, CLIENT_SECRET, Frozen, PASSWORD, Process, Proxy, USERNAME, account, assert_clean,
    fluent, full, load, sandbox, start,
};
use super::{ME, problems};

/// Beside the account of all tests: other credentials, whose every part is another.
const OTHER: [(&str, &str); 4] = [
    ("username", "operations"),
    ("password", "planted-p of operations"),
    ("client_id", "OTHER"),
    ("client_secret", "planted-client-secret of another"),
];

fn usual(field: &str) -> &'static str {
    match field {
        "username" => USERNAME,
        "password" => PASSWORD,
        "client_id" => CLIENT_ID,
        _ => CLIENT_SECRET,
    }
}

fn other(field: &str) -> &'static str {
    OTHER.iter().find(|(name, _)| *name == field).unwrap().1
}

/// The account of all tests but for one field.
fn account_but(field: &str) -> Account {
    let mut account = account();
    let place = match field {
        "username" => &mut account.username,
        "password" => &mut account.password,
        "client_id" => &mut account.client_id,
        _ => &mut account.client_secret,
    };
    other(field).clone_into(place);
    account
}

/// Credentials as TOML, with `changed` in the place of its field.
fn credentials(changed: &str) -> String {
    let field = changed
        .split([' ', '='])
        .next()
        .unwrap()
        .trim_end_matches("_file");
    let fields = OTHER.iter().filter(|(name, _)| *name != field);
    let lines = fields.map(|(name, _)| format!("{name} = '{}'\n", usual(name)));
    lines.chain([format!("{changed}\n")]).collect()
}

/// Writes a value as the setting itself, or as a file that the setting names.
fn assignment(field: &str, value: &str, file: Option<&tempfile::NamedTempFile>) -> String {
    let Some(file) = file else {
        return format!("{field} = '{value}'");
    };
    std::fs::write(file.path(), format!("{value}\n")).unwrap();
    format!("{field}_file = '{}'", file.path().display())
}

/// Fluent knows the account by another value of one field: who does not set it is refused, who does is served.
async fn assert_logs_in_with(field: &str, by_file: bool) {
    let config = Config {
        accounts: vec![account_but(field)],
        ..fluent()
    };
    let sandbox = sandbox(config).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = by_file.then_some(&file);
    let answer = async |value: &str| {
        let lines = credentials(&assignment(field, value, file));
        let toml = format!("[fluent]\nurl = '{}'\n{lines}", sandbox.url());
        let proxy = Proxy::from_settings(&load(&toml, Vec::new())).await;
        proxy.client().graphql(ME).await
    };
    answer(usual(field))
        .await
        .assert_refused(502, "CREDENTIALS_REFUSED");
    answer(other(field)).await.assert_good();
}

pub(super) async fn username() {
    assert_logs_in_with("username", false).await;
}

pub(super) async fn username_file() {
    assert_logs_in_with("username", true).await;
}

pub(super) async fn password() {
    assert_logs_in_with("password", false).await;
}

pub(super) async fn password_file() {
    assert_logs_in_with("password", true).await;
}

pub(super) async fn client_id() {
    assert_logs_in_with("client_id", false).await;
}

pub(super) async fn client_id_file() {
    assert_logs_in_with("client_id", true).await;
}

pub(super) async fn client_secret() {
    assert_logs_in_with("client_secret", false).await;
}

pub(super) async fn client_secret_file() {
    assert_logs_in_with("client_secret", true).await;
}

/// A further user whose field is wrong is refused, and served with the right one.
async fn assert_user_logs_in_with(field: &str, by_file: bool) {
    let operations = Account {
        username: other("username").to_owned(),
        password: other("password").to_owned(),
        ..account()
    };
    let config = Config {
        accounts: vec![account(), operations],
        ..fluent()
    };
    let sandbox = sandbox(config).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = by_file.then_some(&file);
    let rest = if field == "username" {
        "password"
    } else {
        "username"
    };
    let answer = async |value: &str| {
        let lines = [
            assignment(field, value, file),
            assignment(rest, other(rest), None),
        ];
        let toml = format!("[fluent.users.ops]\n{}\n", lines.join("\n"));
        let proxy = Proxy::start(&sandbox.url(), &toml).await;
        let request = Request::post("/graphql")
            .header("content-type", "application/json")
            .header("x-fluent-user", "ops");
        let body = serde_json::json!({ "query": ME }).to_string();
        proxy.client().send(request.body(full(body)).unwrap()).await
    };
    answer("planted-p, but wrong")
        .await
        .assert_refused(502, "CREDENTIALS_REFUSED");
    let served = answer(other(field)).await;
    served.assert_good();
    assert_eq!(served.json()["data"]["me"]["username"], "operations");
}

pub(super) async fn users_username() {
    assert_user_logs_in_with("username", false).await;
}

pub(super) async fn users_username_file() {
    assert_user_logs_in_with("username", true).await;
}

pub(super) async fn users_password() {
    assert_user_logs_in_with("password", false).await;
}

pub(super) async fn users_password_file() {
    assert_user_logs_in_with("password", true).await;
}

pub(super) async fn url() {
    let (one, other) = (sandbox(fluent()).await, sandbox(fluent()).await);
    for (asked, silent) in [(&one, &other), (&other, &one)] {
        let before = silent.seen().counts().connections;
        let proxy = Proxy::start(&asked.url(), "").await;
        proxy.client().graphql(ME).await.assert_good();
        assert_eq!(asked.seen().counts().api_requests, 1);
        assert_eq!(silent.seen().counts().connections, before);
        // Nothing of this proxy comes later.
        proxy.stop().await;
    }
}

pub(super) async fn instances() {
    let (default, eu) = (sandbox(fluent()).await, sandbox(fluent()).await);
    let ask = async |toml: &str| {
        let proxy = Proxy::start(&default.url(), toml).await;
        let body = serde_json::json!({ "query": ME }).to_string();
        proxy.client().post("/instances/eu/graphql", body).await
    };
    ask("").await.assert_refused(404, "INSTANCE_UNKNOWN");
    let lines = credentials("password = 'planted-pässword &=+%zz '");
    let toml = format!("[instances.eu]\nurl = '{}'\n{lines}", eu.url());
    ask(&toml).await.assert_good();
    assert_eq!(eu.seen().counts().api_requests, 1);
    assert_eq!(default.seen().counts().api_requests, 0);
}

pub(super) async fn danger_allow_http() {
    let sandbox = sandbox(fluent()).await;
    // Not loopback by its name, and yet nowhere else.
    let url = format!("http://0.0.0.0:{}", sandbox.address().port());
    assert!(problems(&url, "").contains("fluent.url is http:// to another machine"));
    let proxy = Proxy::start(&url, "fluent.danger_allow_http = true").await;
    proxy.client().graphql(ME).await.assert_good();
}

/// What a proxy answers with each of two settings, the second of which fits Fluent.
async fn answers(config: Config, toml: [&str; 2]) -> [Answer; 2] {
    let sandbox = sandbox(config).await;
    let [first, second] = toml;
    let ask = async |toml| {
        let proxy = Proxy::start(&sandbox.url(), toml).await;
        let answer = proxy.client().graphql(ME).await;
        proxy.stop().await;
        answer
    };
    [ask(first).await, ask(second).await]
}

pub(super) async fn scope() {
    let config = Config {
        scope: "api and more".to_owned(),
        ..fluent()
    };
    let [default, set] = answers(config, ["", "fluent.scope = 'api and more'"]).await;
    default.assert_refused(502, "CREDENTIALS_REFUSED");
    set.assert_good();
}

pub(super) async fn token_key() {
    let config = Config {
        token_field: "data.ticket".to_owned(),
        ..fluent()
    };
    let [default, set] = answers(config, ["", "fluent.token_key = 'data.ticket'"]).await;
    default.assert_refused(503, "TOKEN_UNAVAILABLE");
    set.assert_good();
}

pub(super) async fn fluent_account() {
    for (toml, sent) in [("", None), ("fluent.account = 'ACME_1'", Some("ACME_1"))] {
        let (sandbox, proxy) = start(toml).await;
        proxy.client().graphql(ME).await.assert_good();
        let token = &sandbox.seen().token_requests()[0];
        let api = &sandbox.seen().api_requests()[0];
        for headers in [&token.headers, &api.headers] {
            let account = headers.get("fluent.account");
            assert_eq!(account.map(|value| value.to_str().unwrap()), sent);
        }
    }
}

pub(super) async fn grant_type() {
    let (sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    let counts = sandbox.seen().counts();
    assert_eq!((counts.password_logins, counts.client_logins), (1, 0));

    let client = format!(
        "[fluent]\nurl = '{}'\ngrant_type = 'client_credentials'\nclient_id = '{CLIENT_ID}'\nclient_secret = '{CLIENT_SECRET}'\n",
        sandbox.url()
    );
    let proxy = Proxy::from_settings(&load(&client, Vec::new())).await;
    proxy.client().graphql(ME).await.assert_good();
    let counts = sandbox.seen().counts();
    assert_eq!((counts.password_logins, counts.client_logins), (1, 1));
}

pub(super) async fn token_path() {
    let tokens = sandbox(fluent()).await;
    let elsewhere = format!("fluent.token.path = '{}/oauth/token'", tokens.url());
    for (toml, here, there) in [("", 1, 0), (elsewhere.as_str(), 0, 1)] {
        let (sandbox, proxy) = start(toml).await;
        proxy.client().graphql(ME).await;
        // A token of another sandbox is none here, and is asked for once more.
        let token_requests = sandbox.seen().counts().token_requests;
        assert_eq!(token_requests.min(1), here);
        assert_eq!(tokens.seen().counts().token_requests.min(1), there);
        proxy.stop().await;
    }
}

pub(super) async fn token_extra() {
    for (toml, sent) in [
        ("", None),
        ("fluent.token.extra.audience = 'somebody'", Some("somebody")),
    ] {
        let (sandbox, proxy) = start(toml).await;
        proxy.client().graphql(ME).await.assert_good();
        assert_eq!(sandbox.seen().token_requests()[0].parameter("audience"), sent);
    }
}

pub(super) async fn token_timeout() {
    for (toml, seconds) in [("", 10), ("fluent.token.timeout = '3s'", 3)] {
        let mut frozen = Frozen::now();
        let sandbox = sandbox(fluent()).await;
        sandbox.faults().inject(Place::Token, Times::Always, Fault::Hang);
        let proxy = frozen.proxy(&sandbox.url(), toml);
        let asking = tokio::spawn(proxy.client().graphql(ME));
        let answer = frozen.ends_after(Duration::from_secs(seconds), asking).await;
        answer.assert_refused(503, "TOKEN_UNAVAILABLE");
        frozen.end(proxy).await;
    }
}

/// The default user of the status page.
async fn user(proxy: &Proxy) -> Value {
    let status = proxy.admin().get("/status").await.json();
    status["instances"]["default"]["users"]["default"].clone()
}

pub(super) async fn token_default_lifetime() {
    for (toml, seconds) in [("", 3600), ("fluent.token.default_lifetime = '500s'", 500)] {
        let config = Config {
            expires_in: ExpiresIn::Absent,
            ..fluent()
        };
        let (frozen, _sandbox, proxy) = Frozen::start(config, toml).await;
        proxy.client().graphql(ME).await.assert_good();
        assert_eq!(user(&proxy).await["expires_in_seconds"], seconds);
        frozen.end(proxy).await;
    }
}

pub(super) async fn token_margin() {
    for (toml, margin) in [("", 60), ("fluent.token.margin = '10s'", 10)] {
        let config = Config {
            token_lifetime: Duration::from_mins(10),
            token_reuse: TokenReuse::NewEachTime,
            ..fluent()
        };
        let (mut frozen, sandbox, proxy) = Frozen::start(config, toml).await;
        proxy.client().graphql(ME).await.assert_good();
        frozen.settle().await;
        frozen.advance(Duration::from_secs(600 - margin - 1)).await;
        frozen.settle().await;
        assert_eq!(sandbox.seen().counts().token_requests, 1, "not before {margin} s");
        // Processes spread their renewals over the first tenth of it.
        frozen.advance(Duration::from_secs(margin / 10 + 2)).await;
        sandbox.seen().wait_for(|counts| counts.token_requests == 2).await;
        frozen.end(proxy).await;
    }
}

pub(super) async fn token_cool_down() {
    for (toml, seconds) in [("", "960"), ("fluent.token.cool_down = '70s'", "70")] {
        let config = Config {
            accounts: vec![account_but("password")],
            ..fluent()
        };
        let (frozen, _sandbox, proxy) = Frozen::start(config, toml).await;
        let answer = proxy.client().graphql(ME).await;
        answer.assert_refused(502, "CREDENTIALS_REFUSED");
        assert_eq!(answer.headers["retry-after"], seconds);
        frozen.end(proxy).await;
    }
}

pub(super) async fn token_refresh() {
    for (toml, grant) in [
        ("", "password"),
        ("[fluent.token]\nrefresh = 'early'\n", "refresh_token"),
    ] {
        let config = Config {
            refresh_tokens: true,
            token_reuse: TokenReuse::NewEachTime,
            token_lifetime: Duration::from_secs(100),
            ..fluent()
        };
        let (frozen, sandbox, proxy) = Frozen::start(config, toml).await;
        proxy.client().graphql(ME).await.assert_good();
        frozen.advance(Duration::from_secs(85)).await;
        sandbox.seen().wait_for(|counts| counts.tokens_issued == 2).await;
        proxy.client().graphql(ME).await.assert_good();
        assert_eq!(user(&proxy).await["obtained_by"], grant);
        frozen.end(proxy).await;
    }
}

pub(super) async fn profile() {
    let sandbox = sandbox(fluent()).await;
    let profiles = tempfile::tempdir().unwrap();
    let folder = profiles.path().join("shop");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, content: Value| std::fs::write(folder.join(name), content.to_string()).unwrap();
    write(
        "profile.json",
        json!({ "id": CLIENT_ID, "baseUrl": sandbox.url(), "clientSecret": CLIENT_SECRET, "user": "me" }),
    );
    write(
        "user.me.json",
        json!({ "username": USERNAME, "password": PASSWORD }),
    );
    let variables = [("FLUENT_PROFILE_DIR", profiles.path().as_os_str())];
    let environment = variables.map(|(name, value)| (name.into(), value.into()));
    let proxy = Proxy::from_settings(&load("[fluent]\nprofile = 'shop'\n", environment.into())).await;
    proxy.client().graphql(ME).await.assert_good();
    proxy.stop().await;

    let mut check = Process::bare();
    check.envs(variables).arg("check");
    let told = check
        .arg("--set")
        .arg("fluent.profile=shop")
        .output()
        .await
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert_clean(told.as_bytes(), "the output of check");
    for (key, file, field) in [
        ("url", "profile.json", "baseUrl"),
        ("client_secret", "profile.json", "clientSecret"),
        ("password", "user.me.json", "password"),
    ] {
        let file = folder.join(file);
        let sentence = format!("fluent.{key} comes from {} ({field}).\n", file.display());
        assert!(told.contains(&sentence), "{told}");
    }
}
