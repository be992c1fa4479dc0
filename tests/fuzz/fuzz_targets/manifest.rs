//! The reader of manifests, before any text.
//!
//! 1. Each hash that another reader of JSON finds in a manifest that was read leads to its document, and that
//!    document is trusted.
//! 2. What is wrong with one names no more of it than a hash.

#![no_main]

use std::sync::Arc;

use fluent_auth_proxy::graphql::{
    Judge, Manifest, ManifestError, Mutations, Permission, Question, Refusal, Rules, Trusted,
};
use http::{HeaderMap, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// The documents by hash, as another reader finds them.
fn found(text: &str) -> Vec<(String, String)> {
    let read: Value = serde_json::from_str(text).expect("JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned).expect("text");
    match read.get("operations") {
        Some(Value::Array(entries)) => entries
            .iter()
            .map(|entry| (text(&entry["id"]), text(&entry["body"])))
            .collect(),
        Some(_) | None => {
            let members = read.as_object().expect("an object");
            members
                .iter()
                .map(|(hash, document)| (hash.clone(), text(document)))
                .collect()
        }
    }
}

fn trusting(manifest: Manifest) -> Judge {
    Judge::new(Rules {
        mutations: Mutations::Allow,
        introspection: Permission::Allow,
        max_depth: None,
        max_aliases: None,
        max_root_fields: None,
        max_tokens: 15_000,
        rest: Permission::Allow,
        documents: Some(Arc::new(manifest)),
        trusted: Trusted::Only,
    })
}

fuzz_target!(|text: &str| {
    let manifest = match Manifest::read(text) {
        Ok(manifest) => manifest,
        Err(ManifestError::Twice(hash) | ManifestError::Document(hash)) => {
            let raw = json!(hash).to_string();
            let escaped = text.contains('\\');
            assert!(
                escaped || text.contains(&raw[1..raw.len() - 1]),
                "{hash:?} is no hash of {text:?}"
            );
            return;
        }
        Err(ManifestError::Form | ManifestError::Empty) => return,
    };
    let judge = trusting(manifest);
    let headers =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let ask = |body: Value| {
        let body = body.to_string();
        let question = Question {
            method: &Method::POST,
            headers: &headers,
            query: None,
            body: body.as_bytes(),
        };
        judge.judge(question)
    };
    for (hash, document) in found(text) {
        let by_hash = ask(json!({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": hash}}}));
        let whole = ask(json!({"query": document}));
        assert!(
            !matches!(by_hash, Err(Refusal::Unknown(_))),
            "{hash:?} is not known"
        );
        assert_eq!(
            by_hash.map(|judged| judged.operation),
            whole.map(|judged| judged.operation),
            "{hash:?} leads elsewhere"
        );
    }
});
