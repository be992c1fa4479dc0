//! Who may ask, as raw requests on the wire: nothing that is refused reaches Fluent.

use std::net::Ipv4Addr;

use fluent_auth_proxy::server::Address;
use fluent_auth_proxy::settings::Reach;
use fluent_sandbox::Sandbox;
use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::support::{
    Answer, Client, Proxy, Raw, fluent, full, sandbox, settings, soon, start, start_raw, with_tokens_of,
};

const QUERY: &str = r#"{"query":"{ me { id } }"}"#;

/// A proxy and a sandbox whose one login is over.
async fn logged_in(settings: &str) -> (Sandbox, Proxy) {
    let (sandbox, proxy) = start(settings).await;
    sandbox.seen().wait_for(|counts| counts.token_answers == 1).await;
    (sandbox, proxy)
}

/// Sends a head without its last, empty line, and [`QUERY`].
async fn ask(proxy: &Proxy, head: &str) -> Answer {
    let mut caller = Raw::connect(proxy.address()).await;
    let length = QUERY.len();
    caller
        .send(format!("{head}Content-Length: {length}\r\n\r\n{QUERY}"))
        .await;
    caller.answer().await
}

/// Sends a query with these headers beside a good `Host` and `Content-Type`.
async fn query_with(proxy: &Proxy, headers: &str) -> Answer {
    let port = proxy.address().port();
    let head = format!("POST /graphql HTTP/1.1\r\nHost: localhost:{port}\r\n");
    ask(
        proxy,
        &format!("{head}Content-Type: application/json\r\n{headers}"),
    )
    .await
}

#[track_caller]
fn assert_word(answer: &Answer, word: &str) {
    let wanted = format!("fluent-auth-proxy; error={word}");
    assert_eq!(answer.headers["proxy-status"].to_str().unwrap(), wanted);
}

#[tokio::test]
async fn a_host_that_is_not_this_proxy_is_misdirected() {
    let (sandbox, proxy) = logged_in("").await;
    let json = "Content-Type: application/json\r\n";
    let mut heads: Vec<String> = [
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "evil.example",
        "localhost.",
        "127.0.0.2",
        "127.1",
        "[::ffff:127.0.0.1]",
        "user@localhost",
        "",
    ]
    .map(|host| format!("POST /graphql HTTP/1.1\r\nHost: {host}\r\n{json}"))
    .into();
    heads.push(format!("POST /graphql HTTP/1.1\r\n{json}"));
    heads.push(format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n{json}"
    ));
    heads.push(format!(
        "POST http://localhost/graphql HTTP/1.1\r\nHost: evil.example\r\n{json}"
    ));
    heads.push(format!(
        "POST http://evil.example/graphql HTTP/1.1\r\nHost: localhost\r\n{json}"
    ));
    for head in heads {
        let answer = ask(&proxy, &head).await;
        assert_eq!(answer.status.as_u16(), 421, "{head}");
        answer.assert_refused(421, "HOST_NOT_ALLOWED");
        assert_word(&answer, "http_request_denied");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    for good in ["localhost", "LocalHost:1", "127.0.0.1", "[::1]:9"] {
        let head = format!("POST /graphql HTTP/1.1\r\nHost: {good}\r\n{json}");
        ask(&proxy, &head).await.assert_good();
    }
    let head = format!("POST http://localhost/graphql HTTP/1.1\r\nHost: localhost\r\n{json}");
    ask(&proxy, &head).await.assert_good();
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let (sandbox, proxy) = logged_in("").await;
    let port = proxy.address().port();
    let admin = proxy.admin_address().port();
    for header in [
        "Origin: null".to_owned(),
        "Origin: https://evil.example".to_owned(),
        "Origin: http://localhost".to_owned(),
        format!("Origin: http://localhost:{admin}"),
        format!("Origin: https://localhost:{port}"),
        format!("Origin: http://127.0.0.1:{port}"),
        format!("Origin: http://localhost:{port}.evil.example"),
        "Sec-Fetch-Site: cross-site".to_owned(),
        "Sec-Fetch-Site: same-site".to_owned(),
        format!("Origin: http://localhost:{port}\r\nSec-Fetch-Site: cross-site"),
        format!("Origin: http://localhost:{port}\r\nOrigin: http://evil.example"),
    ] {
        let answer = query_with(&proxy, &format!("{header}\r\n")).await;
        assert_eq!(answer.status.as_u16(), 403, "{header}");
        answer.assert_refused(403, "CROSS_ORIGIN");
        assert_word(&answer, "http_request_denied");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    for header in [
        format!("Origin: http://localhost:{port}\r\n"),
        "Sec-Fetch-Site: same-origin\r\n".to_owned(),
        "Sec-Fetch-Site: none\r\n".to_owned(),
    ] {
        query_with(&proxy, &header).await.assert_good();
    }
}

#[tokio::test]
async fn a_listed_origin_outweighs_the_site() {
    let (_sandbox, proxy) = logged_in("[listen]\nallowed_origins = [\"https://app.example\"]").await;
    let site = "Sec-Fetch-Site: cross-site\r\n";
    query_with(&proxy, &format!("Origin: https://app.example\r\n{site}"))
        .await
        .assert_good();
    let other = query_with(
        &proxy,
        &format!("Origin: https://app.example.evil.example\r\n{site}"),
    )
    .await;
    other.assert_refused(403, "CROSS_ORIGIN");
}

#[tokio::test]
async fn what_a_form_could_send_is_refused() {
    let (sandbox, proxy) = logged_in("").await;
    for media in [
        "Content-Type: text/plain\r\n",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "Content-Type: TEXT/PLAIN\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: text/plain; application/json\r\n",
        "Content-Type: \r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "",
    ] {
        let head = format!("POST /graphql HTTP/1.1\r\nHost: localhost\r\n{media}");
        let answer = ask(&proxy, &head).await;
        assert_eq!(answer.status.as_u16(), 415, "{media}");
        answer.assert_refused(415, "CONTENT_TYPE_NOT_ALLOWED");
        assert_word(&answer, "http_request_denied");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 0);
}

#[tokio::test]
async fn the_required_header_is_asked_for_and_kept_from_fluent() {
    let (sandbox, proxy) = logged_in("[listen]\nrequired_header = \"x-proxy-key: a-long-value\"").await;
    for header in [
        "",
        "x-proxy-key: \r\n",
        "x-proxy-key: a-long-valu\r\n",
        "x-proxy-key: a-long-value2\r\n",
        "x-proxy-key: a-long-value\r\nx-proxy-key: a-long-value\r\n",
    ] {
        let answer = query_with(&proxy, header).await;
        assert_eq!(answer.status.as_u16(), 412, "{header}");
        answer.assert_refused(412, "HEADER_REQUIRED");
        assert_word(&answer, "http_request_denied");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    query_with(&proxy, "X-Proxy-Key: a-long-value\r\n")
        .await
        .assert_good();
    let seen = sandbox.seen().api_requests();
    assert!(!seen[0].headers.contains_key("x-proxy-key"));
}

/// Ways to write the path of the token endpoint, for one reader or another.
const TOKEN_PATHS: [&str; 40] = [
    "/oauth/token",
    "/oauth/token/",
    "/OAuth/Token",
    "/oauth/token?grant_type=password",
    "//oauth/token",
    "/oauth//token",
    "/oauth/token//",
    "/./oauth/token",
    "/oauth/./token",
    "/x/../oauth/token",
    "/graphql/../oauth/token",
    "/oauth/x/../token",
    "/oauth/token/.",
    "/oauth/token/x/..",
    "/oauth/token;x=1",
    "/oauth;x=1/token",
    "/;/oauth/token",
    "/..;/oauth/token",
    "/%6fauth/token",
    "/oauth/%74oken",
    "/oauth%2ftoken",
    "/oauth%2Ftoken",
    "/%2foauth/token",
    "/oauth%252ftoken",
    "/%256fauth/token",
    "/%25%36%66auth/token",
    "/oauth/%2574oken",
    "/x/%2e%2e/oauth/token",
    "/x/%2E./oauth/token",
    "/x/%252e%252e/oauth/token",
    "/oauth%5ctoken",
    "/oauth\\token",
    "/oauth/token%00",
    "/oauth/token%20",
    "/oauth/token%3b",
    "/oauth/token%3fx",
    "/oauth/token%23",
    "/oauth/to%E2%84%AAen",
    "/oauth/token.json",
    "/a/b/oauth/token",
];

#[tokio::test]
async fn no_spelling_leads_to_the_token_endpoint() {
    let (sandbox, proxy) = logged_in("[listen]\npaths = [\"/*\"]").await;
    let host = "Host: localhost\r\nContent-Type: application/json\r\n";
    let prefixes = [
        "",
        "/instances/default",
        "/instances/default/graphql/..",
        "/instances//default",
    ];
    for prefix in prefixes {
        for path in TOKEN_PATHS {
            for method in ["POST", "GET"] {
                let answer = ask(&proxy, &format!("{method} {prefix}{path} HTTP/1.1\r\n{host}")).await;
                let target = format!("{method} {prefix}{path}");
                // What is no target at all is refused by the server, before the guard.
                assert!([404, 400].contains(&answer.status.as_u16()), "{target}");
                if answer.status == 404 {
                    answer.assert_refused(404, "PATH_NOT_FOUND");
                    assert_word(&answer, "destination_not_found");
                }
            }
        }
    }
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (1, 0));
    let head = format!("POST /instances/default/api/v4.1/echo HTTP/1.1\r\n{host}");
    assert_eq!(ask(&proxy, &head).await.json()["path"], "/api/v4.1/echo");
}

#[tokio::test]
async fn paths_methods_instances_and_users_are_known_ones() {
    let (sandbox, proxy) = logged_in("").await;
    let post = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}")
    };
    for path in ["/graphql/", "/graphqlx", "/api/v4.1/echo", "/instances/default"] {
        ask(&proxy, &post(path, ""))
            .await
            .assert_refused(404, "PATH_NOT_FOUND");
    }
    let delete = ask(&proxy, "DELETE /graphql HTTP/1.1\r\nHost: localhost\r\n").await;
    delete.assert_refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(delete.headers["allow"], "GET, POST");
    let instance = ask(&proxy, &post("/instances/nobody/graphql", "")).await;
    instance.assert_refused(404, "INSTANCE_UNKNOWN");
    assert_word(&instance, "destination_not_found");
    let user = ask(&proxy, &post("/graphql", "x-fluent-user: nobody\r\n")).await;
    user.assert_refused(400, "USER_UNKNOWN");
    assert_word(&user, "http_request_error");
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    ask(&proxy, &post("/instances/default/graphql", ""))
        .await
        .assert_good();
}

#[tokio::test]
async fn a_proxy_that_forwards_to_itself_says_so() {
    let (sandbox, upstream, proxy) = start_raw("").await;
    let (url, address) = (upstream.url(), proxy.address());
    let relay = tokio::spawn(async move {
        loop {
            let mut back = upstream.accept_stream().await;
            tokio::spawn(async move {
                let mut there = tokio::net::TcpStream::connect(address).await.unwrap();
                tokio::io::copy_bidirectional(&mut back, &mut there).await
            });
        }
    });
    let answer = proxy.client().graphql("{ me { id } }").await;
    // To the first pass, the refusal of the second is an answer from upstream: it loses its `Proxy-Status`.
    assert_eq!(answer.status.as_u16(), 508);
    assert_eq!(answer.json()["errors"][0]["extensions"]["code"], "LOOP_DETECTED");
    assert!(!String::from_utf8_lossy(&answer.body).contains(&url));
    // The second pass itself, as it is told on the wire: the entry in `Via` is what gives it away.
    let via = answer.headers["via"].to_str().unwrap();
    let again = query_with(&proxy, &format!("Via: 1.0 other, {via}\r\n")).await;
    again.assert_refused(508, "LOOP_DETECTED");
    assert_word(&again, "proxy_loop_detected");
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    relay.abort();
}

#[tokio::test]
async fn no_connection_is_made_to_where_the_proxy_itself_listens() {
    for (listen, dialled) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2")] {
        let sandbox = sandbox(fluent()).await;
        // Held, so that nobody else is given the port; the proxy may listen there all the same.
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.set_reuseaddr(true).unwrap();
        held.bind(format!("{listen}:0").parse().unwrap()).unwrap();
        let address = held.local_addr().unwrap();
        // No entry in `Via` gives it away; and the settings know nothing of what a name leads to.
        let toml = with_tokens_of(&sandbox, "upstream.via = false");
        let mut settings = settings(&format!("http://{dialled}:{}", address.port()), &toml);
        settings.listen.addresses = vec![Address::Tcp(address)];
        settings.listen.reach = Reach::Network;
        let proxy = Proxy::from_settings(&settings).await;
        let client = Client::new((Ipv4Addr::LOCALHOST, address.port()).into());
        for _ in 0..2 {
            let answer = client.graphql("{ me { id } }").await;
            answer.assert_refused(508, "LOOP_DETECTED");
            assert_word(&answer, "proxy_loop_detected");
        }
        let scraped = proxy.admin().get("/metrics").await;
        let page = String::from_utf8_lossy(&scraped.body).into_owned();
        let count = r#"status="508",code="LOOP_DETECTED"} 2"#;
        assert!(page.contains(count), "more than the two of the client: {page}");
    }
}

#[tokio::test]
async fn over_http_2_the_host_has_one_name_too() {
    let (sandbox, proxy) = logged_in("").await;
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    for (authority, host, status) in [
        ("localhost", None, 200),
        ("localhost", Some("LocalHost"), 200),
        ("evil.example", None, 421),
        ("evil.example", Some("localhost"), 421),
        ("localhost", Some("evil.example"), 421),
        ("localhost:1", Some("localhost:2"), 421),
        ("user@localhost", None, 421),
    ] {
        let request = Request::post(format!("http://{authority}/graphql"));
        let mut request = request.header("content-type", "application/json");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let request = request.body(full(QUERY)).unwrap();
        let answer = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{authority} {host:?}");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 2);
}

#[tokio::test]
async fn refusals_come_in_the_media_type_that_the_caller_names() {
    let (_sandbox, proxy) = logged_in("").await;
    let newer = "application/graphql-response+json";
    for (accept, media) in [
        ("", "application/json"),
        ("Accept: */*\r\n", "application/json"),
        ("Accept: application/json\r\n", "application/json"),
        (
            "Accept: application/graphql-response+json;q=0, */*\r\n",
            "application/json",
        ),
        ("Accept: application/graphql-response+json\r\n", newer),
        (
            "Accept: application/json;q=0.5, application/graphql-response+json\r\n",
            newer,
        ),
    ] {
        let answer = query_with(&proxy, &format!("Origin: null\r\n{accept}")).await;
        answer.assert_refused(403, "CROSS_ORIGIN");
        assert_eq!(answer.headers["content-type"], media, "{accept}");
    }
}
