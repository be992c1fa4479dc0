//! Sockets: versions, TLS, away and back, many at once.

use crate::support::{Bench, form};
use fluent_sandbox::{Config, Sandbox};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tokio::net::TcpStream;

#[tokio::test(flavor = "current_thread")]
async fn sandboxes_are_islands() {
    let (one, two) = (Bench::new().await, Bench::new().await);
    assert_ne!(one.sandbox.url(), two.sandbox.url());
    let token = one.token().await;
    assert_eq!(two.query(&token, "{ me { id } }").await.0, 401);
    assert_eq!(two.sandbox.seen().counts().token_requests, 0);
}

#[tokio::test]
async fn it_goes_away_and_comes_back_with_its_state() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    bench.data(&token, "{ me { id } }").await;
    bench.sandbox.stop_listening().await;
    assert_eq!(bench.sandbox.seen().counts().open_connections, 0);
    assert!(bench.send(&form(&[])).await.unwrap_err().is_connect());
    bench.sandbox.listen_again().await.unwrap();
    bench.sandbox.listen_again().await.unwrap();
    bench.data(&token, "{ me { id } }").await;
    assert_eq!(bench.sandbox.seen().counts().api_requests, 2);
}

#[tokio::test]
async fn dropping_it_ends_it() {
    let bench = Bench::new().await;
    let address = bench.sandbox.address();
    let stream = TcpStream::connect(address).await.unwrap();
    bench
        .sandbox
        .seen()
        .wait_for(|counts| counts.connections == 1)
        .await;
    let seen = bench.sandbox.seen().clone();
    drop(bench);
    seen.wait_for(|counts| counts.open_connections == 0).await;
    drop(stream);
    Sandbox::start(Config {
        address,
        ..Config::default()
    })
    .await
    .unwrap()
    .stop()
    .await;
}

#[tokio::test]
async fn http_2_without_tls_is_understood() {
    let bench = Bench::new().await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .unwrap();
    let response = client
        .post(bench.url("/oauth/token"))
        .form(&form(&[]))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, http::Version::HTTP_2)
    );
    bench.sandbox.faults().inject(
        fluent_sandbox::Place::Api,
        fluent_sandbox::Times::Once,
        fluent_sandbox::Fault::Reset,
    );
    assert!(client.get(bench.url("/graphql")).send().await.is_err());
    assert_eq!(
        client.get(bench.url("/graphql")).send().await.unwrap().status(),
        401
    );
}

#[tokio::test]
async fn tls_is_served_with_what_it_is_given() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let bench = Bench::with(Config {
        tls: Some(Arc::new(tls)),
        ..Config::default()
    })
    .await;
    assert!(bench.sandbox.url().starts_with("https://localhost:"));
    let token = bench.token().await;
    bench.data(&token, "{ me { id } }").await;
    assert_eq!(
        bench.sandbox.seen().api_requests()[0].version,
        http::Version::HTTP_2
    );
}
