//! Secrets that are planted or given out, and looked for wherever something comes out.

use std::collections::HashSet;
use std::sync::Mutex;

use fluent_sandbox::{Sandbox, Seen};

/// The password of the account of every test.
pub(crate) const PASSWORD: &str = "planted-pässword &=+%zz ";
/// The client secret of the account of every test.
pub(crate) const CLIENT_SECRET: &str = "planted-client-secret/1e5";

/// What marks a planted secret, in any encoding that a log or an answer might use.
const MARKS: [&str; 2] = ["planted-p", "planted-client-secret"];

/// The length of a sandbox's tokens, which consist of base64url characters.
const TOKEN_LENGTH: usize = 27;

static WATCH: Mutex<Watch> = Mutex::new(Watch {
    sandboxes: Vec::new(),
    tokens: None,
});

/// The sandboxes of all tests, and the tokens that they gave out.
struct Watch {
    /// Each with its URL and how many of its tokens are known.
    sandboxes: Vec<(String, Seen, usize)>,
    tokens: Option<HashSet<Vec<u8>>>,
}

/// From now on no token of this sandbox may come out, and its logins are held against the login invariant.
pub(crate) fn watch(sandbox: &Sandbox) {
    let entry = (sandbox.url(), sandbox.seen().clone(), 0);
    WATCH.lock().unwrap().sandboxes.push(entry);
}

/// Fails when `text` holds a secret; `place` says where it came out.
pub(crate) fn assert_clean(text: &[u8], place: &str) {
    let found = WATCH.lock().unwrap().secret_in(text);
    if let Some(secret) = found {
        panic!("{secret} came out in {place}");
    }
}

/// Fails when a sandbox was asked for tokens more often than its lockout bears.
pub(crate) fn assert_logins_are_few() {
    let watch = WATCH.lock().unwrap();
    let broken = watch.sandboxes.iter().find_map(|(url, seen, _)| {
        let violations = seen.login_invariant_violations();
        (!violations.is_empty()).then(|| format!("too many logins at {url}: {violations:?}"))
    });
    drop(watch);
    assert_eq!(broken, None);
}

impl Watch {
    /// The first secret in `text`, as a name for it.
    fn secret_in(&mut self, text: &[u8]) -> Option<&'static str> {
        let tokens = self.tokens.get_or_insert_default();
        for (_, seen, known) in &mut self.sandboxes {
            let news = seen.tokens_since(*known);
            *known += news.len();
            tokens.extend(news.into_iter().map(String::into_bytes));
        }
        let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        for word in text.split(|byte| !is_token_byte(byte)) {
            let mut windows = word.windows(TOKEN_LENGTH);
            if windows.any(|window| tokens.contains(window)) {
                return Some("a token");
            }
            let holds = |mark: &str| word.windows(mark.len()).any(|window| window == mark.as_bytes());
            if word.contains(&b'-') && MARKS.into_iter().any(holds) {
                return Some("a planted secret");
            }
        }
        None
    }
}

mod tests {
    use std::panic::catch_unwind;

    use super::super::start;
    use super::{CLIENT_SECRET, PASSWORD, assert_clean};

    fn is_found(text: &str) -> bool {
        catch_unwind(|| assert_clean(text.as_bytes(), "the proof that it would be found")).is_err()
    }

    #[tokio::test]
    async fn a_token_that_came_out_is_found_wherever_it_stands() {
        let (sandbox, proxy) = start("").await;
        proxy.client().graphql("{ me { id } }").await.assert_good();
        let requests = sandbox.seen().api_requests();
        let token = requests[0].bearer().unwrap();
        for text in [
            token.to_owned(),
            format!("Bearer {token}"),
            format!(r#"{{"message":"\"{token}\""}}"#),
            format!("_{token}-"),
        ] {
            assert!(is_found(&text));
        }
        assert!(!is_found(&token[1..]));
    }

    #[test]
    fn a_planted_secret_that_came_out_is_found_in_any_encoding() {
        let encode = |secret: &str| form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
        for secret in [PASSWORD, CLIENT_SECRET] {
            assert!(is_found(&format!("x{secret}x")));
            assert!(is_found(&encode(secret)));
            assert!(is_found(&format!("{secret:?}")));
        }
        assert!(!is_found("implanted, a client-secret and a password"));
    }
}
