//! Settings whose features this version does not have: any value but the default stops the start.

use super::super::support::{NOWHERE, assert_clean};

const SENTENCE: &str = "has a value that is not supported by this version";

/// Each key, and a value of it as TOML.
const ROWS: &[(&str, &str)] = &[
    ("cache.key_file", "'keys'"),
    ("cache.path", "'folder'"),
    ("cache.prefix", "'another'"),
    ("cache.redis_url", "'redis://localhost'"),
    ("cache.redis_url_file", "'url'"),
    ("cache.store", "'file'"),
];

/// The keys that are refused altogether.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|(key, _)| *key)
}

#[tokio::test]
async fn what_is_not_built_stops_the_start_with_a_sentence() {
    for (key, value) in ROWS {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{key} = {value}\n")).unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_fluent-auth-proxy"));
        command.env_clear().envs(super::environment(NOWHERE));
        command.arg("check").arg("--config").arg(file.path());
        let output = command.kill_on_drop(true).output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_clean(told.as_bytes(), "the problems of settings");
        assert_eq!(output.status.code(), Some(78), "{key}: {told}");
        let sentence = format!("{key} {SENTENCE}");
        assert!(told.contains(&sentence), "{key}: {told}");
    }
}
