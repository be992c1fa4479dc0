//! One test for each bad value, asserting the sentence.

use std::collections::BTreeSet;

use super::Trial;
use crate::settings::key::{Catalogue, Key};
use crate::settings::schema;

/// What refuses a value, for the tests below: where it is given, and what is said.
macro_rules! refused {
    ($($name:ident: $trial:expr => $sentence:expr;)*) => {
        /// All of them.
        const SENTENCES: &[&str] = &[$($sentence),*];

        $(
            #[test]
            fn $name() {
                let trial: Trial = $trial;
                assert_eq!(trial.problem(), $sentence);
            }
        )*
    };
}

/// Keys that are refused in the same words: a value, the sentence after the key, and each key.
const ALIKE: &[(&str, &str, &[&str])] = &[
    (
        "\"0s\"",
        "\"0s\" is out of bounds\n    write a duration from \"1ms\" to \"24h\"",
        &[
            "fluent.token.timeout",
            "listen.body_timeout",
            "listen.header_timeout",
            "listen.idle_timeout",
            "listen.write_timeout",
            "shutdown.deadline",
            "upstream.connect_timeout",
            "upstream.idle_timeout",
            "upstream.max_age",
            "upstream.queue_timeout",
            "upstream.read_timeout",
            "upstream.response_timeout",
        ],
    ),
    (
        "\"0s\"",
        "\"0s\" is out of bounds\n    write a duration from \"1s\" to \"8760h\"",
        &["fluent.token.default_lifetime"],
    ),
    (
        "\"25h\"",
        "\"25h\" is out of bounds\n    write a duration from \"0s\" to \"24h\"",
        &["fluent.token.margin", "shutdown.delay"],
    ),
    (
        "\"1MB\"",
        "\"1MB\" is no size\n    write a whole number and its unit in quotes: \"512B\", \"64KiB\", \"2MiB\", \"1GiB\"; or 0",
        &[
            "graphql.inspect_limit",
            "listen.max_body",
            "upstream.replay_limit",
            "upstream.replay_memory",
        ],
    ),
    (
        "0",
        "is \"0\", which is no number within its bounds\n    write a whole number from 1 to 1000000",
        &[
            "graphql.max_tokens",
            "listen.max_connections",
            "upstream.max_in_flight",
        ],
    ),
    (
        "1000001",
        "is \"1000001\", which is no number within its bounds\n    write a whole number from 0 to 1000000",
        &[
            "graphql.max_aliases",
            "graphql.max_depth",
            "graphql.max_root_fields",
        ],
    ),
    (
        "\"never\"",
        "is \"never\", which is not one of its words\n    write \"allow\" or \"deny\"",
        &["graphql.introspection", "graphql.rest"],
    ),
    (
        "\"yes\"",
        "is text, not a switch\n    write true or false, without quotes",
        &[
            "fluent.danger_allow_http",
            "graphql.inspect",
            "listen.danger_allow_remote",
            "listen.graphiql",
            "upstream.via",
        ],
    ),
];

#[test]
fn keys_of_a_kind_are_refused_in_the_same_words() {
    for (value, sentence, keys) in ALIKE {
        for key in *keys {
            let trial = file(&format!("{key} = {value}"));
            let column = key.len() + 4;
            assert_eq!(
                trial.problem(),
                format!("proxy.toml:1:{column}: {key} {sentence}")
            );
        }
    }
}

#[test]
fn every_key_has_a_value_that_is_refused_here() {
    // "PLACE: KEY has …"
    let subject = |sentence: &&str| sentence.split(": ").nth(1)?.split(' ').next().map(Key::dotted);
    let told = SENTENCES.iter().filter_map(subject).map(|key| key.general());
    let alike = ALIKE.iter().flat_map(|(_, _, keys)| keys.iter().copied());
    let told: BTreeSet<_> = told.chain(alike.map(str::to_owned)).collect();
    let catalogue = Catalogue::of(&schema::shape());
    let keys = catalogue.leaves().iter().map(Key::general);
    let lacking: BTreeSet<_> = keys.filter(|key| !told.contains(key)).collect();
    assert!(lacking.is_empty(), "no sentence for {lacking:#?}");
}

fn file(text: &str) -> Trial {
    let trial = Trial::needed()
        .write("empty", "")
        .write("line-end", "\n")
        .write("latin1", b"p\xe4ss");
    trial.file(text)
}

/// A file that gives the password.
fn password(text: &str) -> Trial {
    file(text).without("FLUENT_PASSWORD")
}

fn variable(name: &str, value: &str) -> Trial {
    Trial::needed().variable(name, value)
}

fn url(url: &str) -> Trial {
    Trial::needed().without("FLUENT_URL").variable("FLUENT_URL", url)
}

fn set(assignment: &str) -> Trial {
    Trial::needed().set(assignment)
}

refused! {
    a_switch_in_quotes: file(r#"upstream.via = "true""#) =>
        "proxy.toml:1:16: upstream.via is text, not a switch
    write true or false, without quotes";
    a_switch_by_another_word: variable("FLUENT_PROXY__UPSTREAM__VIA", "yes") =>
        r#"FLUENT_PROXY__UPSTREAM__VIA: upstream.via is "yes", which is no switch
    write true or false, without quotes"#;
    a_number_in_quotes: file(r#"upstream.queue = "5""#) =>
        "proxy.toml:1:18: upstream.queue is text, not a number
    write a whole number from 0 to 1000000, without quotes";
    a_number_out_of_bounds: file("listen.max_connections = 0") =>
        r#"proxy.toml:1:26: listen.max_connections is "0", which is no number within its bounds
    write a whole number from 1 to 1000000"#;
    a_negative_number: file("upstream.queue = -1") =>
        r#"proxy.toml:1:18: upstream.queue is "-1", which is no number within its bounds
    write a whole number from 0 to 1000000"#;
    a_number_that_is_none: variable("FLUENT_PROXY__UPSTREAM__QUEUE", "1e3") =>
        r#"FLUENT_PROXY__UPSTREAM__QUEUE: upstream.queue is "1e3", which is no number within its bounds
    write a whole number from 0 to 1000000"#;
    more_workers_than_make_sense: set("runtime.workers=5000") =>
        r#"--set: runtime.workers is "5000", which is no number within its bounds
    write a whole number from 1 to 1024"#;
    a_duration_without_unit: file("listen.idle_timeout = 75") =>
        r#"proxy.toml:1:23: listen.idle_timeout "75" is no duration
    write a whole number and its unit in quotes: "250ms", "30s", "16m", "1h""#;
    a_duration_of_an_unknown_unit: file(r#"listen.idle_timeout = "75 sec""#) =>
        r#"proxy.toml:1:23: listen.idle_timeout "75 sec" is no duration
    write a whole number and its unit in quotes: "250ms", "30s", "16m", "1h""#;
    a_duration_of_nothing: file(r#"upstream.queue_timeout = "0s""#) =>
        r#"proxy.toml:1:26: upstream.queue_timeout "0s" is out of bounds
    write a duration from "1ms" to "24h""#;
    a_duration_that_overflows: file(r#"upstream.queue_timeout = "99999999999999999999h""#) =>
        r#"proxy.toml:1:26: upstream.queue_timeout "99999999999999999999h" is no duration
    write a whole number and its unit in quotes: "250ms", "30s", "16m", "1h""#;
    a_cool_down_that_locks_accounts: file(r#"fluent.token.cool_down = "10ms""#) =>
        r#"proxy.toml:1:26: fluent.token.cool_down "10ms" is out of bounds
    write a duration from "1s" to "24h""#;
    a_size_without_unit: file("listen.max_body = 1024") =>
        r#"proxy.toml:1:19: listen.max_body "1024" is no size
    write a whole number and its unit in quotes: "512B", "64KiB", "2MiB", "1GiB"; or 0"#;
    a_size_of_an_unknown_unit: file(r#"listen.max_body = "64MB""#) =>
        r#"proxy.toml:1:19: listen.max_body "64MB" is no size
    write a whole number and its unit in quotes: "512B", "64KiB", "2MiB", "1GiB"; or 0"#;
    a_word_nobody_knows: file(r#"upstream.http_version = "3""#) =>
        r#"proxy.toml:1:25: upstream.http_version is "3", which is not one of its words
    write "1.1" or "2" or "auto""#;
    a_grant_nobody_knows: variable("FLUENT_GRANT_TYPE", "implicit") =>
        r#"FLUENT_GRANT_TYPE: fluent.grant_type is "implicit", which is not one of its words
    write "password" or "client_credentials""#;
    a_text_that_is_a_number: file("fluent.scope = 7") =>
        "proxy.toml:1:16: fluent.scope is a number, not text
    put the value in quotes, so that it stays as it is";
    a_secret_that_is_a_number: password("fluent.password = 7") =>
        "proxy.toml:1:19: fluent.password is a number, not text
    put the value in quotes, so that it stays as it is";
    a_secret_that_is_no_toml: password("fluent.password = 007") =>
        "proxy.toml:1:19: fluent.password is not written as TOML has it: unexpected leading zero
    put text in quotes, so that it stays as it is";
    a_secret_without_quotes: password("fluent.password = hunter2") =>
        "proxy.toml:1:19: fluent.password is not written as TOML has it: string values must be quoted
    put text in quotes, so that it stays as it is";
    a_secret_whose_quotes_do_not_end: password(r#"fluent.password = "hunter2"#) =>
        "proxy.toml:1:27: fluent.password is not written as TOML has it: invalid basic string
    put text in quotes, so that it stays as it is";
    a_secret_in_a_list: password(r#"fluent.password = ["hunter2"]"#) =>
        "proxy.toml:1:19: fluent.password is a list, not text
    put the value in quotes, so that it stays as it is";
    an_empty_secret: password(r#"fluent.password = """#) =>
        "proxy.toml:1:19: fluent.password is empty";
    a_secret_on_the_command_line: set("fluent.password=hunter2") =>
        "--set: fluent.password is a secret, and command lines can be read by others
    give it by a file or a variable";
    a_header_on_the_command_line: set("listen.required_header=x-key: hunter2") =>
        "--set: listen.required_header is a secret, and command lines can be read by others
    give it by a file or a variable";
    a_set_without_value: set("hunter2") =>
        "--set: has no '='
    write --set section.key=value";
    a_set_of_an_unknown_key: set("listen.max_bodies=1KiB") =>
        "--set: listen.max_bodies is unknown; the nearest known one is listen.max_body";
    a_set_of_a_table: set("fluent.token=x") =>
        "--set: fluent.token is a table
    set one of the keys in it";
    a_set_of_an_ill_named_instance: set("instances.EU.scope=x") =>
        "--set: instances.EU is not a name: a name has 1 to 63 of the characters a-z, 0-9 and '-', and does not start with '-'";
    an_unknown_key: file(r#"fluent.pasword = "hunter2""#) =>
        "proxy.toml:1:8: fluent.pasword is unknown; the nearest known one is fluent.password";
    an_unknown_key_of_another_section: file(r#"listen.connect_timeout = "1s""#) =>
        "proxy.toml:1:8: listen.connect_timeout is unknown; the nearest known one is upstream.connect_timeout";
    an_unknown_table: file("upstraem = { via = true, queue = 1 }") =>
        "proxy.toml:1:1: upstraem is unknown; the nearest known one is upstream";
    an_unknown_variable: variable("FLUENT_PROXY__LISTEN__ADRESS", "hunter2") =>
        "FLUENT_PROXY__LISTEN__ADRESS: is not a variable that stands for a setting; the nearest known one is FLUENT_PROXY__LISTEN__ADDRESS";
    a_variable_of_an_unknown_section: variable("FLUENT_PROXY__LSTEN__ADDRESS", "x") =>
        "FLUENT_PROXY__LSTEN__ADDRESS: is not a variable that stands for a setting; the nearest known one is FLUENT_PROXY__LISTEN__ADDRESS";
    a_variable_in_lower_case: variable("FLUENT_PROXY__listen__address", "x") =>
        "FLUENT_PROXY__listen__address: is not a variable that stands for a setting; the nearest known one is FLUENT_PROXY__LISTEN__ADDRESS";
    a_variable_below_a_value: variable("FLUENT_PROXY__LISTEN__ADDRESS__PORT", "x") =>
        "FLUENT_PROXY__LISTEN__ADDRESS__PORT: is not a variable that stands for a setting; the nearest known one is FLUENT_PROXY__LISTEN__ADDRESS";
    a_variable_for_a_table: variable("FLUENT_PROXY__FLUENT__TOKEN", "x") =>
        "FLUENT_PROXY__FLUENT__TOKEN: fluent.token is a table
    set one of the keys in it";
    a_variable_for_an_ill_named_user: variable("FLUENT_PROXY__FLUENT__USERS__Ä__USERNAME", "x") =>
        "FLUENT_PROXY__FLUENT__USERS__Ä__USERNAME: is not a name: a name has 1 to 63 of the characters a-z, 0-9 and '-', and does not start with '-'";
    a_variable_for_the_default_instance: variable("FLUENT_PROXY__INSTANCES__DEFAULT__URL", "https://x") =>
        r#"FLUENT_PROXY__INSTANCES__DEFAULT__URL: cannot be named "default"
    "default" is what stands in [fluent] itself: choose another name"#;
    two_variables_for_one_key: variable("FLUENT_PROXY__FLUENT__URL", "https://other.example") =>
        "FLUENT_URL: fluent.url is given by FLUENT_PROXY__FLUENT__URL as well
    keep one of the two";
    a_secret_and_its_file_in_one_layer: file(r#"fluent = { users.ops.username = "u", users.ops.password = "hunter2", users.ops.password_file = "/x" }"#) =>
        "proxy.toml:1:96: fluent.users.ops.password_file is given together with fluent.users.ops.password (proxy.toml:1:59)
    keep one of the two: they are one setting";
    a_secret_and_its_file_in_variables: variable("FLUENT_PASSWORD_FILE", "/x") =>
        "FLUENT_PASSWORD_FILE: fluent.password_file is given together with fluent.password (FLUENT_PASSWORD)
    keep one of the two: they are one setting";
    a_table_that_is_a_value: file(r#"listen = "localhost:1""#) =>
        "proxy.toml:1:1: listen is a table, not a value
    write [listen] and its keys below";
    a_value_that_is_a_table: file("listen.address = { port = 1 }") =>
        "proxy.toml:1:8: listen.address is a value, not a table";
    a_secret_that_is_a_table: password("fluent.password = { hunter2 = 1 }") =>
        "proxy.toml:1:8: fluent.password is a value, not a table";
    a_list_of_tables: file("[[instances]]") =>
        "proxy.toml:1:3: instances is a table, not a value
    write [instances] and its keys below";
    an_ill_named_instance: file("[instances.eu_prod]") =>
        "proxy.toml:1:12: instances.eu_prod is not a name: a name has 1 to 63 of the characters a-z, 0-9 and '-', and does not start with '-'";
    an_instance_named_default: file(r#"instances.default.url = "https://x""#) =>
        r#"proxy.toml:1:11: instances.default cannot be named "default"
    "default" is what stands in [fluent] itself: choose another name"#;
    a_user_named_default: file(r#"fluent.users.default = { username = "u", password = "p" }"#) =>
        r#"proxy.toml:1:14: fluent.users.default cannot be named "default"
    "default" is what stands in [fluent] itself: choose another name"#;
    a_key_twice: file("upstream.queue = 1\nupstream.queue = 2") =>
        "proxy.toml:2:10: is not TOML: duplicate key";
    a_missing_secret_file: password(r#"fluent.password_file = "{}/nowhere""#) =>
        "proxy.toml:1:24: fluent.password_file names a file that cannot be read: nowhere: No such file or directory (os error 2)";
    an_empty_secret_file: password(r#"fluent.password_file = "{}/empty""#) =>
        "proxy.toml:1:24: fluent.password_file names a file that is empty: empty";
    a_secret_file_of_a_line_end: password(r#"fluent.password_file = "{}/line-end""#) =>
        "proxy.toml:1:24: fluent.password_file names a file that is empty: line-end";
    a_secret_file_that_is_not_utf8: password(r#"fluent.password_file = "{}/latin1""#) =>
        "proxy.toml:1:24: fluent.password_file names a file that is not UTF-8: latin1";
    a_secret_file_without_end: password(r#"fluent.password_file = "/dev/zero""#) =>
        "proxy.toml:1:24: fluent.password_file names a file that cannot be read: /dev/zero: it is longer than 64 KiB";
    a_url_with_graphql: url("https://acme.example/graphql") =>
        r#"FLUENT_URL: fluent.url ends in /graphql, which the proxy adds itself
    write "https://acme.example""#;
    a_url_with_graphql_and_a_slash: url("https://acme.example/base/graphql/") =>
        r#"FLUENT_URL: fluent.url ends in /graphql, which the proxy adds itself
    write "https://acme.example/base""#;
    a_url_that_is_none: url("acme.example") =>
        r#"FLUENT_URL: fluent.url is no URL: relative URL without a base
    write a whole URL, such as "https://ACCOUNT.api.fluentretail.com""#;
    a_url_of_another_scheme: url("ftp://acme.example") =>
        r#"FLUENT_URL: fluent.url is not a URL of https
    write a whole URL, such as "https://ACCOUNT.api.fluentretail.com""#;
    a_url_with_credentials: url("https://u:hunter2@acme.example") =>
        "FLUENT_URL: fluent.url holds a username or password before an '@'
    give the credentials by the settings username and password";
    a_url_with_a_query: url("https://acme.example/?key=hunter2") =>
        "FLUENT_URL: fluent.url has a query or a fragment
    leave off everything from the '?' or '#'";
    a_url_with_a_fragment: url("https://acme.example/#x") =>
        "FLUENT_URL: fluent.url has a query or a fragment
    leave off everything from the '?' or '#'";
    a_url_with_spaces: url("https://acme.example ") =>
        r#"FLUENT_URL: fluent.url holds characters that no URL has
    write a whole URL, such as "https://ACCOUNT.api.fluentretail.com""#;
    a_url_with_double_slashes: url("https://acme.example//base") =>
        "FLUENT_URL: fluent.url has a double slash in its path
    write one slash in its place";
    cleartext_to_another_machine: url("http://acme.example") =>
        "FLUENT_URL: fluent.url is http:// to another machine, where everybody on the way can read passwords and tokens
    write https://, or set danger_allow_http = true";
    cleartext_to_a_name_like_localhost: url("http://localhost.evil.example") =>
        "FLUENT_URL: fluent.url is http:// to another machine, where everybody on the way can read passwords and tokens
    write https://, or set danger_allow_http = true";
    cleartext_to_the_token_endpoint: file(r#"fluent.token.path = "http://login.example/token""#) =>
        "proxy.toml:1:21: fluent.token.path is http:// to another machine, where everybody on the way can read passwords and tokens
    write https://, or set danger_allow_http = true";
    a_token_path_without_slash: file(r#"fluent.token.path = "oauth/token""#) =>
        r#"proxy.toml:1:21: fluent.token.path is neither a path nor a whole URL
    write a path that begins with '/', such as "/oauth/token""#;
    a_token_path_that_climbs: file(r#"fluent.token.path = "/a/../token""#) =>
        r#"proxy.toml:1:21: fluent.token.path "/a/../token" is not in its normal form
    write a plain path: '/' first, no empty, '.' or '..' segments, no escapes"#;
    a_token_url_with_credentials: file(r#"fluent.token.path = "https://u:hunter2@login.example/token""#) =>
        "proxy.toml:1:21: fluent.token.path holds a username or password before an '@'
    give the credentials by the settings username and password";
    an_extra_that_overrides_the_grant: file(r#"fluent.token.extra.password = "hunter3""#) =>
        "proxy.toml:1:31: fluent.token.extra.password would override a parameter of the grant itself
    use the setting of its own that this parameter has";
    a_token_key_with_a_gap: file(r#"fluent.token_key = "data..token""#) =>
        r#"proxy.toml:1:20: fluent.token_key has an empty field name
    write a name such as "accessToken", or a dotted path such as "data.token""#;
    an_account_no_header_carries: file(r#"fluent.account = "a b""#) =>
        "proxy.toml:1:18: fluent.account is no value that a header may carry
    write the account's id: printable ASCII, no spaces";
    a_missing_file_of_a_username: file(r#"fluent.username_file = "{}/nowhere""#).without("FLUENT_USERNAME") =>
        "proxy.toml:1:24: fluent.username_file names a file that cannot be read: nowhere: No such file or directory (os error 2)";
    an_empty_file_of_a_client_id: file(r#"fluent.client_id_file = "{}/empty""#).without("FLUENT_CLIENT_ID") =>
        "proxy.toml:1:25: fluent.client_id_file names a file that is empty: empty";
    a_file_of_a_client_secret_that_is_not_utf8: file(r#"fluent.client_secret_file = "{}/latin1""#).without("FLUENT_CLIENT_SECRET") =>
        "proxy.toml:1:29: fluent.client_secret_file names a file that is not UTF-8: latin1";
    an_empty_client_secret: file(r#"fluent.client_secret = """#).without("FLUENT_CLIENT_SECRET") =>
        "proxy.toml:1:24: fluent.client_secret is empty";
    an_empty_username_of_fluent: file(r#"fluent.username = """#).without("FLUENT_USERNAME") =>
        "proxy.toml:1:19: fluent.username is empty";
    a_missing_file_of_a_users_name: file(r#"fluent.users.ops = { username_file = "{}/nowhere", password = "p" }"#) =>
        "proxy.toml:1:38: fluent.users.ops.username_file names a file that cannot be read: nowhere: No such file or directory (os error 2)";
    a_log_that_nobody_reads: file(r#"log.format = "xml""#) =>
        r#"proxy.toml:1:14: log.format is "xml", which is not one of its words
    write "auto" or "text" or "json""#;
    an_access_log_of_another_word: file(r#"log.access = "some""#) =>
        r#"proxy.toml:1:14: log.access is "some", which is not one of its words
    write "errors" or "all" or "none""#;
    an_empty_username: file(r#"fluent.users.ops = { username = "", password = "p" }"#) =>
        "proxy.toml:1:33: fluent.users.ops.username is empty";
    a_user_without_password: file(r#"fluent.users.ops = { username = "u" }"#) =>
        "proxy.toml:1:14: fluent.users.ops.password is not set
    set password, or password_file with the path of a file";
    an_empty_client_id: file(r#"instances.eu = { url = "https://x.example", client_id = "", client_secret = "s", username = "u", password = "p" }"#) =>
        "proxy.toml:1:57: instances.eu.client_id is empty";
    a_value_that_is_missing: file("upstream.queue =") =>
        "proxy.toml:1:17: upstream.queue is not written as TOML has it: string values must be quoted
    put text in quotes, so that it stays as it is";
    a_table_that_is_not_closed: file("[listen") =>
        "proxy.toml:1:8: is not TOML: unclosed table";
    something_that_is_no_toml: file("listen") =>
        "proxy.toml:1:7: is not TOML: key with no value";
    a_doubled_password: password("fluent.password = 'hunter2'\nfluent.password = 'hunter3'") =>
        "proxy.toml:2:8: is not TOML: duplicate key";
    a_user_that_is_a_value: file("fluent.users.ops = 'hunter2'") =>
        "proxy.toml:1:14: fluent.users.ops is a table, not a value
    write [fluent.users.ops] and its keys below";
    a_ratio_of_twice: file("telemetry.sample_ratio = 2.0") =>
        r#"proxy.toml:1:26: telemetry.sample_ratio is "2.0", which is no share
    write a number from 0.0 to 1.0, without quotes"#;
    a_remote_listener: file(r#"listen.address = ["localhost:4280", "0.0.0.0:80"]"#) =>
        "proxy.toml:1:18: listen.address has 0.0.0.0:80, which other machines can reach, and whoever reaches the proxy acts with its credentials
    listen on localhost, or set danger_allow_remote = true";
    an_address_without_port: file(r#"listen.address = "127.0.0.1""#) =>
        r#"proxy.toml:1:18: listen.address "127.0.0.1" is no address
    write "localhost:4280", "127.0.0.1:4280" or "[::1]:4280""#;
    an_address_that_is_a_name: file(r#"listen.address = "proxy.example:80""#) =>
        r#"proxy.toml:1:18: listen.address "proxy.example:80" is no address
    write "localhost:4280", "127.0.0.1:4280" or "[::1]:4280""#;
    no_address: file("listen.address = []") =>
        "proxy.toml:1:18: listen.address names no address";
    an_address_without_quotes: file("listen.address = 4280") =>
        "proxy.toml:1:18: listen.address is a number, not text
    put the value in quotes, so that it stays as it is";
    an_admin_listener_on_the_proxys_place: file(r#"admin.address = "127.0.0.1:4280""#) =>
        "proxy.toml:1:17: admin.address is where the proxy itself listens
    give it a port of its own";
    an_upstream_that_is_the_proxy_itself: url("http://localhost:4280") =>
        "FLUENT_URL: fluent.url is where the proxy itself listens, so that every request would come back
    write the URL of the account at Fluent";
    an_instance_that_is_the_proxy_itself: file("listen.address = '127.0.0.2:80'
[instances.eu]
client_id = 'i'\nclient_secret = 's'\nusername = 'u'\npassword = 'p'
url = 'http://127.0.0.2'") =>
        "proxy.toml:7:7: instances.eu.url is where the proxy itself listens, so that every request would come back
    write the URL of the account at Fluent";
    an_admin_listener_on_a_socket: file(r#"admin.address = "unix:/x""#) =>
        r#"proxy.toml:1:17: admin.address "unix:/x" is no address
    write "localhost:4280", "127.0.0.1:4280" or "[::1]:4280""#;
    a_host_with_port: file(r#"listen.allowed_hosts = ["proxy.example:80"]"#) =>
        r#"proxy.toml:1:24: listen.allowed_hosts "proxy.example:80" is not the name of a host
    write the name alone, without scheme, port or '*', such as "proxy.example""#;
    a_host_with_wildcard: file(r#"listen.allowed_hosts = "*.example""#) =>
        r#"proxy.toml:1:24: listen.allowed_hosts "*.example" is not the name of a host
    write the name alone, without scheme, port or '*', such as "proxy.example""#;
    an_origin_with_path: file(r#"listen.allowed_origins = "https://app.example/x""#) =>
        r#"proxy.toml:1:26: listen.allowed_origins "https://app.example/x" is no origin
    write "https://app.example""#;
    an_origin_with_its_own_port: file(r#"listen.allowed_origins = "https://App.example:443""#) =>
        r#"proxy.toml:1:26: listen.allowed_origins "https://App.example:443" is no origin
    write "https://app.example""#;
    an_origin_for_all: file(r#"listen.allowed_origins = "*""#) =>
        r#"proxy.toml:1:26: listen.allowed_origins is no origin
    write scheme, host and a port that is not the scheme's own, such as "https://app.example""#;
    an_origin_that_is_null: file(r#"listen.allowed_origins = "null""#) =>
        r#"proxy.toml:1:26: listen.allowed_origins "null" is no origin
    write scheme, host and a port that is not the scheme's own, such as "https://app.example""#;
    a_header_without_colon: file(r#"listen.required_header = "hunter2""#) =>
        r#"proxy.toml:1:26: listen.required_header has no ':' between name and value
    write "name: value", with a name of your own such as x-proxy-key"#;
    a_header_without_value: file(r#"listen.required_header = "x-key:""#) =>
        "proxy.toml:1:26: listen.required_header has no value that a header may carry
    write printable ASCII after the name and the ':'";
    a_header_of_an_illegal_name: file(r#"listen.required_header = "x key: hunter2""#) =>
        r#"proxy.toml:1:26: listen.required_header does not begin with a legal name of a header
    write "name: value", with a name of your own such as x-proxy-key"#;
    a_header_that_has_a_meaning: file(r#"listen.required_header = "Authorization: hunter2""#) =>
        r#"proxy.toml:1:26: listen.required_header names authorization, which has a meaning of its own
    write "name: value", with a name of your own such as x-proxy-key"#;
    no_path: file("listen.paths = []") =>
        r#"proxy.toml:1:16: listen.paths names no path
    write at least "/graphql""#;
    a_path_without_slash: file(r#"listen.paths = ["graphql"]"#) =>
        r#"proxy.toml:1:16: listen.paths "graphql" does not begin with '/'
    write a plain path: '/' first, no empty, '.' or '..' segments, no escapes"#;
    a_path_that_climbs: file(r#"listen.paths = ["/api/../x"]"#) =>
        r#"proxy.toml:1:16: listen.paths "/api/../x" is not in its normal form
    write a plain path: '/' first, no empty, '.' or '..' segments, no escapes"#;
    a_path_with_double_slashes: file(r#"listen.paths = ["/api//x"]"#) =>
        r#"proxy.toml:1:16: listen.paths "/api//x" is not in its normal form
    write a plain path: '/' first, no empty, '.' or '..' segments, no escapes"#;
    a_path_with_escapes: file(r#"listen.paths = ["/oauth%2Ftoken"]"#) =>
        r#"proxy.toml:1:16: listen.paths "/oauth%2Ftoken" holds a character that a path of the proxy cannot have
    write a plain path: '/' first, no empty, '.' or '..' segments, no escapes"#;
    a_path_with_a_star_within: file(r#"listen.paths = ["/api/*/x"]"#) =>
        r#"proxy.toml:1:16: listen.paths "/api/*/x" holds a character that a path of the proxy cannot have
    write a plain path: '/' first, no empty, '.' or '..' segments, no escapes"#;
    a_path_to_the_token_endpoint: file(r#"listen.paths = ["/oauth/token"]"#) =>
        r#"proxy.toml:1:16: listen.paths "/oauth/token" is the token endpoint, which is never forwarded
    leave it out: the proxy asks for tokens itself"#;
    a_path_below_the_token_endpoint: file(r#"listen.paths = ["/OAuth/token/*"]"#) =>
        r#"proxy.toml:1:16: listen.paths "/OAuth/token/*" is the token endpoint, which is never forwarded
    leave it out: the proxy asks for tokens itself"#;
    a_path_to_the_instances: file(r#"listen.paths = ["/instances/eu/graphql"]"#) =>
        r#"proxy.toml:1:16: listen.paths "/instances/eu/graphql" is where the proxy keeps its instances
    leave it out: every path is also served below /instances/NAME"#;
    a_certificate_without_key: file(r#"upstream.client_cert_file = "{}/line-end""#) =>
        "proxy.toml:1:29: upstream.client_cert_file stands without upstream.client_key_file
    set both or none";
    a_key_without_certificate: file(r#"upstream.client_key_file = "{}/line-end""#) =>
        "proxy.toml:1:28: upstream.client_key_file stands without upstream.client_cert_file
    set both or none";
    a_missing_authority: file(r#"upstream.ca_file = "{}/nowhere""#) =>
        "proxy.toml:1:20: upstream.ca_file names a file that cannot be read: nowhere: No such file or directory (os error 2)";
    an_authority_without_end: file(r#"upstream.ca_file = "/dev/zero""#) =>
        "proxy.toml:1:20: upstream.ca_file names a file that cannot be read: /dev/zero: it is longer than 4096 KiB";
    a_certificate_without_end: file(r#"upstream = { client_cert_file = "/dev/zero", client_key_file = "{}/line-end" }"#) =>
        "proxy.toml:1:33: upstream.client_cert_file names a file that cannot be read: /dev/zero: it is longer than 4096 KiB";
    a_key_without_end: file(r#"upstream = { client_cert_file = "{}/line-end", client_key_file = "/dev/zero" }"#) =>
        "proxy.toml:1:79: upstream.client_key_file names a file that cannot be read: /dev/zero: it is longer than 4096 KiB";
    a_level_nobody_knows: file(r#"log.level = "inof""#) =>
        r#"proxy.toml:1:13: log.level "inof" is no level of the log
    write "error", "warn", "info", "debug" or "trace", or directives such as "info,fluent_auth_proxy::token=debug""#;
    a_level_for_a_target_nobody_knows: file(r#"log.level = "info,hyper=loud""#) =>
        r#"proxy.toml:1:13: log.level "info,hyper=loud" is no level of the log
    write "error", "warn", "info", "debug" or "trace", or directives such as "info,fluent_auth_proxy::token=debug""#;
    an_admin_address_that_is_empty: file(r#"admin.address = """#) =>
        "proxy.toml:1:17: admin.address is empty";
    a_delay_as_long_as_the_deadline: file(r#"shutdown.delay = "25s""#) =>
        "proxy.toml:1:18: shutdown.delay leaves no time to drain before shutdown.deadline
    make shutdown.delay shorter than shutdown.deadline, which includes it";
    a_user_of_client_credentials: file(r#"instances.eu = { url = "https://x.example", client_id = "i", client_secret = "s", grant_type = "client_credentials", users.ops = { username = "u", password = "p" } }"#) =>
        r#"proxy.toml:1:124: instances.eu.users.ops has no use with the grant "client_credentials"
    leave it out, or write grant_type = "password""#;
    a_password_of_client_credentials: file(r#"instances.eu = { url = "https://x.example", client_id = "i", client_secret = "s", grant_type = "client_credentials", password = "p" }"#) =>
        r#"proxy.toml:1:129: instances.eu.password has no use with the grant "client_credentials"
    leave it out, or write grant_type = "password""#;
    a_store_of_no_kind: file(r#"cache.store = "disk""#) =>
        r#"proxy.toml:1:15: cache.store is "disk", which is not one of its words
    write "memory" or "file" or "redis""#;
    a_store_without_a_server: file(r#"cache.store = "redis""#) =>
        "proxy.toml:1:15: cache.store needs a server
    name it in cache.redis_url, or in the file that cache.redis_url_file names";
    a_store_without_a_folder: file(r#"cache.store = "file""#) =>
        "proxy.toml:1:15: cache.store needs a folder
    name it in cache.path";
    a_redis_url_that_nothing_reads: variable("FLUENT_PROXY__CACHE__REDIS_URL", "redis://:hunter2@x") =>
        r#"FLUENT_PROXY__CACHE__REDIS_URL: cache.redis_url is read with cache.store = "redis" only
    leave it out, or choose that store"#;
    a_redis_url_that_is_none: file("cache = { store = \"redis\", redis_url = \"http://:hunter2@x\" }") =>
        "proxy.toml:1:40: cache.redis_url holds no URL of a Redis server
    write redis://, rediss:// for TLS, or redis+unix://, and where it is";
    a_redis_url_of_a_file_that_is_none: file("cache = { store = \"redis\", redis_url_file = '{}/latin1' }") =>
        "proxy.toml:1:45: cache.redis_url_file names a file that is not UTF-8: latin1";
    a_folder_that_nothing_reads: file("cache.path = 'folder'") =>
        r#"proxy.toml:1:14: cache.path is read with cache.store = "file" only
    leave it out, or choose that store"#;
    a_prefix_with_braces: file("cache = { store = 'file', path = 'folder', prefix = 'a{b}' }") =>
        r#"proxy.toml:1:53: cache.prefix is "a{b}", which cannot begin a name
    write at most 128 letters, digits, '.', '_', ':' and '-'"#;
    a_file_of_keys_without_end: file("cache = { store = 'file', path = 'folder', key_file = '/dev/zero' }") =>
        "proxy.toml:1:55: cache.key_file names a file that cannot be read: /dev/zero: it is longer than 64 KiB
    write keys of 32 bytes in base64, one a line, such as `openssl rand -base64 32` makes";
    a_file_of_keys_that_holds_none: file("cache = { store = 'file', path = 'folder', key_file = '{}/line-end' }") =>
        "proxy.toml:1:55: cache.key_file names a file that is empty: line-end
    write keys of 32 bytes in base64, one a line, such as `openssl rand -base64 32` makes";
    mutations_of_no_field: file("graphql.mutations = []") =>
        r#"proxy.toml:1:21: graphql.mutations names no field
    write "allow", "deny", or a list of fields, such as ["createOrder"]"#;
    mutations_by_another_word: file(r#"graphql.mutations = "read-only""#) =>
        r#"proxy.toml:1:21: graphql.mutations "read-only" is no field of a mutation
    write "allow", "deny", or a list of fields, such as ["createOrder"]"#;
    mutations_both_denied_and_listed: variable("FLUENT_PROXY__GRAPHQL__MUTATIONS", "createOrder,deny") =>
        r#"FLUENT_PROXY__GRAPHQL__MUTATIONS: graphql.mutations "deny" is no field of a mutation
    write "allow", "deny", or a list of fields, such as ["createOrder"]"#;
    mutations_of_a_number: file("graphql.mutations = 7") =>
        "proxy.toml:1:21: graphql.mutations is a number, not text
    put the value in quotes, so that it stays as it is";
    trust_without_a_manifest: file("graphql.trusted_only = true") =>
        "proxy.toml:1:24: graphql.trusted_only stands without graphql.trusted_documents, so that every request is refused
    name the manifest of the documents that may be sent";
    no_room_for_one_body: file("graphql.inspect_memory = '1MiB'") =>
        "proxy.toml:1:26: graphql.inspect_memory has no room for one body as long as graphql.inspect_limit lets it be
    make it larger, or graphql.inspect_limit smaller";
    a_manifest_that_is_not_there: file(r#"graphql.trusted_documents = "{}/nowhere""#) =>
        "proxy.toml:1:29: graphql.trusted_documents names a file that cannot be read: nowhere: No such file or directory (os error 2)";
    a_manifest_that_is_not_utf8: file(r#"graphql.trusted_documents = "{}/latin1""#) =>
        "proxy.toml:1:29: graphql.trusted_documents names a file that is not UTF-8: latin1";
    a_manifest_without_end: file(r#"graphql.trusted_documents = "/dev/zero""#) =>
        "proxy.toml:1:29: graphql.trusted_documents names a file that cannot be read: /dev/zero: it is longer than 65536 KiB";
    a_manifest_that_is_none: file(r#"graphql.trusted_documents = "{}/empty""#) =>
        "proxy.toml:1:29: graphql.trusted_documents names a file that is neither a map of hash to document nor an apollo-persisted-query-manifest of version 1";
    a_manifest_of_what_is_no_graphql: file(r#"graphql.trusted_documents = "{}/documents""#).write("documents", r#"{"a1":"{"}"#) =>
        r#"proxy.toml:1:29: graphql.trusted_documents names a file that has a document that is no GraphQL, under the hash "a1""#;
    a_socket_without_a_path: file(r#"listen.address = "unix:""#) =>
        r#"proxy.toml:1:18: listen.address names no path after "unix:""#;
    uids_without_a_socket: file("listen.allowed_uids = [1]") =>
        "proxy.toml:1:23: listen.allowed_uids does nothing here, as listen.address names no Unix socket
    listen on \"unix:PATH\", as nobody can tell who calls over TCP";
    no_uids: file("listen.address = 'unix:/run/x'\nlisten.allowed_uids = []") =>
        "proxy.toml:2:23: listen.allowed_uids names nobody
    leave it out to let in all that the socket's mode lets in";
    a_proxy_upstream: file(r#"upstream.proxy = "socks5://u:hunter2@proxy.example""#) =>
        r#"proxy.toml:1:18: upstream.proxy is not a URL of https
    write the URL of an HTTP proxy, such as "http://proxy.example:3128"; a SOCKS proxy cannot be used"#;
    a_refresh_at_no_known_time: file(r#"instances.eu = { url = "https://x.example", client_id = "i", client_secret = "s", username = "u", password = "p", token.refresh = "now" }"#) =>
        r#"proxy.toml:1:131: instances.eu.token.refresh is "now", which is not one of its words
    write "late" or "early""#;
    a_profile: file(r#"fluent.profile = "../sandbox""#) =>
        "proxy.toml:1:18: fluent.profile is not the name of a profile
    write the name of a folder in ~/.fluentcommerce, such as \"sandbox\"";
    a_service_that_is_a_number: file("telemetry.service_name = 7") =>
        "proxy.toml:1:26: telemetry.service_name is a number, not text
    put the value in quotes, so that it stays as it is";
    traces_to_no_url: file(r#"telemetry.otlp_endpoint = "localhost:4318""#) =>
        r#"proxy.toml:1:27: telemetry.otlp_endpoint is not a URL of https
    write the root of a collector, such as "http://localhost:4318""#;
    traces_to_their_path: file(r#"telemetry.otlp_endpoint = "http://localhost:4318/v1/traces""#) =>
        r#"proxy.toml:1:27: telemetry.otlp_endpoint ends in /v1/traces, which the proxy adds itself
    write "http://localhost:4318""#;
    traces_with_a_password: file(r#"telemetry.otlp_endpoint = "http://u:hunter2@localhost:4318""#) =>
        "proxy.toml:1:27: telemetry.otlp_endpoint holds a username or password before an '@'
    give what the collector asks for by the variable OTEL_EXPORTER_OTLP_HEADERS";
}
