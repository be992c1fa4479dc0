//! Listeners beside TCP: Unix sockets, and sockets that systemd hands over.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Stdio;

use fluent_auth_proxy::app::App;
use fluent_auth_proxy::clock::Clock;
use fluent_auth_proxy::settings::Provenance;
use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::support::{Client, NOWHERE, Process, fluent, full, sandbox, settings, soon, start};

const QUERY: &str = r#"{"query":"{ me { id } }"}"#;

fn at(path: &Path) -> String {
    format!(
        "listen.address = 'unix:{}' # own listen address\n",
        path.display()
    )
}

#[tokio::test]
async fn a_unix_socket_is_served_and_its_file_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (_sandbox, proxy) = start(&at(&path)).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    Client::unix(&path).graphql("{ me { id } }").await.assert_good();
    proxy.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn http_2_is_served_on_a_unix_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (_sandbox, _proxy) = start(&at(&path)).await;
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://any.example/graphql")
        .body(full(QUERY))
        .unwrap();
    let answer = soon(sender.send_request(request)).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, http::Version::HTTP_2)
    );
}

#[tokio::test]
async fn on_a_unix_socket_nobody_is_asked_for_host_and_content_type_but_pages_stay_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (sandbox, _proxy) = start(&at(&path)).await;
    let ask = async |name: &str, value: &str| {
        let request = Request::post("/graphql").header(name, value);
        Client::unix(&path).send(request.body(full(QUERY)).unwrap()).await
    };
    ask("host", "any.example").await.assert_good();
    ask("content-type", "text/plain").await.assert_good();
    ask("accept", "*/*").await.assert_good();
    for (name, value) in [("origin", "http://any.example"), ("sec-fetch-site", "cross-site")] {
        ask(name, value).await.assert_refused(403, "CROSS_ORIGIN");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 3);
}

#[tokio::test]
async fn a_user_who_is_not_listed_reaches_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let other = rustix::process::getuid().as_raw() + 1;
    let (sandbox, _proxy) = start(&format!("listen.allowed_uids = [{other}]\n{}", at(&path))).await;
    let answer = Client::unix(&path).graphql("{ me { id } }").await;
    answer.assert_refused(403, "PEER_NOT_ALLOWED");
    assert_eq!(
        answer.headers["proxy-status"],
        "fluent-auth-proxy; error=http_request_denied"
    );
    assert_eq!(sandbox.seen().counts().api_requests, 0);
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_one_in_use_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let (_sandbox, proxy) = start(&at(&path)).await;
    Client::unix(&path).graphql("{ me { id } }").await.assert_good();
    let refused = App::start(
        &settings(NOWHERE, &at(&path)),
        &Provenance::default(),
        Clock::system(),
    )
    .err()
    .unwrap();
    let sentence = format!(
        "cannot listen on unix:{}: another process listens there",
        path.display()
    );
    assert_eq!(refused.to_string(), sentence);
    Client::unix(&path).graphql("{ me { id } }").await.assert_good();
    proxy.stop().await;
}

#[tokio::test]
async fn addresses_and_sockets_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listen = format!("['localhost:0', 'unix:{}']", path.display());
    let (_sandbox, proxy) = start(&format!("listen.address = {listen} # own listen address")).await;
    Client::unix(&path).graphql("{ me { id } }").await.assert_good();
    proxy.client().graphql("{ me { id } }").await.assert_good();
}

/// What systemd does: hands over sockets as the descriptors 3 and 4, and listens for news.
const HAND_OVER: &str = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_FDS=2 LISTEN_PID=$$";

#[tokio::test]
async fn systemd_hands_over_sockets_and_is_told() {
    let sandbox = sandbox(fluent()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = UnixListener::bind(&path).unwrap();
    let news = folder.path().join("news");
    let told = UnixDatagram::bind(&news).unwrap();
    told.set_read_timeout(Some(std::time::Duration::from_secs(30)))
        .unwrap();
    let arguments = ["--set", "listen.address=systemd"].map(str::to_owned);
    let mut command = Process::behind(HAND_OVER, &sandbox.url(), &arguments);
    command.env("NOTIFY_SOCKET", &news);
    command.stdin(Stdio::from(OwnedFd::from(address.try_clone().unwrap())));
    command.stdout(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    let process = Process::start(command).await;
    let hear = || {
        let mut text = [0; 64];
        let length = told.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    assert_eq!(hear().trim_end(), "READY=1");
    assert_eq!(process.address(), address.local_addr().unwrap());
    process.client().graphql("{ me { id } }").await.assert_good();
    Client::unix(&path).graphql("{ me { id } }").await.assert_good();
    assert!(process.terminate().await.success());
    assert_eq!(hear().trim_end(), "STOPPING=1");
    assert!(path.exists(), "the socket is systemd's to remove");
}

/// What the program says that does not start.
async fn refused(first: &str, handed: Option<std::net::TcpListener>) -> String {
    let arguments = ["--set", "listen.address=systemd"].map(str::to_owned);
    let mut command = Process::behind(first, NOWHERE, &arguments);
    if let Some(handed) = handed {
        command.stdin(Stdio::from(OwnedFd::from(handed)));
    }
    let output = soon(command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn without_sockets_or_with_far_ones_a_start_by_systemd_says_why_not() {
    let told = refused("true", None).await;
    assert!(told.contains("no socket was handed over"), "{told}");
    let far = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let first = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$";
    let told = refused(first, Some(far)).await;
    assert!(told.contains("can be reached by other machines"), "{told}");
}
