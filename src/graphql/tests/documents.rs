//! Rules 2 and 3, and what the rules say of a document.

use super::*;

#[test]
fn rule_2_what_is_no_document_of_operations_and_fragments_is_refused() {
    for bad in [
        "",
        "# nothing",
        "{",
        "{}",
        "{ me } }",
        "query",
        "me",
        "{ me ",
        "query { me } nonsense",
        "{ me(a: \"\n\") }",
        "{ me(a: \"open) }",
        "fragment F on Query { me }",
        "type A { b: Int }",
        "{ me } type A { b: Int }",
        "{ me } extend type A { b: Int }",
        "schema { query: Q }",
        "{ me \u{0} }",
        "{ m\u{e9} }",
    ] {
        assert_eq!(document(rules(), bad), Err(UNREADABLE), "{bad}");
    }
    assert_eq!(document(rules(), "\u{feff}{ me }"), Ok(()));
}

#[test]
fn rule_2_a_comment_ends_where_no_server_reads_on() {
    // The carriage return ends a comment.
    assert_eq!(
        document(read_only(), "query A { me } #\rmutation B { a }"),
        Err(DENIED)
    );
    assert_eq!(
        document(read_only(), "query A { me } #\nmutation B { a }"),
        Err(DENIED)
    );
    assert_eq!(document(read_only(), "{ me } # mutation B { a }"), Ok(()));
    for separator in ["\u{2028}", "\u{2029}"] {
        let hidden = format!("query A {{ me }} #{separator}mutation B {{ a }}");
        assert_eq!(document(read_only(), &hidden), Err(UNREADABLE));
        assert_eq!(named(read_only(), &hidden, "B").unwrap_err(), UNREADABLE);
        let string = format!("{{ me(name: \"{separator}\") }}");
        assert_eq!(document(read_only(), &string), Ok(()));
    }
}

#[test]
fn rule_2_text_within_strings_is_no_operation() {
    for text in [
        r#"{ me(a: "} mutation { b") }"#,
        r#"{ me(a: "\"} mutation { b # ") }"#,
        r#"{ me(a: """} mutation { b""") }"#,
        r#"{ me(a: """\"""} mutation { b""") }"#,
        r#"{ me(a: """\\"""} mutation { b""") }"#,
        r#"{ me(a: "\\") mutation: b }"#,
        "query mutation { mutation }",
        "{ mutation { subscription } }",
        "{ ...mutation } fragment mutation on mutation { a }",
    ] {
        assert_eq!(document(read_only(), text), Ok(()), "{text}");
    }
    for text in [
        r#"query A { me(a: "\\") } mutation B { b }"#,
        r#"query A { me(a: """ \""" """) } mutation B { b }"#,
        r##"query A { me(a: "#") } mutation B { b }"##,
        "mutation query { query }",
    ] {
        assert_eq!(document(read_only(), text), Err(DENIED), "{text}");
    }
}

#[test]
fn rule_2_fragments_that_are_missing_doubled_or_in_circles_are_refused() {
    for bad in [
        "{ ...F }",
        "{ ...F } fragment F on Query { me } fragment F on Query { you }",
        "{ ...F } fragment F on Query { ...F }",
        "{ ...F } fragment F on Query { a { ...G } } fragment G on A { b { ... on B { ...F } } }",
        "{ me } fragment F on Query { ...G } fragment G on Query { ...F }",
        "query A { a } query A { b }",
    ] {
        assert_eq!(document(rules(), bad), Err(UNREADABLE), "{bad}");
    }
}

#[test]
fn mutations_are_denied_or_allowed_by_field() {
    assert_eq!(document(rules(), MUTATION), Ok(()));
    assert_eq!(document(read_only(), MUTATION), Err(DENIED));
    assert_eq!(document(read_only(), "{ me }"), Ok(()));
    let only = || Rules {
        mutations: Mutations::Only(vec!["createOrder".to_owned(), "updateOrder".to_owned()]),
        ..rules()
    };
    for good in [
        MUTATION,
        "{ me }",
        "mutation { createOrder { id } updateOrder { id } __typename }",
        "mutation { cancelOrder: createOrder { cancelOrder } }",
        "mutation { ...F } fragment F on Mutation { ... { createOrder { id } } }",
        // A fragment below a field adds no field to the mutation.
        "mutation { createOrder { ...F } } fragment F on Order { cancelOrder }",
    ] {
        assert_eq!(document(only(), good), Ok(()), "{good}");
    }
    for bad in [
        "mutation { cancelOrder { id } }",
        "mutation { createOrder { id } cancelOrder { id } }",
        "mutation { createOrder: cancelOrder { id } }",
        "mutation { createorder { id } }",
        "mutation { ... { cancelOrder } }",
        "mutation { ... on Mutation @include(if: true) { cancelOrder } }",
        "mutation { ...F } fragment F on Mutation { ...G } fragment G on Mutation { cancelOrder }",
        "mutation { createOrder { id } ...F } fragment F on Mutation { cancelOrder }",
    ] {
        assert_eq!(document(only(), bad), Err(DENIED), "{bad}");
    }
}

#[test]
fn introspection_is_denied_wherever_it_is_asked_for() {
    let closed = || Rules {
        introspection: Permission::Deny,
        ..rules()
    };
    let denied = Err(Refusal::Denied(Denied::Introspection));
    for bad in [
        "{ __schema { types { name } } }",
        "{ a: __type(name: \"A\") { name } }",
        "{ me ... { __schema { types { name } } } }",
        "{ ...F } fragment F on Query { __schema { types { name } } }",
        "{ me { ...F } } fragment F on User { __schema }",
    ] {
        assert_eq!(document(closed(), bad), denied, "{bad}");
        assert_eq!(document(rules(), bad), Ok(()), "{bad}");
    }
    assert_eq!(document(closed(), "{ me { __typename id } __typename }"), Ok(()));
}

/// The least value of a limit that a document keeps to.
fn least(text: &str, limit: Limit, set: fn(&mut Rules, usize)) -> usize {
    let within = |value: usize| {
        let mut rules = rules();
        set(&mut rules, value);
        match document(rules, text) {
            Ok(()) => true,
            Err(Refusal::Exceeded(exceeded)) if exceeded == limit => false,
            Err(other) => panic!("{text}: {other}"),
        }
    };
    (0..=1_000).find(|value| within(*value)).unwrap()
}

fn depth(text: &str) -> usize {
    least(text, Limit::Depth, |rules, value| rules.max_depth = Some(value))
}

fn aliases(text: &str) -> usize {
    least(text, Limit::Aliases, |rules, value| {
        rules.max_aliases = Some(value);
    })
}

fn root_fields(text: &str) -> usize {
    least(text, Limit::RootFields, |rules, value| {
        rules.max_root_fields = Some(value);
    })
}

#[test]
fn rule_3_fragments_count_for_the_depth_where_they_are_spread() {
    assert_eq!(depth("{ a }"), 1);
    assert_eq!(depth("{ a { b } }"), 2);
    assert_eq!(depth("{ a { b { c } } d }"), 3);
    assert_eq!(depth("{ a { ... on B { b { c } } } }"), 3);
    assert_eq!(depth("{ a { ...F } } fragment F on B { b { c } }"), 3);
    assert_eq!(
        depth("{ ...F a { ...F } } fragment F on B { b { ...G } } fragment G on C { c { d } }"),
        4
    );
    assert_eq!(
        depth("{ a } fragment F on B { b { c { d } } }"),
        1,
        "it is not spread"
    );
}

#[test]
fn rule_3_fragments_count_for_aliases_each_time() {
    assert_eq!(aliases("{ a b { c } }"), 0);
    assert_eq!(aliases("{ a: b c: d { e: f } }"), 3);
    assert_eq!(aliases("{ ... { a: b } }"), 1);
    assert_eq!(aliases("{ ...F ...F c { ...F } } fragment F on B { a: b }"), 3);
    assert_eq!(aliases("{ a } fragment F on B { a: b }"), 0, "it is not spread");
}

#[test]
fn rule_3_fragments_count_for_root_fields_at_the_root_alone() {
    assert_eq!(root_fields("{ a b { c d e } }"), 2);
    assert_eq!(root_fields("{ a ... { b c } }"), 3);
    assert_eq!(
        root_fields("{ a ...F ...F b { ...F } } fragment F on B { c d }"),
        6
    );
}

#[test]
fn rule_3_fragments_that_double_each_other_are_counted_without_being_written_out() {
    let fragment = |n| format!("fragment F{n} on A {{ a: b ...F{0} c {{ ...F{0} }} }} ", n + 1);
    let fragments = (0..200).map(fragment).collect::<Vec<_>>().concat();
    let text = format!("{{ ...F0 }} {fragments} fragment F200 on A {{ d: e }}");
    let limited = |limit| Rules {
        max_aliases: Some(limit),
        ..rules()
    };
    assert_eq!(document(limited(usize::MAX), &text), Ok(()));
    assert_eq!(
        document(limited(usize::MAX - 1), &text),
        Err(Refusal::Exceeded(Limit::Aliases))
    );
}
