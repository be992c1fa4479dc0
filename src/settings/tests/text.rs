//! Text stays text, whatever it looks like and wherever it comes from.

use proptest::prelude::{Strategy, prop_oneof};

use super::{Settings, Trial, password};

/// Texts that meaner readers would change.
const ODD: [&str; 9] = [
    "007",
    "1e5",
    "true",
    "0x10",
    "p&ss=w+rd %zz",
    "ключ ",
    "a,b",
    " \"quoted\" ",
    "2024-01-01",
];

#[test]
fn text_stays_text_from_a_variable() {
    for odd in ODD {
        let settings = Trial::needed()
            .without("FLUENT_PASSWORD")
            .variable("FLUENT_PASSWORD", odd)
            .settings();
        assert_eq!(password(&settings, "default", "default").1, odd);
        let settings = Trial::needed()
            .without("FLUENT_USERNAME")
            .variable("FLUENT_PROXY__FLUENT__USERNAME", odd)
            .variable("FLUENT_PROXY__FLUENT__TOKEN__EXTRA__AUDIENCE", odd)
            .settings();
        assert_eq!(password(&settings, "default", "default").0, odd);
        assert_eq!(
            settings.instances["default"].users["default"].extra,
            [("audience".into(), odd.into())]
        );
    }
}

#[test]
fn text_stays_text_from_toml() {
    for odd in ODD {
        let text =
            format!("fluent.password = '''{odd}'''\nfluent.token.extra = {{ \"my key\" = '''{odd}''' }}");
        let settings = Trial::needed().without("FLUENT_PASSWORD").file(&text).settings();
        assert_eq!(password(&settings, "default", "default").1, odd);
        assert_eq!(
            settings.instances["default"].users["default"].extra,
            [("my key".into(), odd.into())]
        );
    }
}

#[test]
fn text_stays_text_from_a_secrets_file() {
    for odd in ODD.into_iter().chain(["two\nlines", "\n", "tab\t", "cr\r"]) {
        for (end, kept) in [
            ("", ""),
            ("\n", ""),
            ("\r\n", ""),
            ("\n\n", "\n"),
            ("\r\n\r\n", "\r\n"),
        ] {
            if end.is_empty() && odd.ends_with('\n') || end == "\n" && odd.ends_with('\r') {
                continue;
            }
            let trial = Trial::needed()
                .without("FLUENT_PASSWORD")
                .write("password", format!("{odd}{end}"))
                .file("fluent.password_file = '{}/password'");
            assert_eq!(
                password(&trial.settings(), "default", "default").1,
                format!("{odd}{kept}")
            );
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_text_arrives_unchanged_and_is_never_shown(text in "[^\\x00]{8,40}") {
        let variable = Trial::needed().without("FLUENT_PASSWORD").variable("FLUENT_PASSWORD", text.as_str());
        let toml = format!("fluent.password = {}", toml_string(&text));
        let file = Trial::needed().without("FLUENT_PASSWORD").file(&toml);
        for trial in [variable, file] {
            let loaded = trial.load();
            let arrived = password(&loaded.settings, "default", "default").1;
            proptest::prop_assert_eq!(arrived, text.as_str());
            proptest::prop_assert!(!loaded.provenance.to_string().contains(&text));
        }
    }

    #[test]
    fn no_secret_is_shown_whatever_follows_it(lines in proptest::collection::vec(odd_line(), 0..6)) {
        let secrets = "[fluent]\npassword = 'hunter2'\nclient_secret = 'hunter3'\n";
        let trial = Trial::needed()
            .without("FLUENT_PASSWORD")
            .without("FLUENT_CLIENT_SECRET")
            .variable("FLUENT_PROXY__UPSTREAM__PROXY", "http://p:hunter4@localhost:1")
            .file(&format!("{secrets}{}", lines.join("\n")));
        let shown = match Settings::load(&trial.sources) {
            Ok(loaded) => format!("{} {loaded:?}", loaded.provenance),
            Err(problems) => format!("{problems} {problems:?}"),
        };
        proptest::prop_assert!(!shown.contains("hunter"), "{}", shown);
    }
}

/// A line of a settings file, or what its writer took for one.
fn odd_line() -> impl Strategy<Value = String> {
    let key =
        r"(url|password|client_secret|pasword|token\.extra\.a|users\.ops\.password|address|paths|proxy)";
    let value = r#"('x'|"\\u00e9"|'''|"""|7|007|true|\[\]|\['/a', 1\]|\{ a = 'b' \}|2024-01-01|[ -~]{0,12})"#;
    let table = r"\[(fluent|fluent\.token|instances\.eu|listen|upstream|cache|\[log\]|nowhere|'q')\]";
    prop_oneof![
        4 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        2 => table,
        1 => "[^/]{0,20}",
    ]
}

/// A basic string of TOML, every character that is not a letter or digit escaped.
fn toml_string(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_string()
            } else {
                format!("\\U{:08x}", u32::from(c))
            }
        })
        .collect();
    format!("\"{escaped}\"")
}
