//! Rule 6, manifests, and documents that are trusted.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const HASH: &str = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38";

fn with_manifest(trusted: Trusted) -> Rules {
    let manifest =
        json!({ HASH: "query Me { me }", "m": MUTATION, "é\"": "{ \"a\": 1 }".replace("\"a\": 1", "a") });
    Rules {
        documents: Some(Arc::new(Manifest::read(&manifest.to_string()).unwrap())),
        trusted,
        ..rules()
    }
}

fn hash_alone(hash: &str) -> serde_json::Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } })
}

#[test]
fn rule_6_a_hash_is_sent_with_its_document() {
    let body = format!(
        r#"{{ "variables": {{"big": 12345678901234567890.10, "a": "\u00e9"}}, "extensions":{}, "query":null, "operationName":"Me"}}"#,
        hash_alone(HASH)
    );
    let judged = post(with_manifest(Trusted::Only), body).unwrap();
    let Some(Instead::Body(sent)) = judged.instead else {
        panic!("nothing in its place")
    };
    let expected = format!(
        r#"{{"query":"query Me {{ me }}","variables":{{"big": 12345678901234567890.10, "a": "\u00e9"}},"extensions":{},"operationName":"Me"}}"#,
        hash_alone(HASH)
    );
    assert_eq!(sent, expected);
    assert_eq!(judged.operation.unwrap().name.as_deref(), Some("Me"));

    let batch = format!(
        r#"[{{"query":"{{ me }}"}},{{"extensions":{}}}]"#,
        hash_alone(HASH)
    );
    let judged = post(with_manifest(Trusted::Any), batch).unwrap();
    let Some(Instead::Body(sent)) = judged.instead else {
        panic!("nothing in its place")
    };
    let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
    assert_eq!(sent[0], json!({ "query": "{ me }" }));
    assert_eq!(
        sent[1],
        json!({ "query": "query Me { me }", "extensions": hash_alone(HASH) })
    );

    let query = format!("variables=%7B%7D&extensions={}", hash_alone(HASH));
    let judged = get(with_manifest(Trusted::Any), &query).unwrap();
    assert_eq!(
        judged.instead,
        Some(Instead::Query(format!(
            "{query}&query=query%20Me%20%7B%20me%20%7D"
        )))
    );
}

#[test]
fn rule_6_what_is_sent_in_its_place_is_judged() {
    let denied = Rules {
        mutations: Mutations::Deny,
        ..with_manifest(Trusted::Any)
    };
    let body = json!({ "extensions": hash_alone("m") });
    assert_eq!(post(denied, body.to_string()), Err(DENIED));
    let sent = post(with_manifest(Trusted::Any), body.to_string())
        .unwrap()
        .instead;
    let Some(Instead::Body(sent)) = sent else {
        panic!("nothing in its place")
    };
    assert_eq!(post(read_only(), sent), Err(DENIED));
}

#[test]
fn rule_6_a_hash_nobody_knows_and_no_document_at_all_are_refused() {
    let missing = Err(Refusal::Unknown(Unknown::Missing));
    for rules in [
        rules,
        || with_manifest(Trusted::Any),
        || with_manifest(Trusted::Only),
    ] {
        for body in [
            json!({}),
            json!({ "extensions": {} }),
            json!({ "extensions": hash_alone("unknown") }),
            json!({ "extensions": { "persistedQuery": {} } }),
        ] {
            assert_eq!(post(rules(), body.to_string()), missing, "{body}");
        }
    }
    for bad in [
        format!(r#"{{"extensions":{{"persistedQuery":{{"sha256Hash":"m","sha256Hash":"{HASH}"}}}}}}"#),
        r#"{"extensions":{"persistedQuery":{"SHA256Hash":"m"}}}"#.to_owned(),
        r#"{"extensions":{"persistedQuery":{"sha256Hash":7}}}"#.to_owned(),
        r#"{"extensions":{"persistedQuery":[]}}"#.to_owned(),
        r#"{"extensions":[]}"#.to_owned(),
    ] {
        assert_eq!(post(with_manifest(Trusted::Any), &bad), Err(ENVELOPE), "{bad}");
    }
}

#[test]
fn where_documents_are_trusted_only_others_are_refused_letter_by_letter() {
    let untrusted = Err(Refusal::Unknown(Unknown::Untrusted));
    assert_eq!(document(with_manifest(Trusted::Only), "query Me { me }"), Ok(()));
    assert_eq!(
        document(with_manifest(Trusted::Only), "query Me { me  }"),
        untrusted
    );
    assert_eq!(document(with_manifest(Trusted::Any), "query Me { me  }"), Ok(()));
    // A known hash does not vouch for another document.
    let body = json!({ "query": "{ you }", "extensions": hash_alone(HASH) });
    assert_eq!(
        post(with_manifest(Trusted::Only), body.to_string()).map(drop),
        untrusted
    );
    let judged = post(with_manifest(Trusted::Any), body.to_string()).unwrap();
    assert_eq!(
        judged.instead, None,
        "the document that came is the one that is sent"
    );
}

#[test]
fn a_manifest_has_one_of_two_forms() {
    let apollo = json!({
        "format": "apollo-persisted-query-manifest",
        "version": 1,
        "operations": [{ "id": "1", "name": "Me", "type": "query", "body": "query Me { me }" }],
    });
    let manifest = Manifest::read(&apollo.to_string()).unwrap();
    assert_eq!(manifest.document("1"), Some("query Me { me }"));
    assert!(manifest.contains("query Me { me }") && !manifest.contains("1"));
    for bad in [
        json!([]).to_string(),
        json!({ "a": 1 }).to_string(),
        json!({ "format": "another", "version": 1, "operations": [] }).to_string(),
        apollo.to_string().replace("\"version\":1", "\"version\":2"),
        String::new(),
    ] {
        assert_eq!(Manifest::read(&bad).unwrap_err(), ManifestError::Form, "{bad}");
    }
    assert_eq!(Manifest::read("{}").unwrap_err(), ManifestError::Empty);
    let twice = r#"{"a":"{ b }","a":"{ c }"}"#;
    assert_eq!(
        Manifest::read(twice).unwrap_err(),
        ManifestError::Twice("a".to_owned())
    );
    for text in ["{", "type A { b: C }", "{ ...F }"] {
        let bad = json!({ "a": text }).to_string();
        assert_eq!(
            Manifest::read(&bad).unwrap_err(),
            ManifestError::Document("a".to_owned()),
            "{text}"
        );
    }
}

/// Members of a request with hashes, documents and names, good and odd.
fn odd_request() -> impl Strategy<Value = String> {
    let hash = select(vec![HASH, "m", "é\"", "unknown"]).prop_map(|hash| hash_alone(hash).to_string());
    let member = prop_oneof![
        4 => hash.prop_map(|hash| format!(r#""extensions":{hash}"#)),
        1 => Just(r#""\u0065xtensions":{"persistedQuery":{"sha256Hash":"m"},"x":[{"}":1}]}"#.to_owned()),
        1 => select(vec!["null", "\"{ a }\"", "\"query Me { me }\"", "7"])
            .prop_map(|query| format!(r#""query":{query}"#)),
        1 => select(vec!["null", "\"Me\"", "\"\\u004de\"", "\"\""])
            .prop_map(|name| format!(r#""operationName":{name}"#)),
        1 => Just(r#""variables": {"big": 1e999, "a\"": "\ud83d\ude00"}"#.to_owned()),
        1 => Just(r#""Query":null"#.to_owned()),
    ];
    let request =
        prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")));
    prop_oneof![
        4 => request.clone(),
        1 => prop::collection::vec(request, 0..3).prop_map(|requests| format!("[{}]", requests.join(","))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rule_6_what_is_sent_passes_by_itself_as_the_same(body in odd_request()) {
        for trusted in [Trusted::Any, Trusted::Only] {
            let Ok(judged) = post(with_manifest(trusted), &body) else { continue };
            let Some(Instead::Body(sent)) = judged.instead else { continue };
            let again = post(with_manifest(trusted), &sent).unwrap();
            prop_assert_eq!(again.operation, judged.operation);
            prop_assert_eq!(again.instead, None);
        }
    }
}
