//! One login after another against a token endpoint on loopback that says exactly what a test scripts.

use std::sync::Mutex;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::token::OAuthError;
use crate::token::Refusal;

const SECRETS: [&str; 4] = ["hunter2", "client-secret", "TOKEN", "oauth/token"];

/// A token endpoint: it reads one request a connection, answers it with given bytes, and hangs up.
struct Endpoint {
    url: Url,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    async fn that_says(answer: impl Into<Vec<u8>>) -> Self {
        Self::start(Some(answer.into())).await
    }

    /// It reads a request and then says nothing, for ever.
    async fn that_is_silent() -> Self {
        Self::start(None).await
    }

    async fn start(answer: Option<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/oauth/token", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn({
            let requests = Arc::clone(&requests);
            async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let request = read_request(&mut stream).await;
                    requests.lock().unwrap().push(request);
                    match &answer {
                        Some(answer) => stream.write_all(answer).await.unwrap(),
                        None => std::future::pending().await,
                    }
                }
            }
        });
        Self {
            url: url.parse().unwrap(),
            requests,
            task,
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    async fn ask(&self) -> Result<Answer, GrantError> {
        let login = login(&self.url, "hunter2");
        granter().request(&login, Duration::from_secs(10)).await
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = String::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk).await.unwrap();
        read.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
        if let Some((head, body)) = read.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap();
            if body.len() >= length.parse().unwrap() {
                return read;
            }
        }
        assert_ne!(n, 0, "a request ended early: {read}");
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

impl Grant {
    /// A password grant for tests.
    pub(in crate::token) fn example(username: &str, password: &str) -> Self {
        Self::Password {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        }
    }
}

impl Login {
    /// A login for tests.
    pub(in crate::token) fn example(username: &str, password: &str) -> Self {
        Self {
            endpoint: "https://acme.example/oauth/token".parse().unwrap(),
            grant: Grant::example(username, password),
            client_id: "client".to_owned(),
            client_secret: Secret::new("client-secret".to_owned()),
            scope: "api".to_owned(),
            extra: Vec::new(),
            token_key: vec!["accessToken".to_owned()],
            account: None,
        }
    }
}

fn login(endpoint: &Url, password: &str) -> Login {
    Login {
        endpoint: endpoint.clone(),
        ..Login::example("ann", password)
    }
}

fn granter() -> Granter {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Granter::new(reqwest::Client::builder().no_proxy(), tls).unwrap()
}

fn unavailable(trouble: Trouble) -> GrantError {
    trouble.into()
}

#[tokio::test]
async fn a_login_travels_in_a_form_byte_for_byte() {
    let endpoint = Endpoint::that_says(answer("200 OK", "", r#"{"access_token":"TOKEN"}"#)).await;
    let passwords = ["007", "1e5", "p&ss=w+rd %zz", "ключ ", " ", "\t\r\n\u{0}", "true"];
    for password in passwords {
        granter()
            .request(&login(&endpoint.url, password), Duration::from_secs(10))
            .await
            .unwrap();
    }
    let requests = endpoint.requests();
    assert_eq!(requests.len(), passwords.len());
    for (request, password) in requests.iter().zip(passwords) {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let pairs: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let sent = [
            ("grant_type", "password"),
            ("username", "ann"),
            ("password", password),
            ("client_id", "client"),
            ("client_secret", "client-secret"),
            ("scope", "api"),
        ];
        assert_eq!(
            pairs,
            sent.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        let head = head.to_lowercase();
        assert!(head.starts_with("post /oauth/token http/1.1\r\n"), "{head}");
        assert!(head.contains("accept: application/json"), "{head}");
        assert!(
            head.contains("content-type: application/x-www-form-urlencoded"),
            "{head}"
        );
        for never in [
            "authorization",
            "referer",
            "fluent.account",
            "transfer-encoding",
            "hunter2",
        ] {
            assert!(!head.contains(never), "{head}");
        }
    }
}

#[tokio::test]
async fn client_credentials_account_and_extra_travel_too() {
    let endpoint = Endpoint::that_says(answer("200 OK", "", r#"{"access_token":"TOKEN"}"#)).await;
    let login = Login {
        grant: Grant::ClientCredentials,
        scope: String::new(),
        extra: vec![("audience".to_owned(), "a b".to_owned())],
        account: Some(HeaderValue::from_static("ACME")),
        ..login(&endpoint.url, "")
    };
    granter().request(&login, Duration::from_secs(10)).await.unwrap();
    let request = endpoint.requests().remove(0);
    assert!(request.contains("fluent.account: ACME\r\n"), "{request}");
    let body = "grant_type=client_credentials&client_id=client&client_secret=client-secret&audience=a+b";
    assert!(request.ends_with(body), "{request}");
}

#[tokio::test]
async fn a_refresh_token_travels_in_the_place_of_the_credentials() {
    let endpoint = Endpoint::that_says(answer("200 OK", "", r#"{"access_token":"TOKEN"}"#)).await;
    let refresh_token = Secret::new("r=1".to_owned());
    granter()
        .refresh(
            &login(&endpoint.url, "hunter2"),
            &refresh_token,
            Duration::from_secs(10),
        )
        .await
        .unwrap();
    let request = endpoint.requests().remove(0);
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let sent =
        "grant_type=refresh_token&refresh_token=r%3D1&client_id=client&client_secret=client-secret&scope=api";
    assert_eq!(body, sent);
}

#[tokio::test]
async fn an_answer_is_read_up_to_256_kib() {
    for (length, read) in [(256 * 1024, true), (256 * 1024 + 1, false)] {
        let token = r#"{"access_token":"TOKEN"}"#;
        let padded = token.to_owned() + &" ".repeat(length - token.len());
        let endpoint = Endpoint::that_says(answer("200 OK", "", &padded)).await;
        assert_eq!(endpoint.ask().await.is_ok(), read, "{length} bytes");
    }
}

#[tokio::test]
async fn no_answer_but_a_200_with_a_token_is_a_token() {
    let large = format!(r#"{{"access_token":"{}"}}"#, "T".repeat(LONGEST_ANSWER));
    let nonsense = |what| unavailable(Trouble::Nonsense(what));
    let status = |code| unavailable(Trouble::Status(StatusCode::from_u16(code).unwrap()));
    let refused = |code, error| {
        let status = StatusCode::from_u16(code).unwrap();
        GrantError::Refused(Refusal { status, error })
    };
    let token = r#"{"access_token":"TOKEN"}"#;
    let grant = r#"{"error":"invalid_grant","error_description":"hunter2"}"#;
    let client = r#"{"error":"invalid_client","error_description":"hunter2"}"#;
    let single_sign_on = r#"{"errors":[{"code":"400","message":"hunter2"}]}"#;
    let cut = |status| format!("HTTP/1.1 {status}\r\ncontent-length: 900\r\n\r\n{token}");
    for (said, error, counts) in [
        (answer("200 OK", "", ""), nonsense("its body is not JSON"), false),
        (
            answer("200 OK", "", "<html>TOKEN"),
            nonsense("its body is not JSON"),
            false,
        ),
        (answer("200 OK", "", grant), nonsense("it holds no token"), false),
        (
            answer("200 OK", "", &large),
            nonsense("its body is too large"),
            false,
        ),
        (cut("200 OK"), nonsense("its body did not come to its end"), false),
        (answer("201 Created", "", token), status(201), true),
        (
            answer("302 Found", "location: /elsewhere\r\n", token),
            status(302),
            true,
        ),
        (
            answer("307 Temporary Redirect", "location: /elsewhere\r\n", ""),
            status(307),
            true,
        ),
        (
            answer("400 Bad Request", "", grant),
            refused(400, OAuthError::InvalidGrant),
            true,
        ),
        (
            answer("401 Unauthorized", "", client),
            refused(401, OAuthError::InvalidClient),
            true,
        ),
        (
            answer("403 Forbidden", "", "<html>"),
            refused(403, OAuthError::Unnamed),
            true,
        ),
        (cut("400 Bad Request"), refused(400, OAuthError::Unnamed), true),
        (answer("404 Not Found", "", grant), status(404), true),
        (answer("408 Request Timeout", "", grant), status(408), true),
        (answer("425 Too Early", "", grant), status(425), true),
        (answer("429 Too Many Requests", "", grant), status(429), true),
        (
            answer("500 Oops", "", single_sign_on),
            refused(500, OAuthError::Unnamed),
            true,
        ),
        (answer("500 Oops", "", "hunter2"), status(500), true),
        (answer("502 Bad Gateway", "", "hunter2"), status(502), false),
        (
            answer("503 Service Unavailable", "", "hunter2"),
            status(503),
            false,
        ),
        (answer("504 Gateway Timeout", "", "hunter2"), status(504), false),
        (String::new(), unavailable(Trouble::Interrupted), true),
        (
            "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
            unavailable(Trouble::Interrupted),
            true,
        ),
        (
            "TOKEN hunter2\r\n\r\n".to_owned(),
            unavailable(Trouble::Interrupted),
            true,
        ),
    ] {
        let endpoint = Endpoint::that_says(said.clone()).await;
        let got = endpoint.ask().await.unwrap_err();
        assert_eq!(got, error, "{said}");
        assert_eq!(got.counts(), counts, "{said}");
        assert_eq!(endpoint.requests().len(), 1, "sent more than once on {said}");
        let shown = format!("{got} {got:?}");
        assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{shown}");
    }
}

#[tokio::test]
async fn retry_after_of_trouble_is_handed_on() {
    let said = answer("503 Service Unavailable", "retry-after: 7\r\n", "");
    let got = Endpoint::that_says(said).await.ask().await.unwrap_err();
    let retry_after = Some(Duration::from_secs(7));
    let trouble = Trouble::Status(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(got, GrantError::Unavailable { trouble, retry_after });
}

/// The spans that have ended.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Spans {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[tokio::test]
async fn each_login_is_a_span_that_tells_its_outcome() {
    let spans = Spans::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(spans.clone())
        .build();
    let granter = granter().traced_by(Tracer::new(provider.tracer("test")));
    for (said, told) in [
        (answer("200 OK", "", r#"{"access_token":"TOKEN"}"#), "200"),
        (answer("400 Bad Request", "", "{}"), "400"),
        (answer("503 Service Unavailable", "", ""), "503"),
        (answer("200 OK", "", ""), "not_understood"),
        (String::new(), "interrupted"),
    ] {
        let endpoint = Endpoint::that_says(said).await;
        let login = login(&endpoint.url, "hunter2");
        drop(granter.request(&login, Duration::from_secs(10)).await);
        let ended = std::mem::take(&mut *spans.0.lock().unwrap());
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].name, "login");
        let mut attributes = ended[0].attributes.iter();
        assert!(attributes.any(|a| a.value.as_str() == told), "{told}: {ended:?}");
    }
}

#[tokio::test]
async fn a_connection_that_fails_does_not_count() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // It takes connections and never says a word: TLS does not come to stand within the login's time.
    let silent: Url = format!("https://{address}/oauth/token").parse().unwrap();
    let timeout = Duration::from_millis(50);
    let got = granter()
        .request(&login(&silent, "hunter2"), timeout)
        .await
        .unwrap_err();
    assert_eq!((got, got.counts()), (unavailable(Trouble::Unreachable), false));

    drop(listener);
    let closed: Url = format!("http://{address}/oauth/token").parse().unwrap();
    let timeout = Duration::from_secs(10);
    let got = granter()
        .request(&login(&closed, "hunter2"), timeout)
        .await
        .unwrap_err();
    assert_eq!((got, got.counts()), (unavailable(Trouble::Unreachable), false));
}

#[tokio::test]
async fn a_login_that_was_sent_and_not_answered_in_time_counts() {
    let endpoint = Endpoint::that_is_silent().await;
    let login = login(&endpoint.url, "hunter2");
    let got = granter()
        .request(&login, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!((got, got.counts()), (unavailable(Trouble::TimedOut), true));
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn credentials_are_taken_over_from_a_login_of_the_same_grant_and_nothing_else() {
    let own = Login::example("ann", "hunter2");
    let other = Login {
        client_id: "other-client".to_owned(),
        client_secret: Secret::new("other-secret".to_owned()),
        scope: "other".to_owned(),
        ..Login::example("bob", "new")
    };
    assert_eq!(
        own.with_credentials_of(&other).form(),
        "grant_type=password&username=bob&password=new&client_id=other-client&client_secret=other-secret&scope=api"
    );
    let machine = Login {
        grant: Grant::ClientCredentials,
        ..other
    };
    assert_eq!(own.with_credentials_of(&machine).form(), own.form());
}

#[test]
fn debug_of_a_login_and_its_answer_holds_no_secret() {
    let login = login(&"https://acme.example/t".parse().unwrap(), "hunter2");
    let answer = answer::granted(br#"{"access_token":"TOKEN"}"#, &login.token_key).unwrap();
    let shown = format!("{login:?} {answer:?}");
    assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{shown}");
}
