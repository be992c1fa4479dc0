//! The settings, before any file. Its first lines hold secrets, and so does the environment.
//!
//! 1. No secret is in what is shown: neither of problems nor of settings that stand.
//! 2. What was loaded is loaded again to the same.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use fluent_auth_proxy::settings::{Settings, Sources};
use libfuzzer_sys::fuzz_target;

const SECRETS: &str = "hunter";
const FIRST: &str = "[fluent]
url = 'https://acme.api.fluentretail.com'
username = 'ann'
password = 'hunter2'
client_id = 'ACME'
client_secret = 'hunter3'
";

/// A folder of its own, in memory where there is such a place.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    folder.expect("a folder")
});

fuzz_target!(|text: &str| {
    // A setting may name any file of this machine, and these have no end or say something else each time.
    if text.contains(SECRETS) || text.contains("/dev") || text.contains("/proc") {
        return;
    }
    let file = FOLDER.path().join("proxy.toml");
    std::fs::write(&file, [FIRST, text].concat()).expect("a file");
    let sources = Sources {
        file: Some(file),
        environment: vec![(
            "FLUENT_PROXY__UPSTREAM__PROXY".into(),
            "http://p:hunter4@localhost:1".into(),
        )],
        set: Vec::new(),
    };
    let shown = match Settings::load(&sources) {
        Ok(loaded) => {
            let again = Settings::load(&sources).expect("the same settings");
            assert_eq!(loaded.provenance, again.provenance);
            format!("{} {loaded:?}", loaded.provenance)
        }
        Err(problems) => format!("{problems} {problems:?}"),
    };
    assert!(!shown.contains(SECRETS), "a secret is in {shown}");
});
