//! Secrets that are planted, and looked for wherever something comes out.

use std::sync::Mutex;

/// The password of the account of every test.
pub(crate) const PASSWORD: &str = "planted-pässword &=+%zz ";
/// The client secret of the account of every test.
pub(crate) const CLIENT_SECRET: &str = "planted-client-secret/1e5";

/// What marks a planted secret, in any encoding that a log or an answer might use.
const MARKS: [&str; 2] = ["planted-p", "planted-client-secret"];

/// Secrets that came to be in the course of a test.
static LEARNED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers a secret, such as a token that the sandbox issued.
pub(crate) fn learn(secret: &str) {
    let mut learned = LEARNED.lock().unwrap();
    if !learned.iter().any(|known| known == secret) {
        learned.push(secret.to_owned());
    }
}

/// Fails when `text` holds a secret; `place` says where it came out.
pub(crate) fn assert_clean(text: &[u8], place: &str) {
    let holds = |secret: &str| {
        text.windows(secret.len())
            .any(|window| window == secret.as_bytes())
    };
    for mark in MARKS {
        assert!(!holds(mark), "a planted secret ({mark}…) came out in {place}");
    }
    for secret in LEARNED.lock().unwrap().iter() {
        assert!(!holds(secret), "a token came out in {place}");
    }
}
