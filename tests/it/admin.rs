//! The admin listener: is it well, and if not, why.

use std::net::SocketAddr;

use fluent_sandbox::{Fault, Place, Times};
use http::Request;
use serde_json::{Value, json};

use super::support::{Client, Proxy, Raw, fluent, full, sandbox, start};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn it_is_ready_once_the_default_instance_held_a_token() {
    let sandbox = sandbox(fluent()).await;
    let hang = sandbox.faults().inject(Place::Token, Times::Once, Fault::Hang);
    let proxy = Proxy::start(&sandbox.url(), "").await;
    sandbox.seen().wait_for(|counts| counts.token_requests == 1).await;
    let answer = proxy.admin().get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({"ready": false, "reason": "the default instance has not held a token yet"})
    );
    let live = proxy.admin().get("/livez").await;
    assert_eq!((live.status.as_u16(), &live.body[..]), (200, &b"ok\n"[..]));
    sandbox.faults().clear_one(hang);
    proxy.client().graphql("{ me { id } }").await.assert_good();
    let answer = proxy.admin().get("/readyz").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, json!({"ready": true}))
    );
    // Probes neither log in nor dial, and what becomes of Fluent is not theirs.
    sandbox.revoke_access_tokens();
    sandbox.stop_listening().await;
    for probe in ["/livez", "/readyz"] {
        assert_eq!(proxy.admin().get(probe).await.status, 200, "{probe}");
    }
    assert_eq!(sandbox.seen().counts().password_logins, 1);
}

#[tokio::test]
async fn the_status_has_its_shape() {
    let sandbox = sandbox(fluent()).await;
    let more = format!(
        "[instances.other]\nurl = \"{}\"\nusername = \"nobody\"\npassword = \"planted-p2\"\n\
         client_id = \"x\"\nclient_secret = \"planted-client-secret-2\"\n\
         [fluent.users.ops]\nusername = \"ops\"\npassword = \"planted-p3\"\n",
        sandbox.url()
    );
    let proxy = Proxy::start(&sandbox.url(), &more).await;
    proxy.client().graphql("{ me { id } }").await.assert_good();
    let answer = proxy.admin().get("/status").await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    let status = answer.json();
    assert_eq!(
        keys(&status),
        ["draining", "instances", "uptime_seconds", "version"]
    );
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["draining"], false);
    assert!(status["uptime_seconds"].as_u64().unwrap() < 60);
    assert_eq!(keys(&status["instances"]), ["default", "other"]);
    let default = &status["instances"]["default"];
    assert_eq!(keys(default), ["url", "users"]);
    assert_eq!(default["url"], sandbox.url());
    assert_eq!(keys(&default["users"]), ["default", "ops"]);
    let user = &default["users"]["default"];
    assert_eq!(
        keys(user),
        [
            "expires_in_seconds",
            "last_error",
            "login",
            "logins",
            "next_attempt_in_seconds",
            "obtained_at",
            "obtained_by",
            "state"
        ]
    );
    assert_eq!(
        (
            &user["state"],
            &user["login"],
            &user["obtained_by"],
            &user["last_error"]
        ),
        (&json!("fresh"), &json!("ok"), &json!("password"), &Value::Null)
    );
    assert_eq!(user["logins"], json!({"ok": 1, "refused": 0, "unavailable": 0}));
    assert!((86_000..=86_400).contains(&user["expires_in_seconds"].as_u64().unwrap()));
    // Seconds since 1970.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now.abs_diff(user["obtained_at"].as_u64().unwrap()) < 60);
    let unused = &status["instances"]["other"]["users"]["default"];
    assert_eq!(
        (&unused["state"], &unused["login"]),
        (&json!("empty"), &json!("none"))
    );
    assert_eq!(unused["obtained_by"], Value::Null);
    assert_eq!(unused["logins"], json!({"ok": 0, "refused": 0, "unavailable": 0}));

    let refused = proxy.client().post("/instances/other/graphql", "{}").await;
    refused.assert_refused(502, "CREDENTIALS_REFUSED");
    let status = proxy.admin().get("/status").await.json();
    let user = &status["instances"]["other"]["users"]["default"];
    assert_eq!(
        (&user["state"], &user["login"]),
        (&json!("empty"), &json!("refused"))
    );
    assert_eq!(user["logins"], json!({"ok": 0, "refused": 1, "unavailable": 0}));
    assert!(user["next_attempt_in_seconds"].as_u64().unwrap() > 900);
    assert!(user["last_error"].is_string());
}

#[tokio::test]
async fn browsers_of_other_pages_get_nothing() {
    let (_sandbox, proxy) = start("").await;
    for path in ["/", "/livez", "/readyz", "/status"] {
        for (name, value, status, code) in [
            ("host", "localhost.evil.example", 421, "HOST_NOT_ALLOWED"),
            ("host", "127.0.0.1.nip.io:4281", 421, "HOST_NOT_ALLOWED"),
            ("origin", "null", 403, "CROSS_ORIGIN"),
            ("origin", "http://localhost", 403, "CROSS_ORIGIN"),
            ("sec-fetch-site", "cross-site", 403, "CROSS_ORIGIN"),
        ] {
            let request = Request::get(path).header(name, value).body(full("")).unwrap();
            let answer = proxy.admin().send(request).await;
            answer.assert_refused(status, code);
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (sandbox, proxy) = start("").await;
    for path in ["/nothing", "/graphql", "/livez/", "/oauth/token"] {
        proxy
            .admin()
            .get(path)
            .await
            .assert_refused(404, "PATH_NOT_FOUND");
    }
    let post = proxy.admin().post("/status", "{}").await;
    post.assert_refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(post.headers["allow"], "GET, HEAD");
    for path in ["/livez", "/status"] {
        proxy
            .client()
            .get(path)
            .await
            .assert_refused(404, "PATH_NOT_FOUND");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 0);
}

#[tokio::test]
async fn other_machines_get_the_probes_only() {
    // No packet leaves: the system only chooses the address that it would send from.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = match socket.connect("203.0.113.1:9") {
        Ok(()) => socket.local_addr().unwrap().ip(),
        Err(_) => return eprintln!("skipped: this machine has no address but loopback"),
    };
    if own.is_loopback() {
        return eprintln!("skipped: this machine has no address but loopback");
    }
    let sandbox = sandbox(fluent()).await;
    // Whatever the listener is bound to, it is the peer's own address that counts.
    for bound in [own, "0.0.0.0".parse().unwrap()] {
        let toml = format!("[admin]\naddress = \"{bound}:0\" # own admin address\n");
        let proxy = Proxy::start(&sandbox.url(), &toml).await;
        proxy.client().graphql("{ me { id } }").await.assert_good();
        let address = (own, proxy.admin_address().port()).into();
        assert_remote_gets_the_probes_only(address).await;
        let neighbour = proxy.admin().get("/status").await.status;
        assert_eq!(neighbour == 200, bound != own);
    }
}

async fn assert_remote_gets_the_probes_only(address: SocketAddr) {
    let remote = Client::new(address);
    for path in ["/livez", "/readyz", "/readyz?token", "/metrics"] {
        // A probe knows neither the name nor the address that the listener would take from a browser.
        let request = Request::get(path).header("host", "pod.example");
        let answer = remote.send(request.body(full("")).unwrap()).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    remote
        .post("/retry", "{}")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    for path in [
        "/status",
        "/",
        "/retry",
        "/livez/../status",
        "//status",
        "/metrics/",
        "/nothing",
    ] {
        let mut caller = Raw::connect(address).await;
        caller
            .send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        caller.answer().await.assert_refused(404, "PATH_NOT_FOUND");
    }
}
