//! What is told of requests that nobody judges.

use serde_json::json;

use super::*;

type Told = (Kind, Option<String>);

/// The kind and the name that are told of a body, or of its beginning.
fn told(body: &[u8]) -> Option<Told> {
    let operation = Judge::new(rules()).overhear(body)?;
    Some((operation.kind, operation.name.as_deref().map(str::to_owned)))
}

fn named(kind: Kind, name: &str) -> Told {
    (kind, Some(name.to_owned()))
}

#[test]
fn of_a_whole_body_the_meant_operation_is_told() {
    let both = "query A { a } mutation B { b }";
    for (body, expected) in [
        (json!({ "query": "query A { a }" }), Some(named(Kind::Query, "A"))),
        (json!({ "query": "{ a }" }), Some((Kind::Query, None))),
        (
            json!({ "query": both, "operationName": "B" }),
            Some(named(Kind::Mutation, "B")),
        ),
        (json!({ "query": both }), None),
        (json!({ "query": both, "operationName": "C" }), None),
        (json!({ "query": "{" }), None),
        (json!({ "variables": {} }), None),
        (json!([{ "query": "query A { a }" }]), None),
        (json!("query A { a }"), None),
    ] {
        assert_eq!(told(body.to_string().as_bytes()), expected, "{body}");
    }
    assert_eq!(told(b"nonsense"), None);
    assert_eq!(told(b""), None);
}

#[test]
fn of_a_beginning_the_same_is_told_or_nothing() {
    let document = "query A { a(x: \"é\\\"\") } query B { b }";
    let variables = json!({ "text": "é".repeat(40), "operationName": "B", "query": "{ c }" });
    for (first, body) in [
        (
            "operationName",
            format!(
                r#"{{"operationName":"A","variables":{variables},"query":{}}}"#,
                json!(document)
            ),
        ),
        (
            "query",
            format!(
                r#"{{"query":{},"operationName":"A","variables":{variables}}}"#,
                json!(document)
            ),
        ),
        (
            "variables",
            format!(r#"{{"variables":{variables},"query":"query A {{ a }}"}}"#),
        ),
        (
            "one of them",
            format!(r#"{{"query":"query A {{ a }}","variables":{variables},"operationName":"A"}}"#),
        ),
    ] {
        let whole = Some(named(Kind::Query, "A"));
        assert_eq!(told(body.as_bytes()), whole, "{first}");
        let lengths = (0..body.len()).filter(|end| told(&body.as_bytes()[..*end]).is_some());
        let lengths: Vec<_> = lengths.collect();
        for end in &lengths {
            assert_eq!(told(&body.as_bytes()[..*end]), whole, "{first}: {end}");
        }
        // Once it is told it stays so: all that counts has gone by.
        assert!(
            lengths.windows(2).all(|two| two[0] + 1 == two[1]),
            "{first}: {lengths:?}"
        );
        let before_variables = ["query", "one of them"].contains(&first);
        assert_eq!(
            lengths.len() > variables.to_string().len(),
            before_variables,
            "{first}"
        );
    }
}

#[test]
fn no_rule_and_no_limit_but_that_of_tokens_keeps_what_is_asked_from_being_told() {
    let body = json!({ "query": MUTATION }).to_string();
    assert!(told(body.as_bytes()).is_some());
    let long = json!({ "query": format!("{{{}}}", "a ".repeat(15_000)) }).to_string();
    assert_eq!(told(long.as_bytes()), None);
    let query = Judge::new(rules())
        .overhear_query("query=query%20A%7Ba%7D&x=1")
        .unwrap();
    assert_eq!((query.kind, query.name.as_deref()), (Kind::Query, Some("A")));
    assert_eq!(Judge::new(rules()).overhear_query("x=1"), None);
}
