//! Credentials: what the settings say is what Fluent gets, and who may choose among them.

use std::ffi::OsString;
use std::io::Write;

use fluent_auth_proxy::settings::Settings;
use fluent_sandbox::{Account, Config, ParametersIn, Sandbox, TokenRequest};

use super::support::{
    Answer, CLIENT_ID, CLIENT_SECRET, Client, Frozen, Proxy, Request, USERNAME, account, fluent, full, load,
    sandbox, start,
};

const ME: &str = "{ me { username } }";
/// What naive readers of settings turn into something else.
const AWKWARD: [&str; 8] = [
    "007",
    "1e5",
    "yes",
    "p&ss=w+rd %zz",
    "ключ ",
    " in \"quotes\" and 'these' \\ ${HOME} ",
    "a,b;c#d",
    "ends in an LF\n",
];

/// TOML's basic strings are JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn toml(fields: &[(&str, &str)]) -> String {
    let lines = fields
        .iter()
        .map(|(key, value)| format!("{key} = {}\n", quoted(value)));
    format!("[fluent]\n{}", lines.collect::<String>())
}

fn variables(fields: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let variables = fields.iter().map(|(name, value)| (name.into(), value.into()));
    variables.collect()
}

/// A secret's file, with or without a line end at its end.
fn secret_file(secret: &str, line_end: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{secret}{line_end}").unwrap();
    file
}

fn name_of(answer: &Answer) -> String {
    answer.assert_good();
    answer.json()["data"]["me"]["username"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Asks who we are, with these headers.
fn graphql(headers: &[(&str, &str)]) -> Request {
    let mut request = http::Request::post("/graphql").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = serde_json::json!({ "query": ME }).to_string();
    request.body(full(body)).unwrap()
}

/// The one token request that came.
fn only_token_request(sandbox: &Sandbox) -> TokenRequest {
    let mut requests = sandbox.seen().token_requests();
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

/// Fails unless these settings log in with exactly this account.
async fn assert_logs_in(settings: impl FnOnce(&str) -> Settings, account: &Account) {
    let config = Config {
        accounts: vec![account.clone()],
        ..fluent()
    };
    let sandbox = sandbox(config).await;
    let proxy = Proxy::from_settings(&settings(&sandbox.url())).await;
    assert_eq!(name_of(&proxy.client().graphql(ME).await), account.username);
    let request = only_token_request(&sandbox);
    assert_eq!(request.parameters_in, ParametersIn::Form);
    for (name, value) in [
        ("username", &account.username),
        ("password", &account.password),
        ("client_id", &account.client_id),
        ("client_secret", &account.client_secret),
    ] {
        assert_eq!(request.parameter(name), Some(value.as_str()), "{name}");
    }
    assert!(!request.headers.contains_key("authorization"));
    proxy.stop().await;
}

/// An account all of whose fields are awkward, each in its own way.
fn awkward(number: usize) -> Account {
    let text = |offset: usize| AWKWARD[(number + offset) % AWKWARD.len()].to_owned();
    Account {
        username: text(1),
        client_id: text(2),
        client_secret: text(3),
        ..Account::new("", &text(0))
    }
}

#[tokio::test]
async fn awkward_credentials_arrive_unchanged_from_a_file_of_settings() {
    for number in 0..AWKWARD.len() {
        let account = awkward(number);
        let settings = |url: &str| {
            let fields = [
                ("url", url),
                ("username", &account.username),
                ("password", &account.password),
                ("client_id", &account.client_id),
                ("client_secret", &account.client_secret),
            ];
            load(&toml(&fields), Vec::new())
        };
        assert_logs_in(settings, &account).await;
    }
}

#[tokio::test]
async fn awkward_credentials_arrive_unchanged_from_the_environment_under_both_names() {
    for number in 0..AWKWARD.len() {
        let account = awkward(number);
        for prefix in ["FLUENT_", "FLUENT_PROXY__FLUENT__"] {
            let settings = |url: &str| {
                let name = |field: &str| format!("{prefix}{field}");
                let fields = [
                    (name("URL"), url),
                    (name("USERNAME"), &account.username),
                    (name("PASSWORD"), &account.password),
                    (name("CLIENT_ID"), &account.client_id),
                    (name("CLIENT_SECRET"), &account.client_secret),
                ];
                load("", fields.map(|(name, value)| (name.into(), value.into())).into())
            };
            assert_logs_in(settings, &account).await;
        }
    }
}

#[tokio::test]
async fn awkward_credentials_arrive_unchanged_from_files_but_for_one_line_end() {
    for (number, line_end) in (0..AWKWARD.len()).zip(["\n", "\r\n"].into_iter().cycle()) {
        let account = awkward(number);
        let values = [
            &account.username,
            &account.password,
            &account.client_id,
            &account.client_secret,
        ];
        let files = values.map(|value| secret_file(value, line_end));
        let paths = files.each_ref().map(|file| file.path().to_str().unwrap());
        let [username, password, client_id, client_secret] = paths;
        let by_toml = |url: &str| {
            let fields = [
                ("url", url),
                ("username_file", username),
                ("password_file", password),
                ("client_id_file", client_id),
                ("client_secret_file", client_secret),
            ];
            load(&toml(&fields), Vec::new())
        };
        assert_logs_in(by_toml, &account).await;
        let by_environment = |url: &str| {
            let fields = [
                ("FLUENT_URL", url),
                ("FLUENT_USERNAME_FILE", username),
                ("FLUENT_PASSWORD_FILE", password),
                ("FLUENT_CLIENT_ID_FILE", client_id),
                ("FLUENT_CLIENT_SECRET_FILE", client_secret),
            ];
            load("", variables(&fields))
        };
        assert_logs_in(by_environment, &account).await;
    }
}

#[tokio::test]
async fn the_environment_replaces_a_password_and_the_file_of_one() {
    let account = account();
    let (stale, good) = (secret_file("stale", "\n"), secret_file(&account.password, ""));
    let [stale, good] = [&stale, &good].map(|file| file.path().to_str().unwrap());
    for (in_file, in_environment) in [
        (
            ("password_file", stale),
            ("FLUENT_PASSWORD", account.password.as_str()),
        ),
        (("password", "stale"), ("FLUENT_PASSWORD_FILE", good)),
    ] {
        let settings = |url: &str| {
            let file = toml(&[
                ("url", url),
                ("username", USERNAME),
                in_file,
                ("client_id", CLIENT_ID),
                ("client_secret", CLIENT_SECRET),
            ]);
            load(&file, variables(&[in_environment]))
        };
        assert_logs_in(settings, &account).await;
    }
}

#[tokio::test]
async fn every_field_of_the_connector_has_its_effect() {
    for (token_field, token_key) in [
        ("accessToken", None),
        ("access_token", None),
        ("access_token", Some("elsewhere")),
        ("ticket", Some("ticket")),
        ("data.session.token", Some("data.session.token")),
    ] {
        let config = Config {
            accounts: vec![Account {
                fluent_account: Some("ACME_1".to_owned()),
                ..account()
            }],
            token_field: token_field.to_owned(),
            scope: "api and more".to_owned(),
            ..Config::default()
        };
        let key = token_key.map_or(String::new(), |key| format!("token_key = {}\n", quoted(key)));
        let toml = format!("[fluent]\nscope = \"api and more\"\naccount = \"ACME_1\"\n{key}");
        let (frozen, sandbox, proxy) = Frozen::start(config, &toml).await;
        // The caller's own wish does not count.
        let request = graphql(&[("fluent.account", "THEIRS")]);
        assert_eq!(name_of(&proxy.client().send(request).await), USERNAME);
        let token = only_token_request(&sandbox);
        assert_eq!(token.parameter("scope"), Some("api and more"));
        assert_eq!(token.parameter("grant_type"), Some("password"));
        assert_eq!(token.headers["fluent.account"], "ACME_1");
        let headers = &sandbox.seen().api_requests()[0].headers;
        let accounts: Vec<_> = headers.get_all("fluent.account").iter().collect();
        assert_eq!(accounts, ["ACME_1"]);
        frozen.end(proxy).await;
    }
}

#[tokio::test]
async fn what_is_not_set_is_not_sent_and_defaults_are() {
    let (sandbox, proxy) = start("").await;
    name_of(&proxy.client().graphql(ME).await);
    let token = only_token_request(&sandbox);
    let mut names = token.parameter_names();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "client_id",
            "client_secret",
            "grant_type",
            "password",
            "scope",
            "username"
        ]
    );
    assert_eq!(token.parameter("scope"), Some("api"));
    assert!(!token.headers.contains_key("fluent.account"));
    assert!(
        !sandbox.seen().api_requests()[0]
            .headers
            .contains_key("fluent.account")
    );
    proxy.stop().await;
    let (sandbox, proxy) = start("[fluent]\nscope = \"\"").await;
    name_of(&proxy.client().graphql(ME).await);
    assert_eq!(only_token_request(&sandbox).parameter("scope"), None);
    proxy.stop().await;
}

#[tokio::test]
async fn client_credentials_need_no_user_and_send_none() {
    let sandbox = sandbox(fluent()).await;
    let file = toml(&[
        ("url", &sandbox.url()),
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
    ]);
    let proxy = Proxy::from_settings(&load(&file, Vec::new())).await;
    name_of(&proxy.client().graphql(ME).await);
    let token = only_token_request(&sandbox);
    assert_eq!(token.parameter("grant_type"), Some("client_credentials"));
    let mut names = token.parameter_names();
    names.sort_unstable();
    assert_eq!(names, ["client_id", "client_secret", "grant_type", "scope"]);
    assert_eq!(sandbox.seen().counts().client_logins, 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_url_means_the_same_with_a_final_slash_and_keeps_its_path() {
    for (path, graphql) in [
        ("", "/graphql"),
        ("/", "/graphql"),
        ("/tenant", "/tenant/graphql"),
        ("/a/b/", "/a/b/graphql"),
    ] {
        let sandbox = sandbox(fluent()).await;
        let url = format!("{}{path}", sandbox.url());
        // The sandbox has its token endpoint at its root only.
        let whole = format!("[fluent.token]\npath = \"{}/oauth/token\"", sandbox.url());
        let proxy = Proxy::start(&url, &whole).await;
        proxy.client().graphql(ME).await;
        assert_eq!(sandbox.seen().api_requests()[0].target, graphql);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn tokens_are_asked_for_below_the_url_at_the_path_that_is_set() {
    for (path, setting, target) in [
        ("/tenant/", "", "/tenant/oauth/token"),
        (
            "/tenant",
            "[fluent.token]\npath = \"/api/token\"",
            "/tenant/api/token",
        ),
        ("", "[fluent.token]\npath = \"/api/token\"", "/api/token"),
    ] {
        let sandbox = sandbox(fluent()).await;
        let proxy = Proxy::start(&format!("{}{path}", sandbox.url()), setting).await;
        sandbox.seen().wait_for(|counts| counts.api_bodies == 1).await;
        let request = sandbox.seen().api_requests().remove(0);
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("POST", target)
        );
        assert_eq!(
            request.headers["content-type"],
            "application/x-www-form-urlencoded"
        );
        proxy.stop().await;
    }
}

#[tokio::test]
async fn extra_parameters_are_sent_by_their_own_names() {
    let extra = "[fluent.token.extra]\naudience = \"https://api.example/?a=b&c\"\nretailer = \"007\"";
    let (sandbox, proxy) = start(extra).await;
    name_of(&proxy.client().graphql(ME).await);
    let token = only_token_request(&sandbox);
    assert_eq!(token.parameter("audience"), Some("https://api.example/?a=b&c"));
    assert_eq!(token.parameter("retailer"), Some("007"));
    proxy.stop().await;
}

async fn by_instance(client: Client, instance: &str) -> Answer {
    let body = serde_json::json!({ "query": ME }).to_string();
    client.post(&format!("/instances/{instance}/graphql"), body).await
}

#[tokio::test]
async fn a_request_chooses_its_user_and_each_user_has_a_token_of_its_own() {
    let operations = Account {
        username: "operations".to_owned(),
        password: "planted-p of operations".to_owned(),
        ..account()
    };
    let config = Config {
        accounts: vec![account(), operations],
        ..fluent()
    };
    let users = "[fluent.users.ops]\nusername = \"operations\"\npassword = \"planted-p of operations\"";
    let (frozen, sandbox, proxy) = Frozen::start(config, users).await;
    let client = proxy.client();
    let by_user = |users: &[&'static str]| {
        let headers: Vec<_> = users.iter().map(|user| ("x-fluent-user", *user)).collect();
        graphql(&headers)
    };
    for _ in 0..3 {
        assert_eq!(name_of(&client.graphql(ME).await), USERNAME);
        assert_eq!(name_of(&client.send(by_user(&["ops"])).await), "operations");
        assert_eq!(name_of(&client.send(by_user(&["default"])).await), USERNAME);
    }
    for unknown in [
        &["nobody"][..],
        &[""],
        &["OPS"],
        &["operations"],
        &["ops", "ops"],
        &["ops", "default"],
    ] {
        let answer = client.send(by_user(unknown)).await;
        answer.assert_refused(400, "USER_UNKNOWN");
    }
    let status = proxy.admin().get("/status").await.json();
    for user in ["default", "ops"] {
        let user = &status["instances"]["default"]["users"][user];
        assert_eq!(
            (&user["state"], &user["logins"]["ok"]),
            (&"fresh".into(), &1.into())
        );
    }
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (2, 9));
    let requests = sandbox.seen().api_requests();
    assert_eq!(requests[0].bearer(), requests[2].bearer());
    assert_ne!(requests[0].bearer(), requests[1].bearer());
    for request in &requests {
        assert!(!request.headers.contains_key("x-fluent-user"));
    }
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_request_chooses_its_instance_and_each_has_its_own_credentials() {
    let there = Account {
        username: "elsewhere".to_owned(),
        client_id: "EU".to_owned(),
        ..Account::new("elsewhere", "planted-p elsewhere")
    };
    let elsewhere = sandbox(Config {
        accounts: vec![there.clone()],
        ..fluent()
    })
    .await;
    let instance = format!(
        "[instances.eu-1]\nurl = \"{}\"\nusername = \"elsewhere\"\npassword = \"planted-p elsewhere\"\n\
         client_id = \"EU\"\nclient_secret = {}",
        elsewhere.url(),
        quoted(&there.client_secret),
    );
    let users = "[fluent.users.ops]\nusername = \"operations\"\npassword = \"planted-p\"\n";
    let (sandbox, proxy) = start(&format!("{users}{instance}")).await;
    let client = proxy.client();
    assert_eq!(name_of(&client.graphql(ME).await), USERNAME);
    assert_eq!(
        elsewhere.seen().counts().connections,
        0,
        "not before it is asked for"
    );
    for _ in 0..3 {
        assert_eq!(name_of(&by_instance(client, "eu-1").await), "elsewhere");
        assert_eq!(name_of(&by_instance(client, "default").await), USERNAME);
    }
    for unknown in ["eu-2", "EU-1", "eu-1.", "eu"] {
        by_instance(client, unknown)
            .await
            .assert_refused(404, "INSTANCE_UNKNOWN");
    }
    let mut request = graphql(&[("x-fluent-user", "ops")]);
    *request.uri_mut() = "/instances/eu-1/graphql".parse().unwrap();
    client.send(request).await.assert_refused(400, "USER_UNKNOWN");
    let [here, there] = [&sandbox, &elsewhere].map(|sandbox| sandbox.seen().counts());
    assert_eq!((here.token_requests, here.api_requests), (1, 4));
    assert_eq!((there.token_requests, there.api_requests), (1, 3));
    for request in elsewhere.seen().api_requests() {
        assert_eq!(request.target, "/graphql");
        let host = elsewhere.address().to_string();
        assert_eq!(request.headers["host"], host.as_str());
    }
    proxy.stop().await;
}
