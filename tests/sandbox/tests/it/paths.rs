//! The REST paths and those that only tests use.

use crate::support::Bench;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Read;

const MIB: usize = 1024 * 1024;

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| u8::try_from(i % 65_536 % 251).unwrap())
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let hex = |byte: &u8| [byte >> 4, byte & 15].map(|nibble| char::from_digit(nibble.into(), 16).unwrap());
    digest.as_ref().iter().flat_map(hex).collect()
}

async fn call(bench: &Bench, method: Method, path: &str, body: Value) -> (u16, Value) {
    let token = bench.token().await;
    let request = bench
        .client
        .request(method, bench.url(path))
        .bearer_auth(token)
        .json(&body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn every_path_wants_the_bearer() {
    let bench = Bench::new().await;
    for path in [
        "/api/v4.1/event",
        "/api/v4.1/echo",
        "/api/v4.1/download?bytes=1",
        "/",
        "/oauth//token",
    ] {
        assert_eq!(
            bench.client.get(bench.url(path)).send().await.unwrap().status(),
            401,
            "{path}"
        );
    }
    let token = bench.token().await;
    let unknown = bench
        .client
        .get(bench.url("/nowhere"))
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(unknown.status(), 404);
}

#[tokio::test]
async fn a_failed_sync_event_is_a_400_with_its_status() {
    let bench = Bench::new().await;
    let send = async |kind: &str, name: &str| {
        let event = json!({"name": name, "entityType": "ORDER", "entityRef": "O1"});
        let (status, answer) = call(&bench, Method::POST, &format!("/api/v4.1/event/{kind}"), event).await;
        (status, answer["eventStatus"].as_str().unwrap().to_owned())
    };
    assert_eq!(send("async", "FAILED").await, (200, "PENDING".to_owned()));
    assert_eq!(send("sync", "Fine").await, (200, "COMPLETE".to_owned()));
    assert_eq!(send("sync", "Will_FAILED").await, (400, "FAILED".to_owned()));
    assert_eq!(send("sync", "NO_MATCH").await, (400, "NO_MATCH".to_owned()));
    assert_eq!(bench.sandbox.seen().mutation_count("event/sync", "O1"), 1);
}

#[tokio::test]
async fn events_are_filtered_by_dotted_keys() {
    let bench = Bench::new().await;
    for (kind, reference) in [("ORDER", "O1"), ("LOCATION", "L1")] {
        let event = json!({"name": "x", "entityType": kind, "entityRef": reference});
        call(&bench, Method::POST, "/api/v4.1/event/async", event).await;
    }
    let (status, answer) = call(
        &bench,
        Method::GET,
        "/api/v4.1/event?context.entityType=ORDER&count=5",
        json!(null),
    )
    .await;
    assert_eq!(
        (status, &answer["filters"]),
        (200, &json!({"context.entityType": "ORDER"}))
    );
    assert_eq!(
        (&answer["total"], &answer["results"][0]["context"]["entityRef"]),
        (&json!(1), &json!("O1"))
    );
}

#[tokio::test]
async fn jobs_take_batches() {
    let bench = Bench::new().await;
    let (_, job) = call(
        &bench,
        Method::POST,
        "/api/v4.1/job",
        json!({"name": "j", "retailerId": "1"}),
    )
    .await;
    let path = format!("/api/v4.1/job/{}/batch", job["id"].as_str().unwrap());
    let (status, batch) = call(&bench, Method::POST, &path, json!({"entities": [{}]})).await;
    assert_eq!(status, 200);
    let path = format!("{path}/{}", batch["id"].as_str().unwrap());
    assert_eq!(
        call(&bench, Method::GET, &path, json!(null)).await.1["status"],
        json!("COMPLETE")
    );
    assert_eq!(
        call(&bench, Method::POST, "/api/v4.1/transition", json!({}))
            .await
            .0,
        200
    );
    assert_eq!(
        call(&bench, Method::GET, "/orchestration/rest/v1/plugin/", json!(null))
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn echo_tells_what_came_but_no_secret() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let request = bench
        .client
        .put(bench.url("/api/v4.1/echo?a=%2F%20&b=c"))
        .bearer_auth(&token);
    let request = request
        .header("x-one", "1")
        .header("x-two", "2")
        .header("x-one", "3")
        .body("hello");
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(!text.contains(&token));
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&answer["method"], &answer["path"]),
        (&json!("PUT"), &json!("/api/v4.1/echo"))
    );
    assert_eq!(
        (&answer["query"], &answer["length"]),
        (&json!("a=%2F%20&b=c"), &json!(5))
    );
    assert_eq!(answer["sha256"], json!(sha256(b"hello")));
    let ours: Vec<_> = answer["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair[0].as_str().unwrap().starts_with("x-"))
        .collect();
    assert_eq!(
        json!(ours),
        json!([["x-one", "1"], ["x-one", "3"], ["x-two", "2"]])
    );
}

#[tokio::test]
async fn echo_tells_the_trailers_of_a_request() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let bench = Bench::new().await;
    let token = bench.token().await;
    let mut stream = tokio::net::TcpStream::connect(bench.sandbox.address())
        .await
        .unwrap();
    let request = format!(
        "POST /api/v4.1/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#""trailers":[["x-sum","7"]]"#), "{answer}");
}

#[tokio::test]
async fn downloads_come_with_a_length_chunked_or_compressed() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let get = async |query: &str| {
        let url = bench.url(&format!("/api/v4.1/download?bytes=200000{query}"));
        bench.client.get(url).bearer_auth(&token).send().await.unwrap()
    };
    let sized = get("").await;
    assert_eq!(sized.headers()["content-length"], "200000");
    assert_eq!(sized.bytes().await.unwrap(), pattern(200_000));
    let chunked = get("&chunked=1").await;
    assert_eq!(chunked.headers().get("content-length"), None);
    assert_eq!(chunked.bytes().await.unwrap(), pattern(200_000));
    let gzip = get("&gzip=1").await;
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*gzip.bytes().await.unwrap())
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, pattern(200_000));
    let head = bench
        .client
        .head(bench.url("/api/v4.1/download?bytes=200000"))
        .bearer_auth(&token)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &"200000".parse().unwrap())
    );
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_download_may_end_with_a_checksum_as_trailer() {
    use http_body_util::BodyExt;
    let bench = Bench::new().await;
    let token = bench.token().await;
    let url = bench.url("/api/v4.1/download?bytes=100000&trailers=1");
    let request = bench.client.get(url).bearer_auth(&token).header("te", "trailers");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["trailer"], "x-checksum");
    let body = http::Response::<reqwest::Body>::from(response)
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(body.trailers().unwrap()["x-checksum"], sha256(&pattern(100_000)));
}

#[tokio::test]
async fn uploads_are_counted_and_kept_in_part() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let body = pattern(3 * MIB);
    let request = bench
        .client
        .post(bench.url("/api/v4.1/upload"))
        .bearer_auth(&token)
        .body(body.clone());
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!({"length": 3 * MIB, "sha256": sha256(&body)}));
    let seen = &bench.sandbox.seen().api_requests()[0].body;
    assert_eq!(
        (seen.length, seen.whole, seen.kept.len()),
        (3 * 1024 * 1024, true, 65_536)
    );
}

#[tokio::test]
async fn duplex_sends_back_each_chunk_before_the_next_has_come() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<&'static str, std::io::Error>>(1);
    let stream = futures_util::stream::unfold(receiver, async |mut r| r.recv().await.map(|item| (item, r)));
    let body = reqwest::Body::wrap_stream(stream);
    let request = bench
        .client
        .post(bench.url("/api/v4.1/duplex"))
        .bearer_auth(&token)
        .body(body);
    let mut response = request.send().await.unwrap();
    for chunk in ["first", "second"] {
        sender.send(Ok(chunk)).await.unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), chunk);
    }
    drop(sender);
    assert_eq!(response.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn any_status_can_be_had() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    for code in [200, 204, 304, 404, 418, 503] {
        let request = bench
            .client
            .post(bench.url(&format!("/api/v4.1/status/{code}")))
            .bearer_auth(&token);
        assert_eq!(request.send().await.unwrap().status(), code);
    }
}
