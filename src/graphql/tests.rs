//! The rules of the room as laws.

mod documents;
mod oracle;
mod overheard;
mod persisted;
mod speed;

use http::HeaderValue;
use serde_json::json;

use super::*;

const MUTATION: &str = "mutation { createOrder(input: {ref: \"1\"}) { id } }";
const DENIED: Refusal = Refusal::Denied(Denied::Mutation);
const UNREADABLE: Refusal = Refusal::Unreadable(Unreadable::Document);
const ENVELOPE: Refusal = Refusal::Unreadable(Unreadable::Envelope);

/// Rules that let all pass.
fn rules() -> Rules {
    Rules {
        mutations: Mutations::Allow,
        introspection: Permission::Allow,
        max_depth: None,
        max_aliases: None,
        max_root_fields: None,
        max_tokens: 15_000,
        rest: Permission::Allow,
        documents: None,
        trusted: Trusted::Any,
    }
}

fn read_only() -> Rules {
    Rules {
        mutations: Mutations::Deny,
        ..rules()
    }
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// Judges the body of a POST.
fn post(rules: Rules, body: impl AsRef<[u8]>) -> Result<Judged, Refusal> {
    Judge::new(rules).judge(Question {
        method: &Method::POST,
        headers: &json_headers(),
        query: None,
        body: body.as_ref(),
    })
}

/// Judges a query string of a GET.
fn get(rules: Rules, query: &str) -> Result<Judged, Refusal> {
    Judge::new(rules).judge(Question {
        method: &Method::GET,
        headers: &HeaderMap::new(),
        query: Some(query),
        body: b"",
    })
}

/// Judges a document.
fn document(rules: Rules, text: &str) -> Result<(), Refusal> {
    post(rules, json!({ "query": text }).to_string()).map(drop)
}

fn named(rules: Rules, text: &str, name: &str) -> Result<Judged, Refusal> {
    post(rules, json!({ "query": text, "operationName": name }).to_string())
}

#[test]
fn rule_1_a_body_has_one_reading() {
    let good = r#"{"query":"{ me }"}"#;
    assert!(post(read_only(), good).is_ok());
    for bad in [
        "",
        "null",
        "1",
        "\"{ me }\"",
        "{",
        r#"{"query":"{ me }""#,
        r#"{"query":"{ me }"}{"query":"mutation { a }"}"#,
        r#"{"query":"{ me }"},"#,
        r#"{"query":"{ me }",}"#,
        r"{'query':'{ me }'}",
        r#"{query:"{ me }"}"#,
        // Two members of a name, be it escaped or in another case.
        r#"{"query":"{ me }","query":"mutation { a }"}"#,
        r#"{"query":"{ me }","qu\u0065ry":"mutation { a }"}"#,
        r#"{"query":"{ me }","Query":"mutation { a }"}"#,
        r#"{"Query":"{ me }"}"#,
        r#"{"query":"query A { me } mutation B { a }","operationName":"A","operationName":"B"}"#,
        r#"{"query":"query A { me } mutation B { a }","operationName":"A","OPERATIONNAME":"B"}"#,
        // Neither text nor nothing.
        r#"{"query":["{ me }"]}"#,
        r#"{"query":7}"#,
        r#"{"query":"{ me }","operationName":{}}"#,
        r#"{"query":"{ me } \ud800"}"#,
        "\u{feff}{\"query\":\"{ me }\"}",
        "// comment\n{\"query\":\"{ me }\"}",
    ] {
        assert_eq!(post(read_only(), bad), Err(ENVELOPE), "{bad}");
    }
    assert_eq!(
        post(rules(), b"{\"query\":\"{ me }\", \"a\": \"\xff\"}"),
        Err(ENVELOPE)
    );
    let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(post(rules(), wide), Err(ENVELOPE));
    let crowd = (0..100)
        .map(|n| format!("\"{n}\":{n},"))
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(
        post(rules(), format!("{{{crowd}\"query\":\"{{ me }}\"}}")),
        Err(ENVELOPE)
    );
}

#[test]
fn rule_1_escapes_are_read_before_they_are_judged() {
    let hidden = r#"{"qu\u0065ry":"m\u0075tation { a }"}"#;
    assert_eq!(post(read_only(), hidden), Err(DENIED));
    assert!(post(rules(), hidden).is_ok());
    assert_eq!(get(read_only(), "query=%6dutation%20%7B%20a%20%7D"), Err(DENIED));
    assert_eq!(get(read_only(), "q%75ery=mutation+{+a+}"), Err(DENIED));
}

#[test]
fn rule_1_only_json_as_it_is_can_be_judged() {
    let judge = Judge::new(rules());
    let ask = |types: &[&'static str], encoding: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        for value in types {
            headers.append(header::CONTENT_TYPE, HeaderValue::from_static(value));
        }
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        judge.judge(Question {
            method: &Method::POST,
            headers: &headers,
            query: None,
            body: br#"{"query":"{ me }"}"#,
        })
    };
    for good in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json;",
    ] {
        assert!(ask(&[good], None).is_ok(), "{good}");
    }
    let bad_type = Err(Refusal::Unreadable(Unreadable::ContentType));
    for bad in [
        "application/graphql",
        "application/jsonp",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json, text/plain",
        "multipart/form-data; boundary=x",
        "",
    ] {
        assert_eq!(ask(&[bad], None), bad_type, "{bad}");
    }
    assert_eq!(ask(&[], None), bad_type);
    assert_eq!(ask(&["application/json", "application/json"], None), bad_type);
    for encoding in ["gzip", "identity", ""] {
        let refusal = Err(Refusal::Unreadable(Unreadable::Encoding));
        assert_eq!(ask(&["application/json"], Some(encoding)), refusal);
    }
}

#[test]
fn rule_1_a_post_has_no_parameters_and_a_get_no_body() {
    let judge = Judge::new(rules());
    let ask = |method: &Method, query, body: &str| {
        judge.judge(Question {
            method,
            headers: &json_headers(),
            query,
            body: body.as_bytes(),
        })
    };
    let body = r#"{"query":"{ me }"}"#;
    let post = ask(&Method::POST, Some("query={me}"), body);
    assert_eq!(post, Err(Refusal::Unreadable(Unreadable::Parameters)));
    assert!(ask(&Method::POST, Some(""), body).is_ok());
    let get = ask(&Method::GET, Some("query={me}"), body);
    assert_eq!(get, Err(Refusal::Unreadable(Unreadable::Body)));
}

#[test]
fn rule_1_a_query_string_has_one_reading() {
    assert!(get(read_only(), "query={me}&variables=%7B%7D&x=1").is_ok());
    assert_eq!(get(read_only(), "query=mutation{a}"), Err(DENIED));
    for bad in [
        "query={me}&query=mutation{a}",
        "query={me}&qu%65ry=mutation{a}",
        "query={me}&Query=mutation{a}",
        "query={me}&operationName=a&operationName=b",
        "query={me};query=mutation{a}",
        "query={me}%",
        "query={me}%2",
        "query={me}%zz",
        "query={me}%ff",
        "query={me}&x=%c3",
    ] {
        assert_eq!(get(read_only(), bad), Err(ENVELOPE), "{bad}");
    }
    let missing = Err(Refusal::Unknown(Unknown::Missing));
    assert_eq!(get(rules(), ""), missing);
    assert_eq!(get(rules(), "x=1"), missing);
    assert_eq!(get(rules(), "query="), Err(UNREADABLE));
}

#[test]
fn rule_4_the_operation_that_is_meant_is_judged() {
    let both = "query A { me } mutation B { a }";
    let judged = named(read_only(), both, "A").unwrap();
    let query = Operation {
        kind: Kind::Query,
        name: Some("A".into()),
    };
    assert_eq!(judged.operation, Some(query));
    assert_eq!(named(read_only(), both, "B"), Err(DENIED));
    assert_eq!(document(read_only(), both), Err(DENIED), "no name is told");
    assert_eq!(named(read_only(), both, ""), Err(DENIED));
    let nobody = Err(Refusal::Unreadable(Unreadable::OperationName));
    assert_eq!(named(rules(), both, "C"), nobody);
    assert_eq!(named(rules(), both, "a"), nobody);
    assert_eq!(named(rules(), "{ me }", "A"), nobody);
    let null = r#"{"query":"{ me }","operationName":null}"#;
    assert_eq!(post(rules(), null).unwrap().operation.unwrap().kind, Kind::Query);
    assert_eq!(
        get(read_only(), "query=query+A{me}mutation+B{a}&operationName=B"),
        Err(DENIED)
    );
    assert!(get(read_only(), "query=query+A{me}mutation+B{a}&operationName=A").is_ok());
    assert_eq!(
        post(rules(), json!({ "query": both }).to_string())
            .unwrap()
            .operation,
        None
    );
}

#[test]
fn rule_5_each_request_of_a_batch_must_pass() {
    let query = r#"{"query":"{ me }"}"#;
    let mutation = json!({ "query": MUTATION });
    assert!(post(read_only(), format!(" [{query}, {query}]")).is_ok());
    assert_eq!(post(read_only(), format!("[{query},{mutation}]")), Err(DENIED));
    assert_eq!(post(read_only(), format!("[{mutation},{query}]")), Err(DENIED));
    for bad in [
        "[]".to_owned(),
        "[1]".to_owned(),
        format!("[[{query}]]"),
        format!("[{query}] 1"),
    ] {
        assert_eq!(post(rules(), &bad), Err(ENVELOPE), "{bad}");
    }
    let many = |count| format!("[{}]", vec![query; count].join(","));
    assert!(post(rules(), many(100)).is_ok());
    assert_eq!(post(rules(), many(101)), Err(Refusal::Exceeded(Limit::Batch)));
    // Five tokens each, the white space counted.
    let short = |max_tokens| Rules {
        max_tokens,
        ..rules()
    };
    assert!(post(short(50), many(10)).is_ok());
    assert_eq!(post(short(49), many(10)), Err(Refusal::Exceeded(Limit::Tokens)));
}

#[test]
fn rule_7_a_verdict_is_kept_and_is_that_of_its_document_alone() {
    let judge = Judge::new(read_only());
    let ask = |text: &str| {
        judge.judge(Question {
            method: &Method::POST,
            headers: &json_headers(),
            query: None,
            body: json!({ "query": text }).to_string().as_bytes(),
        })
    };
    for _ in 0..3 {
        assert!(ask("{ me }").is_ok());
        assert_eq!(ask(MUTATION), Err(DENIED));
        assert_eq!(ask("{"), Err(UNREADABLE));
    }
    judge.seen.run_pending_tasks();
    assert_eq!(judge.seen.entry_count(), 3);
}

#[test]
fn rule_7_verdicts_take_bounded_memory() {
    let judge = Judge::new(rules());
    for number in 0..20 {
        let text = format!("{{ me }} # {number} {}", "x".repeat(1024 * 1024));
        assert!(judge.verdict(&text).unwrap().is_ok());
        judge.seen.run_pending_tasks();
        assert!(judge.seen.weighted_size() <= SEEN);
    }
}

#[test]
fn the_rest_passes_unless_it_is_denied() {
    assert_eq!(Judge::new(read_only()).judge_rest(), Ok(()));
    let closed = Rules {
        rest: Permission::Deny,
        ..rules()
    };
    assert_eq!(
        Judge::new(closed).judge_rest(),
        Err(Refusal::Denied(Denied::Rest))
    );
}

#[test]
fn only_what_can_be_read_and_asks_for_queries_alone_holds_only_queries() {
    let ask = |method: Method, query, body: &str| {
        holds_only_queries(Question {
            method: &method,
            headers: &json_headers(),
            query,
            body: body.as_bytes(),
        })
    };
    let post = |body: &str| ask(Method::POST, None, body);
    let document = |text: &str| post(&json!({ "query": text }).to_string());
    assert!(document("{ me }") && document("query A { a } query B { b }"));
    assert!(document("{ ...F } fragment F on Query { me }"));
    assert!(post(r#"[{"query":"{ me }"},{"query":"query { you }"}]"#));
    assert!(ask(Method::GET, Some("query={me}"), ""));
    for not in [
        MUTATION,
        "query A { a } mutation B { b }",
        "subscription { a }",
        "fragment F on Query { me }",
        "type A { b: C }",
        "{ me } type A { b: C }",
        "{",
        "",
    ] {
        assert!(!document(not), "{not}");
    }
    for not in [
        "",
        "{}",
        r#"{"query":"{ me }","query":"{ me }"}"#,
        r#"[{"query":"{ me }"},{"query":"mutation { a }"}]"#,
        r#"{"query":"query A { a } mutation B { b }","operationName":"A"}"#,
    ] {
        assert!(!post(not), "{not}");
    }
    assert!(!ask(Method::GET, Some("query=mutation{a}"), ""));
    assert!(!ask(Method::POST, Some("query={me}"), r#"{"query":"{ me }"}"#));
}
