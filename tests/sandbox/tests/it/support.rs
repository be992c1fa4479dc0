//! A client for the sandbox's own tests.

use fluent_sandbox::{
    Config, DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, DEFAULT_PASSWORD, DEFAULT_USERNAME, Sandbox,
};
use reqwest::{Client, Response};
use serde_json::{Value, json};

/// A sandbox and a client that follows and retries nothing.
pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: Client,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .build()
            .unwrap();
        Self {
            sandbox: Sandbox::start(config).await.unwrap(),
            client,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    /// Asks for a token with the default account's parameters, some of them changed, added or (empty) left out.
    pub(crate) async fn ask(&self, changes: &[(&str, &str)]) -> (u16, Value) {
        let response = self.send(&form(changes)).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn send(&self, form: &[(String, String)]) -> reqwest::Result<Response> {
        self.client.post(self.url("/oauth/token")).form(form).send().await
    }

    pub(crate) async fn token(&self) -> String {
        let (status, answer) = self.ask(&[]).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Asks `/graphql`, without variables.
    pub(crate) async fn query(&self, token: &str, query: &str) -> (u16, Value) {
        self.query_with(token, query, json!({})).await
    }

    pub(crate) async fn query_with(&self, token: &str, query: &str, variables: Value) -> (u16, Value) {
        let body = json!({"query": query, "variables": variables});
        let request = self
            .client
            .post(self.url("/graphql"))
            .bearer_auth(token)
            .json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The data of a query that must do well.
    pub(crate) async fn data(&self, token: &str, query: &str) -> Value {
        let (status, answer) = self.query(token, query).await;
        assert_eq!((status, &answer["errors"]), (200, &Value::Null), "{answer}");
        answer["data"].clone()
    }
}

/// The parameters of a password login, some of them changed, added or (empty) left out.
pub(crate) fn form(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut form: Vec<(String, String)> = [
        ("username", DEFAULT_USERNAME),
        ("password", DEFAULT_PASSWORD),
        ("client_id", DEFAULT_CLIENT_ID),
        ("client_secret", DEFAULT_CLIENT_SECRET),
        ("scope", "api"),
        ("grant_type", "password"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    for (name, value) in changes {
        form.retain(|(other, _)| other != name);
        if !value.is_empty() {
            form.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    form
}

/// The body of the vendor's 401 for a bearer that is no good.
pub(crate) fn invalid_token() -> Value {
    json!({"errors": [{
        "code": "401",
        "message": "Invalid user, Authorization header value does not belong to a valid user",
    }]})
}
