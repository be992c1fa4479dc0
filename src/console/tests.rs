use std::collections::BTreeMap;

use http::header::LOCATION;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::name::Name;

const VENDOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/console/assets/vendor");

fn pages() -> Pages {
    let name = |text: &str| text.parse::<Name>().unwrap();
    let users = |users: &[&str]| users.iter().map(|user| name(user)).collect::<Vec<_>>();
    let instances: BTreeMap<Name, Vec<Name>> = BTreeMap::from([
        (name("a"), users(&["default"])),
        (Name::default_name(), users(&["a", "default", "ops"])),
    ]);
    graphiql::pages(instances.iter())
}

async fn ask(path: &str, headers: &[(HeaderName, &str)]) -> (Response<()>, Bytes) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let answer = pages().answer(&Method::GET, path, &map).unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(head, ()), body)
}

fn unzipped(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn what_is_other_peoples_work_is_what_the_digests_say() {
    let sums = std::fs::read_to_string(format!("{VENDOR}/SHA256SUMS")).unwrap();
    let mut known = BTreeMap::new();
    for line in sums.lines() {
        let (digest, name) = line.split_once("  ").unwrap();
        let bytes = std::fs::read(format!("{VENDOR}/{name}")).unwrap();
        assert_eq!(hex(&Sha256::digest(&bytes)), digest, "{name}");
        known.insert(name.to_owned(), digest);
    }
    // What `make.mjs` is made of is ours, and everything else has a digest.
    let ours = [
        ".npmrc",
        "SHA256SUMS",
        "graphiql.mjs",
        "make.mjs",
        "node_modules",
        "package-lock.json",
        "package.json",
        "style-singleton.mjs",
    ];
    for entry in std::fs::read_dir(VENDOR).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(ours.contains(&&*name) || known.contains_key(&name), "{name}");
    }
}

#[tokio::test]
async fn rule_1_a_page_names_nothing_that_is_not_in_the_program() {
    assert!(pages().0.keys().copied().eq(graphiql::PATHS.iter().copied()));
    for path in graphiql::PATHS {
        let (head, body) = ask(path, &[]).await;
        assert_eq!(head.status(), StatusCode::OK, "{path}");
        assert!(!head.headers().contains_key(LOCATION));
        if head.headers()[CONTENT_TYPE] == "text/html; charset=utf-8" {
            assert_names_known(&body, &pages(), &[]);
        }
    }
    let dashboard = dashboard::pages(&[]);
    assert!(dashboard.0.keys().copied().eq(dashboard::PATHS.iter().copied()));
    let others = ["/metrics", "/status"];
    assert_names_known(&dashboard.0["/"].plain().unwrap(), &dashboard, &others);
}

#[track_caller]
fn assert_names_known(page: &[u8], pages: &Pages, others: &[&str]) {
    let text = str::from_utf8(page).unwrap();
    for attribute in ["src=\"", "href=\""] {
        for rest in text.split(attribute).skip(1) {
            let named = rest.split('"').next().unwrap();
            let known = pages.0.contains_key(named) || others.contains(&named);
            assert!(known, "{named}");
        }
    }
}

#[tokio::test]
async fn rule_2_no_file_goes_out_without_the_policy() {
    for path in graphiql::PATHS {
        let (head, _) = ask(path, &[]).await;
        let (known, _) = ask(path, &[(IF_NONE_MATCH, "*")]).await;
        for head in [head, known] {
            let policy = head.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
            assert!(policy.ends_with("frame-ancestors 'none'"));
            assert!(!policy.contains("unsafe"));
            assert_eq!(head.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(head.headers()["cross-origin-resource-policy"], "same-origin");
        }
    }
}

#[tokio::test]
async fn rule_3_a_browser_that_has_the_bytes_is_told_so() {
    let mut tags = Vec::new();
    for path in graphiql::PATHS {
        let (head, body) = ask(path, &[]).await;
        assert_eq!(head.headers()[CACHE_CONTROL], "no-cache");
        assert!(!body.is_empty());
        let tag = head.headers()[ETAG].to_str().unwrap();
        tags.push(tag.to_owned());
        for known in [tag, "*", &format!("\"x\", {tag}")] {
            let (head, body) = ask(path, &[(IF_NONE_MATCH, known), (ACCEPT_ENCODING, "gzip")]).await;
            assert_eq!((head.status(), body.len()), (StatusCode::NOT_MODIFIED, 0));
            assert_eq!(head.headers()[ETAG], tag);
        }
        let (head, _) = ask(path, &[(IF_NONE_MATCH, "\"x\", W/\"y\"")]).await;
        assert_eq!(head.status(), StatusCode::OK);
    }
    tags.sort();
    tags.dedup();
    // `/` and `/graphiql` are one file.
    assert_eq!(tags.len(), graphiql::PATHS.len() - 1);
}

#[tokio::test]
async fn rule_4_both_forms_are_the_same_file() {
    for path in graphiql::PATHS {
        let (plain, text) = ask(path, &[]).await;
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        for takes in ["gzip", "deflate, GZIP;q=0.5, br", "br;q=1, gzip; q=1"] {
            let (head, body) = ask(path, &[(ACCEPT_ENCODING, takes)]).await;
            assert_eq!(head.headers()[VARY], "accept-encoding");
            assert_eq!(head.headers()[CONTENT_LENGTH], body.len().to_string());
            match head.headers().get(CONTENT_ENCODING) {
                Some(coding) => assert_eq!(
                    (coding.as_bytes(), unzipped(&body)),
                    (&b"gzip"[..], text.to_vec())
                ),
                None => assert_eq!(body, text),
            }
        }
        for refuses in ["identity", "gzip;q=0", "gzip; q=0.000", "br", ""] {
            let (head, body) = ask(path, &[(ACCEPT_ENCODING, refuses)]).await;
            assert!(!head.headers().contains_key(CONTENT_ENCODING), "{refuses}");
            assert_eq!(body, text);
        }
    }
}

#[tokio::test]
async fn a_head_is_that_of_the_get() {
    for path in graphiql::PATHS {
        let (get, _) = ask(path, &[]).await;
        let head = pages().answer(&Method::HEAD, path, &HeaderMap::new()).unwrap();
        assert_eq!((head.status(), head.headers()), (get.status(), get.headers()));
        assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert!(
        pages()
            .answer(&Method::GET, "/graphql", &HeaderMap::new())
            .is_none()
    );
}

#[tokio::test]
async fn what_there_is_to_choose_from_begins_with_the_default() {
    let (head, body) = ask("/graphiql/config.json", &[]).await;
    assert_eq!(head.headers()[CONTENT_TYPE], "application/json");
    let config: Value = serde_json::from_slice(&body).unwrap();
    let wanted = json!({ "instances": [
        { "name": "default", "users": ["default", "a", "ops"] },
        { "name": "a", "users": ["default"] },
    ]});
    assert_eq!(config, wanted);
}

#[test]
fn any_number_of_readers_holds_one_copy_of_what_is_unpacked() {
    let pages = pages();
    let large = pages.0.values().find(|file| file.form == Form::Gzip).unwrap();
    let (one, other) = (large.plain().unwrap(), large.plain().unwrap());
    assert!(one.len() > large.bytes.len());
    assert_eq!(one.as_ptr(), other.as_ptr());
}
