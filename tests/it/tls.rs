//! TLS to Fluent: whom the proxy trusts, whom it does not, and how it shows who it is itself.
//!
//! Fluent's API and its token endpoint are two sandboxes here where only one of the legs is to fail.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fluent_sandbox::{Config, Fault, Place, Sandbox, Times};
use http::Version;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, SupportedProtocolVersion};
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::support::{Answer, Proxy, RawUpstream, fluent, full, logged, sandbox, soon, with_tokens_of};

/// Authorities made so far.
static COUNT: AtomicU32 = AtomicU32::new(0);

const ME: &str = "{ me { id } }";

/// An authority of one test, with a folder for what it issues.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    folder: TempDir,
}

/// A certificate with its key.
pub(crate) struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Authorities of one name would be taken for each other.
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A certificate for `name`, changed by `change`.
    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate, key }
    }

    /// A file that holds the authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.write("ca.pem", &self.certificate.pem())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The lines of `[upstream]` that show `client`.
    pub(crate) fn client(&self, client: &Issued) -> String {
        let certificate = self.write("client.pem", &client.certificate.pem());
        let key = self.write("client.key", &client.key.serialize_pem());
        format!(
            "client_cert_file = '{}'\nclient_key_file = '{}'\n",
            certificate.display(),
            key.display()
        )
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }
}

/// A server that shows `issued`, and asks for a client certificate of `clients` where there are any.
pub(crate) fn server(issued: &Issued, clients: Option<&Authority>, alpn: &[&str]) -> Arc<ServerConfig> {
    server_of(rustls::DEFAULT_VERSIONS, issued, clients, alpn)
}

/// As [`server`], but speaks these versions of TLS only.
fn server_of(
    versions: &[&'static SupportedProtocolVersion],
    issued: &Issued,
    clients: Option<&Authority>,
    alpn: &[&str],
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots().into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain: Vec<CertificateDer<'static>> = vec![issued.certificate.der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.key.serialize_der()));
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A sandbox that speaks TLS so.
pub(crate) async fn secure(tls: Arc<ServerConfig>) -> Sandbox {
    let config = Config {
        tls: Some(tls),
        ..fluent()
    };
    sandbox(config).await
}

/// The root of a sandbox that speaks TLS, by this host's name.
pub(crate) fn url(sandbox: &Sandbox, host: &str) -> String {
    format!("https://{host}:{}", sandbox.address().port())
}

/// What a proxy answers whose API speaks `tls` at localhost while its token endpoint needs none.
async fn asked(tls: Arc<ServerConfig>, upstream: &str) -> Answer {
    let api = secure(tls).await;
    let tokens = sandbox(fluent()).await;
    let settings = format!(
        "[fluent.token]\npath = \"{}/oauth/token\"\n[upstream]\n{upstream}",
        tokens.url()
    );
    let proxy = Proxy::start(&url(&api, "localhost"), &settings).await;
    let answer = proxy.client().graphql(ME).await;
    // Nothing that the proxy sent may have been taken for a request.
    if answer.code().is_some() {
        assert_eq!(api.seen().counts().api_requests, 0);
    }
    proxy.stop().await;
    answer
}

#[track_caller]
fn assert_untrusted(answer: &Answer, advice: &str) {
    assert_unreachable(answer, "tls_certificate_error", advice);
}

/// Fails unless the caller was told this word, and the operator what to do.
#[track_caller]
fn assert_unreachable(answer: &Answer, word: &str, advice: &str) {
    answer.assert_refused(502, "UPSTREAM_UNREACHABLE");
    assert_eq!(
        answer.headers["proxy-status"].to_str().unwrap(),
        format!("fluent-auth-proxy; error={word}")
    );
    let id = answer.headers["x-request-id"].to_str().unwrap();
    let log = logged();
    let line = log
        .lines()
        .find(|line| line.contains(id) && line.contains("UPSTREAM_UNREACHABLE"))
        .expect("the log tells of it");
    assert!(line.contains(advice), "{line}");
}

pub(crate) fn ca_file(authority: &Authority) -> String {
    format!("ca_file = '{}'\n", authority.file().display())
}

#[tokio::test]
async fn both_legs_trust_an_authority_of_ca_file() {
    let authority = Authority::new();
    let api = secure(server(&authority.issue("localhost", |_| {}), None, &[])).await;
    let settings = format!("[upstream]\n{}", ca_file(&authority));
    let proxy = Proxy::start(&url(&api, "localhost"), &settings).await;
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(api.seen().counts().tokens_issued, 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_taken() {
    let authority = Authority::new();
    let tls = server(&authority.issue("other.example", |_| {}), None, &[]);
    let answer = asked(tls, &ca_file(&authority)).await;
    assert_untrusted(&answer, "its certificate is for another name; the URL must hold");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_taken() {
    let authority = Authority::new();
    let expired = authority.issue("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let answer = asked(server(&expired, None, &[]), &ca_file(&authority)).await;
    assert_untrusted(&answer, "not valid at this time; it must be renewed");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_taken() {
    let tls = server(&Authority::new().issue("localhost", |_| {}), None, &[]);
    let answer = asked(tls, "").await;
    assert_untrusted(&answer, "name the authority in upstream.ca_file");
}

#[tokio::test]
async fn a_client_certificate_is_shown_on_both_legs() {
    let authority = Authority::new();
    let tls = server(&authority.issue("localhost", |_| {}), Some(&authority), &[]);
    let api = secure(tls).await;
    let client = authority.client(&authority.issue("proxy", |_| {}));
    let settings = format!("[upstream]\n{}{client}", ca_file(&authority));
    let proxy = Proxy::start(&url(&api, "localhost"), &settings).await;
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(api.seen().counts().tokens_issued, 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_certificate_that_is_wanted_and_missing_is_named() {
    let authority = Authority::new();
    let tls = server(&authority.issue("localhost", |_| {}), Some(&authority), &[]);
    let answer = asked(tls, &ca_file(&authority)).await;
    assert_untrusted(&answer, "upstream.client_cert_file and client_key_file");
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_named() {
    let authority = Authority::new();
    let other = Authority::new();
    let tls = server(&authority.issue("localhost", |_| {}), Some(&authority), &[]);
    let client = other.client(&other.issue("proxy", |_| {}));
    let answer = asked(tls, &format!("{}{client}", ca_file(&authority))).await;
    assert_untrusted(&answer, "upstream.client_cert_file and client_key_file");
}

#[tokio::test]
async fn the_token_endpoint_is_held_to_the_same() {
    let api = secure(server(&Authority::new().issue("localhost", |_| {}), None, &[])).await;
    let proxy = Proxy::start(&url(&api, "localhost"), "").await;
    proxy
        .client()
        .graphql(ME)
        .await
        .assert_refused(503, "TOKEN_UNAVAILABLE");
    assert_eq!(api.seen().counts().token_requests, 0);
    assert!(
        logged()
            .lines()
            .any(|line| line.contains("no connection to the token endpoint")
                && line.contains("name the authority in upstream.ca_file"))
    );
    proxy.stop().await;
}

#[tokio::test]
async fn a_token_endpoint_that_wants_a_client_certificate_costs_no_login() {
    let authority = Authority::new();
    let tls = server(&authority.issue("localhost", |_| {}), Some(&authority), &[]);
    let api = secure(tls).await;
    let proxy = Proxy::start(
        &url(&api, "localhost"),
        &format!("[upstream]\n{}", ca_file(&authority)),
    )
    .await;
    proxy
        .client()
        .graphql(ME)
        .await
        .assert_refused(503, "TOKEN_UNAVAILABLE");
    assert_eq!(api.seen().counts().token_requests, 0);
    proxy.stop().await;
}

/// What a server of TLS 1.1 says to a client that speaks nothing so old: OpenSSL's, which knows of newer versions and
/// sends the alert `protocol_version`, and one that knows of none and chooses its own (RFC 5246, appendix E.1).
const TLS_1_1: [&[u8]; 2] = [
    &[21, 3, 2, 0, 2, 2, 70],
    &[
        22, 3, 2, 0, 42, // a record of a handshake
        2, 0, 0, 38, 3, 2, // ServerHello, TLS 1.1
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        0, // no session
        0xc0, 0x14, 0, // TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, no compression
    ],
];

#[tokio::test]
async fn a_server_that_speaks_nothing_newer_than_tls_1_1_is_not_spoken_to() {
    let tokens = sandbox(fluent()).await;
    let api = RawUpstream::bind().await;
    let root = api.url().replace("http:", "https:");
    let proxy = Proxy::start(&root, &with_tokens_of(&tokens, "")).await;
    for hello in TLS_1_1 {
        let client = proxy.client();
        let asked = tokio::spawn(async move { client.graphql(ME).await });
        let mut there = api.accept().await;
        let record = there.take(5).await;
        let length = u16::from_be_bytes([record[3], record[4]]);
        assert_eq!(there.take(length.into()).await[0], 1, "no ClientHello");
        there.send(hello).await;
        let advice =
            "the TLS handshake failed; look at upstream.http_version and at whether the port speaks TLS";
        assert_unreachable(&asked.await.unwrap(), "tls_protocol_error", advice);
        // It is told why, and sent nothing: an alert, in plain text as no keys were agreed on.
        let rest = there.rest().await;
        assert!(rest.is_empty() || rest[0] == 21 && rest.len() == 7, "{rest:?}");
    }
    assert_eq!(tokens.seen().counts().password_logins, 1);
    proxy.stop().await;
}

/// Speaks TLS before `to`, and tells of each handshake.
async fn before(to: &Sandbox, tls: Arc<ServerConfig>) -> Before {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (to, tls) = (to.address(), TlsAcceptor::from(tls));
    let (tell, handshakes) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, tell) = (tls.clone(), tell.clone());
            connections.spawn(async move {
                let mut stream = tls.accept(stream).await?;
                let _ = tell.send(stream.get_ref().1.handshake_kind().unwrap());
                tokio::io::copy_bidirectional(&mut stream, &mut TcpStream::connect(to).await?).await
            });
        }
    });
    Before {
        url,
        handshakes,
        _task: AbortOnDropHandle::new(task),
    }
}

/// What speaks TLS before a sandbox that does not.
struct Before {
    url: String,
    handshakes: mpsc::UnboundedReceiver<HandshakeKind>,
    _task: AbortOnDropHandle<()>,
}

#[tokio::test]
async fn a_second_connection_resumes_the_session_of_the_first() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for http_version in ["1.1", "auto"] {
            let authority = Authority::new();
            let tls = server_of(
                &[version],
                &authority.issue("localhost", |_| {}),
                None,
                &["http/1.1"],
            );
            let fluent = sandbox(fluent()).await;
            let mut api = before(&fluent, tls).await;
            let settings = format!(
                "[upstream]\nhttp_version = '{http_version}'\n{}",
                ca_file(&authority)
            );
            let proxy = Proxy::start(&api.url, &with_tokens_of(&fluent, &settings)).await;
            proxy.client().graphql(ME).await.assert_good();
            assert_eq!(soon(api.handshakes.recv()).await, Some(HandshakeKind::Full));
            assert!(api.handshakes.try_recv().is_err(), "one is enough");
            // While one request is on the first connection, another needs a second.
            fluent.faults().inject(Place::Api, Times::Once, Fault::Hang);
            let client = proxy.client();
            let _hanging = AbortOnDropHandle::new(tokio::spawn(async move { client.graphql(ME).await }));
            soon(fluent.seen().wait_for(|counts| counts.faults == 1)).await;
            proxy.client().graphql(ME).await.assert_good();
            let second = soon(api.handshakes.recv()).await;
            assert_eq!(
                second,
                Some(HandshakeKind::Resumed),
                "{version:?}, {http_version}"
            );
        }
    }
}

/// A proxy that speaks `version` to a sandbox over TLS that offers `alpn`.
async fn speaking(version: &str, alpn: &[&str]) -> (Sandbox, Proxy) {
    let authority = Authority::new();
    let api = secure(server(&authority.issue("localhost", |_| {}), None, alpn)).await;
    let settings = format!(
        "[upstream]\nhttp_version = \"{version}\"\n{}[listen]\npaths = [\"/graphql\", \"/api/*\"]",
        ca_file(&authority)
    );
    let proxy = Proxy::start(&url(&api, "localhost"), &settings).await;
    (api, proxy)
}

#[tokio::test]
async fn http_2_is_spoken_as_the_settings_say() {
    for (version, alpn, spoken) in [
        ("2", &["h2", "http/1.1"][..], Version::HTTP_2),
        ("auto", &["h2", "http/1.1"], Version::HTTP_2),
        ("auto", &["http/1.1"], Version::HTTP_11),
        ("auto", &[], Version::HTTP_11),
        ("1.1", &["h2", "http/1.1"], Version::HTTP_11),
    ] {
        let (api, proxy) = speaking(version, alpn).await;
        proxy.client().graphql(ME).await.assert_good();
        let request = &api.seen().api_requests()[0];
        assert_eq!(request.version, spoken, "{version} {alpn:?}");
        assert_eq!(
            request.headers.contains_key("host"),
            spoken == Version::HTTP_11,
            "{version} {alpn:?}"
        );
        proxy.stop().await;
    }
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_on_prior_knowledge() {
    let api = sandbox(fluent()).await;
    let proxy = Proxy::start(&api.url(), "[upstream]\nhttp_version = \"2\"").await;
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(api.seen().api_requests()[0].version, Version::HTTP_2);
    proxy.stop().await;
}

#[tokio::test]
async fn http_2_carries_trailers_and_te() {
    let (api, proxy) = speaking("2", &["h2", "http/1.1"]).await;
    let request = http::Request::get("/api/v4.1/download?bytes=100000&chunked=1&trailers=1")
        .header("te", "trailers")
        .body(full(""))
        .unwrap();
    let answer = proxy.client().send(request).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 100_000));
    assert!(answer.trailers.unwrap().contains_key("x-checksum"));
    assert_eq!(api.seen().api_requests()[0].headers["te"], "trailers");
    proxy.stop().await;
}

#[tokio::test]
async fn a_401_over_http_2_is_replayed() {
    let (api, proxy) = speaking("2", &["h2", "http/1.1"]).await;
    proxy.client().graphql(ME).await.assert_good();
    api.faults().inject(Place::Api, Times::Once, Fault::RevokeTokens);
    proxy.client().graphql(ME).await.assert_good();
    let requests = api.seen().api_requests();
    let attempts: Vec<_> = requests.iter().map(|request| request.status).collect();
    assert_eq!(attempts, [Some(200), Some(401), Some(200)]);
    assert!(requests.iter().all(|request| request.version == Version::HTTP_2));
    assert_eq!(requests[2].body.sha256, requests[0].body.sha256);
    proxy.stop().await;
}

#[tokio::test]
async fn a_caller_who_leaves_cancels_its_stream_and_no_other() {
    let (api, proxy) = speaking("2", &["h2", "http/1.1"]).await;
    proxy.client().graphql(ME).await.assert_good();
    api.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let leaver = tokio::spawn({
        let client = proxy.client();
        async move { client.graphql(ME).await }
    });
    api.seen().wait_for(|counts| counts.api_requests == 2).await;
    leaver.abort();
    proxy.client().graphql(ME).await.assert_good();
    let requests = api.seen().api_requests();
    assert_eq!(requests[2].connection, requests[0].connection);
    proxy.stop().await;
}

#[tokio::test]
async fn connections_are_replaced_at_max_age() {
    let api = sandbox(fluent()).await;
    let proxy = Proxy::start(&api.url(), "[upstream]\nmax_age = \"300ms\"").await;
    proxy.client().graphql(ME).await.assert_good();
    let first = api.seen().api_requests()[0].connection;
    let replaced = async {
        loop {
            proxy.client().graphql(ME).await.assert_good();
            let requests = api.seen().api_requests();
            if requests.last().unwrap().connection != first {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), replaced)
        .await
        .unwrap();
    proxy.stop().await;
}

#[tokio::test]
async fn an_ipv6_literal_is_reached() {
    let config = Config {
        address: "[::1]:0".parse().unwrap(),
        ..fluent()
    };
    // A machine without IPv6 has nothing to tell here.
    let Ok(api) = Sandbox::start(config).await else {
        return;
    };
    let host = format!("[::1]:{}", api.address().port());
    let proxy = Proxy::start(&format!("http://{host}"), "").await;
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(api.seen().api_requests()[0].headers["host"], host);
    proxy.stop().await;
}
