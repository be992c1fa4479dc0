//! How problems are told: all at once, in order, at their places, without secrets.

use std::ffi::OsString;

use super::Trial;

#[test]
fn nothing_at_all_lacks_five_things() {
    let lacking: Vec<_> = Trial::new()
        .problems()
        .iter()
        .map(|p| p.lines().next().unwrap().to_owned())
        .collect();
    let expected = ["url", "client_id", "client_secret", "username", "password"];
    assert_eq!(lacking, expected.map(|key| format!("fluent.{key} is not set")));
}

#[test]
fn an_instance_without_keys_lacks_five_things_at_its_header() {
    let problems = Trial::needed().file("\n[instances.eu]").problems();
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(
        problems
            .iter()
            .all(|problem| problem.starts_with("proxy.toml:2:12: instances.eu."))
    );
}

#[test]
fn twelve_mistakes_are_twelve_problems_each_with_its_line() {
    let text = r#"[fluent]
pasword = "hunter2"
password = 007
url = "https://acme.example/graphql"
[fluent.token]
timeout = 10
margin = "a minute"
[listen]
address = "0.0.0.0:4280"
paths = ["/oauth/token"]
max_body = "64MB"
[upstream]
http_version = "3"
client_key_file = "/nowhere"
via = "true"
[cache]
store = "redis"
"#;
    let trial = Trial::new()
        .file(text)
        .variable("FLUENT_USERNAME", "u")
        .variable("FLUENT_CLIENT_ID", "i")
        .variable("FLUENT_CLIENT_SECRET", "hunter3");
    let problems = trial.problems();
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| problem.split(':').nth(1).unwrap())
        .collect();
    assert_eq!(
        lines,
        ["2", "3", "4", "6", "7", "9", "10", "11", "13", "14", "15", "17"],
        "{problems:#?}"
    );
    assert!(!problems.concat().contains("hunter"));
}

#[test]
fn problems_come_in_the_order_of_their_places() {
    let trial = Trial::needed()
        .without("FLUENT_CLIENT_ID")
        .file("upstream.via = 1\nlisten.max_body = 1")
        .variable("FLUENT_PROXY__UPSTREAM__QUEUE", "x")
        .variable("FLUENT_ACCOUNT", " ")
        .set("log.format=x");
    let problems = trial.problems();
    let places: Vec<_> = problems
        .iter()
        .map(|problem| problem.split(' ').next().unwrap())
        .collect();
    let expected = [
        "proxy.toml:1:16:",
        "proxy.toml:2:19:",
        "FLUENT_ACCOUNT:",
        "FLUENT_PROXY__UPSTREAM__QUEUE:",
        "--set:",
        "fluent.client_id",
    ];
    assert_eq!(places, expected);
}

#[test]
fn a_value_that_a_later_layer_replaces_is_not_judged() {
    Trial::needed()
        .file("upstream.queue = \"x\"")
        .set("upstream.queue=1")
        .load();
}

#[test]
fn a_file_that_cannot_be_read_is_the_one_problem_though_much_is_missing() {
    let mut trial = Trial::new();
    trial.sources.file = Some(trial.path("nowhere.toml"));
    assert_eq!(
        trial.problem(),
        "the settings file nowhere.toml cannot be read: No such file or directory (os error 2)"
    );
    let mut trial = trial.write("latin1.toml", b"fluent.scope = '\xe4'");
    trial.sources.file = Some(trial.path("latin1.toml"));
    assert_eq!(trial.problem(), "the settings file latin1.toml is not UTF-8");
    trial.sources.file = Some("/dev/zero".into());
    assert_eq!(
        trial.problem(),
        "the settings file /dev/zero cannot be read: it is longer than 4096 KiB"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_a_problem_without_its_value() {
    use std::os::unix::ffi::OsStringExt as _;
    let trial = Trial::needed().without("FLUENT_PASSWORD");
    let trial = trial.variable("FLUENT_PASSWORD", OsString::from_vec(b"hunter\xff".to_vec()));
    assert_eq!(trial.problem(), "FLUENT_PASSWORD: fluent.password is not UTF-8");
}

#[test]
fn lines_end_as_windows_ends_them() {
    let trial = Trial::needed().file("\u{feff}[upstream]\r\nqueue = 7\r\n[log]\r\nlevel = 7\r\n");
    assert!(trial.problem().starts_with("proxy.toml:4:9: log.level "));
}

#[test]
fn columns_count_characters() {
    let trial = Trial::needed().file("fluent.token.extra = { \"ключ\" = \"ä\", b = 1 }");
    assert!(
        trial
            .problem()
            .starts_with("proxy.toml:1:42: fluent.token.extra.b ")
    );
}
