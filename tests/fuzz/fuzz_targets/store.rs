//! The values of a store, before any bytes.
//!
//! 1. Bytes that were not sealed here are nothing, wherever they stand, and so is what was sealed for another place.
//! 2. Whatever is sealed: what is believed of it has not ended, and was not written in the future.
//! 3. Neither tokens nor keys are shown.

#![no_main]

use std::sync::LazyLock;

use fluent_auth_proxy::secret::Secret;
use fluent_auth_proxy::token::grant::{Grant, Login};
use fluent_auth_proxy::token::store::StoreTime;
use fluent_auth_proxy::token::store::names::Names;
use fluent_auth_proxy::token::store::record::reading;
use fluent_auth_proxy::token::store::seal::{KeyRing, Seal};
use libfuzzer_sys::fuzz_target;
use url::Url;

const NOW: StoreTime = StoreTime(1_000_000);

static PLACE: LazyLock<(Names, Seal)> = LazyLock::new(|| {
    let login = Login {
        endpoint: Url::parse("https://fluent.example/oauth/token").expect("a URL"),
        grant: Grant::Password {
            username: "ann".to_owned(),
            password: Secret::new("pw".to_owned()),
        },
        client_id: "ACME".to_owned(),
        client_secret: Secret::new("secret".to_owned()),
        scope: String::new(),
        extra: Vec::new(),
        token_key: vec!["access_token".to_owned()],
        account: None,
    };
    (Names::of("p", &login), Seal::of(&login, None))
});

fuzz_target!(|bytes: &[u8]| {
    let (names, seal) = &*PLACE;
    let read =
        |entry: Option<Vec<u8>>, refusal: Option<Vec<u8>>| reading(NOW, (names, seal), (entry, refusal), []);
    let nothing = read(Some(bytes.to_vec()), Some(bytes.to_vec()));
    assert!(nothing.entry.is_none() && nothing.refusal.is_none());

    let entry = seal.seal(&names.entry, bytes).expect("random bytes");
    let refusal = seal.seal(&names.refusal, bytes).expect("random bytes");
    let elsewhere = read(Some(refusal.clone()), Some(entry.clone()));
    assert!(elsewhere.entry.is_none() && elsewhere.refusal.is_none());

    let believed = read(Some(entry), Some(refusal));
    if let Some(entry) = &believed.entry {
        let lives = entry.expires_at > NOW;
        assert!(lives || entry.refresh_token.is_some(), "{entry:?}");
        assert!(entry.issued_at <= NOW || !lives, "{entry:?}");
        let shown = format!("{entry:?}");
        assert!(
            shown.starts_with("Entry { token: Secret(set), refresh_token: "),
            "{shown}"
        );
        assert!(!shown.contains('"'), "{shown}");
    }
    if let Some((_, until)) = &believed.refusal {
        assert!(*until > NOW);
    }

    if let Ok(text) = std::str::from_utf8(bytes) {
        let shown = match KeyRing::parse(&Secret::new(text.to_owned())) {
            Ok(keys) => format!("{keys:?}"),
            Err(bad) => bad.to_string(),
        };
        let digits = |c: char| c.is_ascii_digit();
        let shown = shown.replace(digits, "");
        assert!(
            ["KeyRing( keys)", "holds no key", "is not  bytes in base in line "].contains(&shown.as_str())
        );
    }
});
