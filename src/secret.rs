//! Text that must never be shown.
//!
//! 1. A [`Secret`] has no `Display`, no `Serialize` and a `Debug` that says only that it is there.
//! 2. Its memory is wiped when the last holder drops it.
//! 3. [`Secret::expose`] is a disallowed method: each use carries its reason, and that list is the audit.
//!
//! What weakens it: whoever exposes a secret may copy it. Copies made for the wire (a form body, a header)
//! belong to the libraries that send them and are not wiped.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A password, a client secret, a token: shared by reference, wiped at the end.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The text itself, for the one place that sends or digests it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all, which no secret may be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(set)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_only_that_it_is_there() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(set)");
    }
}
