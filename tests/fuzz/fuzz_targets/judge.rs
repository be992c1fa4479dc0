//! The judge of GraphQL, before any request.
//!
//! The bytes are `GET ` and a query string, or the body of a POST.
//! 1. Who judges twice says the same.
//! 2. What stricter rules let pass, no rules let pass.
//! 3. No mutation passes where they are denied, and nothing that holds only queries is denied as one.
//! 4. What is sent in place of what came passes by itself, as the same operation.
//! 5. What passes is JSON to another reader too, and a document that is sent is the one that he finds there.

#![no_main]

use std::sync::{Arc, LazyLock};

use fluent_auth_proxy::graphql::{
    Denied, Instead, Judge, Judged, Kind, Manifest, Mutations, Permission, Question, Refusal, Rules, Trusted,
    holds_only_queries,
};
use http::{HeaderMap, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const DOCUMENTS: &str = r#"{"a":"{ orders { edges { node { id } } } }","b":"mutation M { createOrder { id } } query Q { me { id } }"}"#;

static JUDGES: LazyLock<Judges> = LazyLock::new(Judges::new);

static JSON: LazyLock<HeaderMap> = LazyLock::new(|| {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
});

struct Judges {
    lax: Judge,
    reading: Judge,
    trusting: Judge,
}

impl Judges {
    fn new() -> Self {
        let manifest = Arc::new(Manifest::read(DOCUMENTS).expect("a manifest"));
        let lax = Rules {
            mutations: Mutations::Allow,
            introspection: Permission::Allow,
            max_depth: None,
            max_aliases: None,
            max_root_fields: None,
            max_tokens: 15_000,
            rest: Permission::Allow,
            documents: Some(manifest),
            trusted: Trusted::Any,
        };
        let reading = Rules {
            mutations: Mutations::Deny,
            introspection: Permission::Deny,
            max_depth: Some(8),
            max_aliases: Some(4),
            max_root_fields: Some(4),
            max_tokens: 1_000,
            ..lax.clone()
        };
        let trusting = Rules {
            mutations: Mutations::Only(vec!["createOrder".to_owned()]),
            trusted: Trusted::Only,
            ..lax.clone()
        };
        Self {
            lax: Judge::new(lax),
            reading: Judge::new(reading),
            trusting: Judge::new(trusting),
        }
    }
}

/// Law 4.
fn check_instead(judge: &Judge, question: Question<'_>, judged: &Judged) {
    let again = match &judged.instead {
        None => return,
        Some(Instead::Body(body)) => judge.judge(Question {
            body: body.as_bytes(),
            ..question
        }),
        Some(Instead::Query(query)) => judge.judge(Question {
            query: Some(query),
            ..question
        }),
    };
    let again = again.expect("what is sent passes by itself");
    assert_eq!(again.operation, judged.operation, "{judged:?}");
    assert_eq!(again.instead, None, "{judged:?}");
}

/// Law 5.
fn check_body(body: &[u8], judged: &Judged) {
    let read: Value = serde_json::from_slice(body).expect("JSON");
    let text = read.get("query").and_then(Value::as_str);
    if let (Some(text), Some(operation)) = (text, &judged.operation) {
        let name = operation.name.as_deref().unwrap_or_default();
        assert!(text.contains(name), "{name:?} is not in {text:?}");
        assert!(operation.kind == Kind::Query || text.contains(operation.kind.as_str()));
        assert_eq!(judged.instead, None);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let query = bytes.strip_prefix(b"GET ").map(std::str::from_utf8);
    let question = match query {
        Some(Err(_)) => return,
        Some(Ok(query)) => Question {
            method: &Method::GET,
            headers: &JSON,
            query: Some(query),
            body: b"",
        },
        None => Question {
            method: &Method::POST,
            headers: &JSON,
            query: None,
            body: bytes,
        },
    };
    let lax = JUDGES.lax.judge(question);
    for judge in [&JUDGES.lax, &JUDGES.reading, &JUDGES.trusting] {
        let judged = judge.judge(question);
        assert_eq!(judged, judge.judge(question));
        let Ok(judged) = judged else { continue };
        assert_eq!(lax.as_ref(), Ok(&judged));
        check_instead(judge, question, &judged);
        if question.query.is_none() {
            check_body(bytes, &judged);
        }
    }
    let read = JUDGES.reading.judge(question);
    if let Ok(Judged {
        operation: Some(operation),
        ..
    }) = &read
    {
        assert_ne!(operation.kind, Kind::Mutation);
    }
    if holds_only_queries(question) {
        assert_ne!(read, Err(Refusal::Denied(Denied::Mutation)));
    }
});
