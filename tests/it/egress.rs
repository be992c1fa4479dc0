//! The way out through an HTTP proxy, on both legs.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fluent_auth_proxy::settings::{Settings, Sources};
use fluent_sandbox::Sandbox;
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::support::{Proxy, environment, fluent, logged, nobody, sandbox};
use super::tls::{Authority, secure, server};

const ME: &str = "{ me { id } }";
/// Its first letters mark it as a planted secret.
const PROXY_PASSWORD: &str = "planted-proxy%3Apassword";
/// `user:planted-proxy:password` in base64.
const BASIC: &str = "Basic dXNlcjpwbGFudGVkLXByb3h5OnBhc3N3b3Jk";

/// A proxy on the way out: whatever host it is asked for, it leads to one address.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    /// The lines of each request for a tunnel.
    asked: Arc<Mutex<Vec<Vec<String>>>>,
    task: JoinHandle<()>,
}

impl Way {
    /// Leads to `to`, or answers with `refusal`; where `authorization` is set, only who shows it gets through.
    pub(crate) async fn start(
        to: SocketAddr,
        authorization: Option<&'static str>,
        refusal: Option<u16>,
    ) -> Self {
        Self::listen(to, authorization, refusal, None).await
    }

    /// As [`Way::start`], but is spoken to over TLS.
    async fn start_secure(to: SocketAddr, authorization: &'static str, tls: Arc<ServerConfig>) -> Self {
        Self::listen(to, Some(authorization), None, Some(tls.into())).await
    }

    async fn listen(
        to: SocketAddr,
        authorization: Option<&'static str>,
        refusal: Option<u16>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, tls) = (Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, to, authorization, refusal, &seen).await,
                        Some(tls) => {
                            let stream = tls.accept(stream).await.ok()?;
                            serve(stream, to, authorization, refusal, &seen).await
                        }
                    }
                });
            }
        });
        Self { address, asked, task }
    }

    /// The first line of each request for a tunnel.
    pub(crate) fn tunnels(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter_map(|lines| lines.first().cloned()).collect()
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    to: SocketAddr,
    authorization: Option<&str>,
    refusal: Option<u16>,
    seen: &Mutex<Vec<Vec<String>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let shown = head
        .iter()
        .find_map(|line| {
            line.strip_prefix("proxy-authorization: ")
                .or_else(|| line.strip_prefix("Proxy-Authorization: "))
        })
        .map(str::to_owned);
    seen.lock().unwrap().push(head);
    let status = match refusal {
        Some(status) => status,
        None if authorization.is_some() && shown.as_deref() != authorization => 407,
        None => 200,
    };
    let answer = format!("HTTP/1.1 {status} So\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok()?;
    if status != 200 {
        // Whoever is refused closes first.
        let _ = stream.read(&mut [0; 1]).await;
        return None;
    }
    let mut target = TcpStream::connect(to).await.ok()?;
    tokio::io::copy_bidirectional(&mut stream, &mut target)
        .await
        .ok()?;
    Some(())
}

/// Settings for an API at `url` with further variables.
fn settings(url: &str, toml: &str, variables: &[(&str, &str)]) -> Settings {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let further = variables
        .iter()
        .map(|(name, value)| (OsString::from(*name), OsString::from(*value)));
    let ports = ["listen.address=localhost:0", "admin.address=localhost:0"];
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment(url).into_iter().chain(further).collect(),
        set: ports.map(str::to_owned).into(),
    };
    Settings::load(&sources)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .settings
}

/// A sandbox at `https://fluent.example`, a name that only a proxy on the way out can resolve.
pub(crate) async fn far_away() -> (Authority, Sandbox) {
    let authority = Authority::new();
    let sandbox = secure(server(&authority.issue("fluent.example", |_| {}), None, &[])).await;
    (authority, sandbox)
}

pub(crate) const FAR_AWAY: &str = "https://fluent.example";

fn trusting(authority: &Authority, upstream: &str) -> String {
    format!(
        "[upstream]\nca_file = '{}'\n{upstream}",
        authority.file().display()
    )
}

#[tokio::test]
async fn both_legs_go_through_the_proxy_of_the_settings_with_its_password() {
    let (authority, sandbox) = far_away().await;
    let way = Way::start(sandbox.address(), Some(BASIC), None).await;
    let proxy = format!("proxy = \"http://user:{PROXY_PASSWORD}@{}\"", way.address);
    let settings = settings(FAR_AWAY, &trusting(&authority, &proxy), &[]);
    let proxy = Proxy::from_settings(&settings).await;
    for _ in 0..2 {
        proxy.client().graphql(ME).await.assert_good();
    }
    // One for the login; one for the API, which both requests use.
    assert_eq!(way.tunnels(), ["CONNECT fluent.example:443 HTTP/1.1"; 2]);
    let seen = sandbox.seen();
    let requests = seen.api_requests();
    assert!(
        requests
            .iter()
            .all(|request| !request.headers.contains_key("proxy-authorization"))
    );
    assert!(!logged().contains(BASIC.trim_start_matches("Basic ")));
    proxy.stop().await;
}

#[tokio::test]
async fn the_way_to_the_proxy_may_be_tls_whose_certificate_is_judged_like_any() {
    let (authority, sandbox) = far_away().await;
    let named = |name: &str| server(&authority.issue(name, |_| {}), None, &[]);
    let ask = async |tls: Arc<ServerConfig>| {
        let way = Way::start_secure(sandbox.address(), BASIC, tls).await;
        let port = way.address.port();
        let proxy = format!("proxy = \"https://user:{PROXY_PASSWORD}@localhost:{port}\"");
        let settings = settings(FAR_AWAY, &trusting(&authority, &proxy), &[]);
        let proxy = Proxy::from_settings(&settings).await;
        let answer = proxy.client().graphql(ME).await;
        proxy.stop().await;
        (answer, way.tunnels())
    };
    let (answer, tunnels) = ask(named("localhost")).await;
    answer.assert_good();
    assert_eq!(tunnels, ["CONNECT fluent.example:443 HTTP/1.1"; 2]);
    // Who is not the proxy that was named sees no password.
    let (answer, tunnels) = ask(named("other.example")).await;
    answer.assert_refused(503, "TOKEN_UNAVAILABLE");
    assert!(tunnels.is_empty());
}

#[tokio::test]
async fn both_legs_go_through_the_proxy_of_the_environment() {
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let (authority, sandbox) = far_away().await;
        let way = Way::start(sandbox.address(), None, None).await;
        let address = way.address.to_string();
        let settings = settings(FAR_AWAY, &trusting(&authority, ""), &[(variable, &address)]);
        let proxy = Proxy::from_settings(&settings).await;
        proxy.client().graphql(ME).await.assert_good();
        assert_eq!(way.tunnels().len(), 2, "{variable}");
        proxy.stop().await;
    }
}

#[tokio::test]
async fn loopback_is_reached_straight_though_the_environment_has_a_proxy() {
    let sandbox = sandbox(fluent()).await;
    let way = Way::start(sandbox.address(), None, None).await;
    let url = format!("http://{}", way.address);
    let variables = [("HTTP_PROXY", url.as_str()), ("ALL_PROXY", url.as_str())];
    let proxy = Proxy::from_settings(&settings(&sandbox.url(), "", &variables)).await;
    proxy.client().graphql(ME).await.assert_good();
    assert!(way.tunnels().is_empty());
    proxy.stop().await;
}

#[tokio::test]
async fn plain_http_goes_through_a_tunnel_too() {
    let sandbox = sandbox(fluent()).await;
    let way = Way::start(sandbox.address(), None, None).await;
    let toml = format!(
        "[fluent]\ndanger_allow_http = true\n[fluent.token]\npath = \"{}/oauth/token\"",
        sandbox.url()
    );
    let variable = format!("http://{}", way.address);
    let settings = settings("http://fluent.example", &toml, &[("HTTP_PROXY", &variable)]);
    let proxy = Proxy::from_settings(&settings).await;
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(way.tunnels(), ["CONNECT fluent.example:80 HTTP/1.1"]);
    proxy.stop().await;
}

#[tokio::test]
async fn no_proxy_and_none_reach_the_target_straight() {
    let (authority, sandbox) = far_away().await;
    let way = Way::start(sandbox.address(), None, None).await;
    let url = format!("http://{}", way.address);
    let exempt = [("HTTPS_PROXY", url.as_str()), ("NO_PROXY", ".example")];
    let none = [("HTTPS_PROXY", url.as_str())];
    for (toml, variables) in [("", exempt.as_slice()), ("proxy = \"none\"", none.as_slice())] {
        let settings = settings(FAR_AWAY, &trusting(&authority, toml), variables);
        let proxy = Proxy::from_settings(&settings).await;
        // The name has no address.
        proxy
            .client()
            .graphql(ME)
            .await
            .assert_refused(503, "TOKEN_UNAVAILABLE");
        assert!(way.tunnels().is_empty());
        proxy.stop().await;
    }
}

/// A refusal of the proxy on the way out, on the API leg: the token endpoint is near.
async fn refused(status: u16, word: &str, advice: &str) {
    let tokens = sandbox(fluent()).await;
    let way = Way::start(tokens.address(), None, Some(status)).await;
    let toml = format!("[fluent.token]\npath = \"{}/oauth/token\"", tokens.url());
    let url = format!("http://user:planted-proxy@{}", way.address);
    let settings = settings(FAR_AWAY, &toml, &[("HTTPS_PROXY", &url)]);
    let proxy = Proxy::from_settings(&settings).await;
    let answer = proxy.client().graphql(ME).await;
    answer.assert_refused(502, "UPSTREAM_UNREACHABLE");
    assert_eq!(
        answer.headers["proxy-status"],
        format!("fluent-auth-proxy; error={word}")
    );
    let id = answer.headers["x-request-id"].to_str().unwrap();
    let log = logged();
    let line = log
        .lines()
        .find(|line| line.contains(id) && line.contains(advice));
    assert!(line.is_some(), "no line for {id} says {advice:?}");
    proxy.stop().await;
}

#[tokio::test]
async fn a_refusal_of_the_proxy_says_what_to_do() {
    refused(
        407,
        "proxy_configuration_error",
        "wants a username and password; write them into the URL of upstream.proxy",
    )
    .await;
    refused(
        403,
        "destination_unavailable",
        "answered CONNECT with status 403; it must let the host through",
    )
    .await;
    refused(503, "destination_unavailable", "answered CONNECT with status 503").await;
}

#[tokio::test]
async fn a_password_that_the_proxy_wants_and_does_not_get_is_named_on_the_way_to_the_token_too() {
    let (authority, sandbox) = far_away().await;
    let way = Way::start(sandbox.address(), Some(BASIC), None).await;
    let toml = trusting(&authority, &format!("proxy = 'http://{}'", way.address));
    let proxy = Proxy::from_settings(&settings(FAR_AWAY, &toml, &[])).await;
    let answer = proxy.client().graphql(ME).await;
    answer.assert_refused(503, "TOKEN_UNAVAILABLE");
    let advice = "wants a username and password; write them into the URL of upstream.proxy";
    let says = |line: &str| line.contains("no connection to the token endpoint") && line.contains(advice);
    assert!(logged().lines().any(says));
    assert_eq!(sandbox.seen().counts().connections, 0);
    proxy.stop().await;
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_as_the_cause() {
    let (authority, sandbox) = far_away().await;
    let (_held, address) = nobody();
    let tokens = super::support::sandbox(fluent()).await;
    let toml = format!(
        "[fluent.token]\npath = \"{}/oauth/token\"\n{}",
        tokens.url(),
        trusting(&authority, "")
    );
    let settings = settings(FAR_AWAY, &toml, &[("HTTPS_PROXY", &address.to_string())]);
    let proxy = Proxy::from_settings(&settings).await;
    let answer = proxy.client().graphql(ME).await;
    answer.assert_refused(502, "UPSTREAM_UNREACHABLE");
    let id = answer.headers["x-request-id"].to_str().unwrap();
    assert!(
        logged()
            .lines()
            .any(|line| line.contains(id) && line.contains("the proxy on the way out cannot be reached"))
    );
    proxy.stop().await;
    drop(sandbox);
}

#[test]
fn a_proxy_that_cannot_be_used_stops_the_start() {
    let problems = |toml: &str, variables: &[(&str, &str)], set: &[&str]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let further = variables
            .iter()
            .map(|(name, value)| (OsString::from(*name), OsString::from(*value)));
        let sources = Sources {
            file: Some(file.path().to_owned()),
            environment: environment(FAR_AWAY).into_iter().chain(further).collect(),
            set: set.iter().map(|set| (*set).to_owned()).collect(),
        };
        let problems = Settings::load(&sources).unwrap_err().to_string();
        assert!(!problems.contains("planted-proxy"), "{problems}");
        problems
    };
    let socks = problems(
        "",
        &[("ALL_PROXY", "socks5://user:planted-proxy@proxy.example")],
        &[],
    );
    assert!(
        socks.contains("ALL_PROXY") && socks.contains("a SOCKS proxy cannot be used"),
        "{socks}"
    );
    let file = problems("[upstream]\nproxy = \"proxy.example:3128\"", &[], &[]);
    assert!(file.contains("write the URL of an HTTP proxy"), "{file}");
    let set = problems(
        "",
        &[],
        &["upstream.proxy=http://user:planted-proxy@proxy.example:3128"],
    );
    assert!(set.contains("command lines can be read by others"), "{set}");
}
