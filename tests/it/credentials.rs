//! Credentials and the fields of a Fluent connection, from wherever they are set to the wire.

use fluent_auth_proxy::settings::{Settings, Sources};
use fluent_sandbox::{Account, Config, Sandbox};

use super::support::{CLIENT_ID, CLIENT_SECRET, PASSWORD, Proxy, USERNAME, fluent, full, start};

const ME: &str = "{ me { id } }";
const ODD: [&str; 6] = ["007", "1e5", "p&ss=w+rd %zz", "ключ ", "true", " \"quoted\" \\ "];

/// A Fluent that takes this password only.
async fn taking(password: &str) -> Sandbox {
    let account = Account {
        password: password.to_owned(),
        ..super::support::account()
    };
    Sandbox::start(Config {
        accounts: vec![account],
        ..Config::default()
    })
    .await
    .unwrap()
}

/// A file with this content.
fn file_of(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

/// A proxy with these variables, this file, and nothing else.
async fn proxy(variables: &[(&str, &str)], toml: &str) -> Proxy {
    let file = file_of(toml);
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        set: vec![
            "listen.address=localhost:0".into(),
            "admin.address=localhost:0".into(),
        ],
    };
    let loaded = Settings::load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    Proxy::from_settings(&loaded.settings).await
}

async fn assert_serves(proxy: Proxy) {
    proxy.client().graphql(ME).await.assert_good();
    proxy.stop().await;
}

#[tokio::test]
async fn odd_passwords_arrive_unchanged_from_every_source() {
    for password in ODD {
        let sandbox = taking(password).await;
        let url = sandbox.url();
        let rest = [
            ("FLUENT_URL", url.as_str()),
            ("FLUENT_USERNAME", USERNAME),
            ("FLUENT_CLIENT_ID", CLIENT_ID),
            ("FLUENT_CLIENT_SECRET", CLIENT_SECRET),
        ];
        let ends = ["", "\n", "\r\n"].map(|end| file_of(&format!("{password}{end}")));
        let with = |name, value| [rest.as_slice(), &[(name, value)]].concat();

        assert_serves(proxy(&with("FLUENT_PASSWORD", password), "").await).await;
        assert_serves(proxy(&with("FLUENT_PROXY__FLUENT__PASSWORD", password), "").await).await;

        let toml = format!("[fluent]\npassword = {}\n", serde_json::Value::from(password));
        assert_serves(proxy(&rest, &toml).await).await;

        for file in &ends {
            let path = file.path().to_str().unwrap();
            assert_serves(proxy(&with("FLUENT_PASSWORD_FILE", path), "").await).await;
        }
        let logins = sandbox.seen().token_requests();
        assert_eq!(logins.len(), 6);
        assert!(
            logins
                .iter()
                .all(|login| login.parameter("password") == Some(password))
        );
        assert!(logins.iter().all(|login| login.status == Some(200)));
    }
}

#[tokio::test]
async fn a_login_carries_every_field_of_the_connection_and_nothing_more() {
    let (sandbox, proxy) = start("fluent.token.extra = { audience = \"orders & stock\" }").await;
    proxy.client().graphql(ME).await.assert_good();
    let logins = sandbox.seen().token_requests();
    let [login] = logins.as_slice() else {
        panic!("{} logins", logins.len())
    };
    let mut names = login.parameter_names();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "audience",
            "client_id",
            "client_secret",
            "grant_type",
            "password",
            "scope",
            "username"
        ]
    );
    for (name, value) in [
        ("username", USERNAME),
        ("password", PASSWORD),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("scope", "api"),
        ("grant_type", "password"),
        ("audience", "orders & stock"),
    ] {
        assert_eq!(login.parameter(name), Some(value), "{name}");
    }
    assert_eq!(login.parameters_in, fluent_sandbox::ParametersIn::Form);
    assert!(!login.headers.contains_key("authorization"));
    proxy.stop().await;
}

#[tokio::test]
async fn the_token_is_found_under_a_name_under_a_path_and_under_the_usual_name() {
    for (field, key) in [
        ("accessToken", "accessToken"),
        ("data.auth.token", "data.auth.token"),
        ("access_token", "accessToken"),
        ("access_token", "not.there"),
    ] {
        let config = Config {
            token_field: field.to_owned(),
            ..fluent()
        };
        let sandbox = Sandbox::start(config).await.unwrap();
        let settings = format!("fluent.token_key = \"{key}\"");
        assert_serves(Proxy::start(&sandbox.url(), &settings).await).await;
    }
}

#[tokio::test]
async fn client_credentials_need_no_user() {
    let sandbox = Sandbox::start(fluent()).await.unwrap();
    let url = sandbox.url();
    let fields = [
        ("FLUENT_URL", url.as_str()),
        ("FLUENT_CLIENT_ID", CLIENT_ID),
        ("FLUENT_CLIENT_SECRET", CLIENT_SECRET),
        ("FLUENT_GRANT_TYPE", "client_credentials"),
    ];
    assert_serves(proxy(&fields, "").await).await;
    let counts = sandbox.seen().counts();
    assert_eq!((counts.client_logins, counts.password_logins), (1, 0));
}

#[tokio::test]
async fn the_account_is_named_at_the_login_and_on_each_request() {
    let account = Account {
        fluent_account: Some("ACME-1".to_owned()),
        ..super::support::account()
    };
    let sandbox = Sandbox::start(Config {
        accounts: vec![account],
        ..fluent()
    })
    .await
    .unwrap();
    let proxy = Proxy::start(&sandbox.url(), "fluent.account = \"ACME-1\"").await;
    let request = http::Request::post("/graphql").header("content-type", "application/json");
    let request = request.header("fluent.account", "theirs");
    let body = full(serde_json::json!({ "query": ME }).to_string());
    proxy
        .client()
        .send(request.body(body).unwrap())
        .await
        .assert_good();
    assert_eq!(
        sandbox.seen().token_requests()[0].headers["fluent.account"],
        "ACME-1"
    );
    let seen = sandbox.seen().api_requests();
    let values: Vec<_> = seen[0].headers.get_all("fluent.account").iter().collect();
    assert_eq!(values, ["ACME-1"]);
    proxy.stop().await;
}

#[tokio::test]
async fn a_token_path_of_its_own_may_be_a_whole_url() {
    let (upstream, identity) = (
        Sandbox::start(fluent()).await.unwrap(),
        Sandbox::start(fluent()).await.unwrap(),
    );
    let settings = format!("fluent.token.path = \"{}/oauth/token\"", identity.url());
    let proxy = Proxy::start(&upstream.url(), &settings).await;
    // The token of one Fluent is nothing to another.
    assert_eq!(proxy.client().graphql(ME).await.status, 401);
    assert!(identity.seen().counts().tokens_issued >= 1);
    assert_eq!(upstream.seen().counts().token_requests, 0);
    proxy.stop().await;
}

#[tokio::test]
async fn each_user_and_each_instance_has_a_token_of_its_own() {
    let ops = Account {
        client_id: CLIENT_ID.into(),
        client_secret: CLIENT_SECRET.into(),
        ..Account::new("ops", "planted-pops")
    };
    let config = Config {
        accounts: vec![super::support::account(), ops],
        ..Config::default()
    };
    let (sandbox, other) = (
        Sandbox::start(config).await.unwrap(),
        Sandbox::start(fluent()).await.unwrap(),
    );
    let toml = format!(
        "[fluent.users.ops]\nusername = \"ops\"\npassword = \"planted-pops\"\n\
         [instances.eu]\nurl = \"{}\"\nusername = \"{USERNAME}\"\npassword = {}\n\
         client_id = \"{CLIENT_ID}\"\nclient_secret = \"{CLIENT_SECRET}\"\n",
        other.url(),
        serde_json::Value::from(PASSWORD),
    );
    let proxy = Proxy::start(&sandbox.url(), &toml).await;
    let ask = |path: &'static str, user: Option<&'static str>| {
        let mut request = http::Request::post(path).header("content-type", "application/json");
        if let Some(user) = user {
            request = request.header("x-fluent-user", user);
        }
        let body = full(serde_json::json!({ "query": "{ me { username } }" }).to_string());
        proxy.client().send(request.body(body).unwrap())
    };
    let me = |answer: super::support::Answer| {
        answer.assert_good();
        answer.json()["data"]["me"]["username"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(me(ask("/graphql", None).await), USERNAME);
    assert_eq!(me(ask("/graphql", Some("default")).await), USERNAME);
    assert_eq!(me(ask("/graphql", Some("ops")).await), "ops");
    assert_eq!(
        other.seen().counts().token_requests,
        0,
        "an instance logs in on first use"
    );
    assert_eq!(me(ask("/instances/eu/graphql", None).await), USERNAME);
    assert_eq!(me(ask("/instances/default/graphql", None).await), USERNAME);
    assert_eq!(sandbox.seen().counts().token_requests, 2);
    assert_eq!(other.seen().counts().token_requests, 1);
    ask("/graphql", Some("nobody"))
        .await
        .assert_refused(400, "USER_UNKNOWN");
    ask("/instances/eu/graphql", Some("ops"))
        .await
        .assert_refused(400, "USER_UNKNOWN");
    ask("/instances/us/graphql", None)
        .await
        .assert_refused(404, "INSTANCE_UNKNOWN");
    let status = proxy.admin().get("/status").await.json();
    for path in [
        "/default/users/default",
        "/default/users/ops",
        "/eu/users/default",
    ] {
        let user = status.pointer(&format!("/instances{path}")).unwrap();
        assert_eq!(
            (&user["state"], &user["logins"]["ok"]),
            (&"fresh".into(), &1.into()),
            "{path}"
        );
    }
    proxy.stop().await;
}
