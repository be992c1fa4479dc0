//! What judging costs. Counts of what is read, and multiples of each other: no test asks for a time of its own.

use std::time::Duration;

use super::*;

/// A document of about this many bytes, as clients write them.
fn of_length(bytes: usize, salt: usize) -> String {
    let mut text = format!("query Orders{salt}($first: Int!, $after: String) {{\n");
    let mut number = 0;
    while text.len() < bytes {
        let page = format!(
            "  page{number}: orders(first: $first, after: $after, status: [\"BOOKED\"]) {{\n    edges {{\n      \
             node {{\n        id\n        ref\n        status\n        createdOn\n        items {{ edges {{ node {{ \
             ref quantity }} }} }}\n      }}\n    }}\n    pageInfo {{ hasNextPage }}\n  }}\n"
        );
        text += &page;
        number += 1;
    }
    text + "}\n"
}

/// Fragments, each of which spreads the one that `next` says.
fn fragments(next: fn(usize) -> usize) -> String {
    let fragment = |n| format!("fragment F{n} on A{{...F{}}}", next(n));
    (0..1_300).map(fragment).collect::<Vec<_>>().concat()
}

fn circle() -> String {
    format!("{{...F0}}{}", fragments(|n| (n + 1) % 1_300))
}

/// What this thread has had of the processors, which neighbours on the machine do not take.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// The least time of several runs, as neighbours still disturb caches.
fn least_time(runs: usize, mut work: impl FnMut(usize)) -> Duration {
    let time = |run| {
        let since = processor_time();
        work(run);
        processor_time().saturating_sub(since)
    };
    (0..runs).map(time).min().unwrap()
}

#[test]
fn hostile_documents_end_at_the_limits_of_the_parser() {
    let tokens = Err(Refusal::Exceeded(Limit::Tokens));
    let nesting = Err(Refusal::Exceeded(Limit::Nesting));
    for (hostile, refusal) in [
        ("{".repeat(100_000), tokens),
        ("{a".repeat(100_000), tokens),
        ("{a".repeat(5_000), nesting),
        ("{...".repeat(3_000), nesting),
        (format!("{{a(b:{}", "[".repeat(10_000)), nesting),
        (format!("{{a(b:{}", "{c:".repeat(4_000)), nesting),
        (format!("query($a:{}", "[".repeat(10_000)), nesting),
        (format!("{{{}}}", "a ".repeat(1_000_000)), tokens),
        ("#\n".repeat(1_000_000), tokens),
        ("\"\" ".repeat(700_000), tokens),
        ("... ".repeat(500_000), tokens),
        ("\u{1}".repeat(2_000_000), tokens),
    ] {
        assert_eq!(document(rules(), &hostile), refusal, "{}…", &hostile[..20]);
    }
    assert_eq!(document(rules(), &circle()), Err(UNREADABLE));
    let chain = fragments(|n| n + 1);
    assert_eq!(
        document(rules(), &format!("{{...F0}}{chain} fragment F1300 on A{{b}}")),
        Ok(())
    );
}

#[test]
fn hostile_documents_cost_less_than_the_largest_that_is_allowed() {
    let largest = format!("{{{}}}", "a ".repeat(7_499));
    let work = |text: &str| {
        let body = json!({ "query": text }).to_string();
        least_time(5, |_| drop(post(rules(), &body)))
    };
    let allowed = work(&largest);
    let two_megabytes = format!("{{{}}}", "a ".repeat(1_000_000));
    for hostile in ["{".repeat(100_000), "{a".repeat(100_000), two_megabytes, circle()] {
        let time = work(&hostile);
        // JSON of 2 MB is read as well; ten times is far from the 130 that the length alone would make.
        assert!(
            time < allowed * 10,
            "{time:?} for {}…, {allowed:?} for what is allowed",
            &hostile[..20]
        );
    }
}

#[test]
fn the_cost_of_a_new_document_grows_no_faster_than_its_length() {
    let judge = Judge::new(Rules {
        max_tokens: 1_000_000,
        ..rules()
    });
    let time = |bytes: usize| {
        let texts: Vec<_> = (0..7).map(|salt| of_length(bytes, salt)).collect();
        least_time(texts.len(), |run| {
            assert!(judge.verdict(&texts[run]).unwrap().is_ok());
        })
    };
    let (short, long) = (time(8_000), time(256_000));
    // 32 times the length: twice that leaves room for caches of the machine, and none for a square.
    assert!(long < short * 64, "{short:?} for 8 kB, {long:?} for 256 kB");
}

#[test]
fn a_document_seen_before_is_not_parsed_again() {
    let judge = Judge::new(rules());
    let text = of_length(2_048, 0);
    let first = judge.verdict(&text).unwrap();
    let second = judge.verdict(&text).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

/// `cargo test --release --lib graphql::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "measures; times are those of the machine, and of a release build"]
fn measure() {
    let headers = json_headers();
    let ask = |judge: &Judge, body: &str| {
        let question = Question {
            method: &Method::POST,
            headers: &headers,
            query: None,
            body: body.as_bytes(),
        };
        drop(judge.judge(question).unwrap());
    };
    for bytes in [2_048, 16_384, 65_536] {
        let judge = Judge::new(Rules {
            max_tokens: 1_000_000,
            ..read_only()
        });
        let bodies: Vec<_> = (0..500)
            .map(|salt| json!({ "query": of_length(bytes, salt) }).to_string())
            .collect();
        let new = least_time(bodies.len(), |run| ask(&judge, &bodies[run]));
        let seen = least_time(5_000, |_| ask(&judge, &bodies[0]));
        println!("{bytes} bytes: {new:?} new, {seen:?} seen before");
    }
    for (name, text) in [
        ("100,000 braces", "{".repeat(100_000)),
        ("100,000 nested fields", "{a".repeat(100_000)),
        ("2 MB of fields", format!("{{{}}}", "a ".repeat(1_000_000))),
        ("2 MB of a comment", format!("{{a}}#{}", "x".repeat(2_000_000))),
        (
            "2 MB of a string",
            format!("{{a(b:\"{}\")}}", "\\u0041".repeat(333_000)),
        ),
        ("2 MB of nonsense", "\u{1}".repeat(330_000)),
        ("fragments in a circle", circle()),
    ] {
        let body = json!({ "query": text }).to_string();
        let time = least_time(20, |_| drop(post(rules(), &body)));
        println!("{name}: {time:?}");
    }
}
