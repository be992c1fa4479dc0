//! What became of each mutation, as its caller knows it, held against what Fluent did.
//!
//! 1. Each has a reference of its own, and is sent once.
//! 2. One that was answered well was applied once. One whose answer says that it was not sent was not applied.
//! 3. Of any other its caller knows that nobody knows: it was applied once at most.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fluent_sandbox::Sandbox;

/// What a caller knows of what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was done.
    Done,
    /// It never reached Fluent.
    NotSent,
    /// It may have been done.
    Unknown,
}

/// All mutations.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: AtomicU64,
    entries: Mutex<HashMap<(&'static str, String), Known>>,
}

/// How many mutations there are, by what their callers know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) done: usize,
    pub(crate) not_sent: usize,
    pub(crate) unknown: usize,
    /// Of those, how many were applied.
    pub(crate) applied: usize,
}

impl Ledger {
    /// A reference that no other mutation has; until more is known of it, nothing is.
    pub(crate) fn open(&self, field: &'static str) -> String {
        let reference = format!("M_{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.close(field, &reference, Known::Unknown);
        reference
    }

    /// Notes what its caller knows.
    pub(crate) fn close(&self, field: &'static str, reference: &str, known: Known) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert((field, reference.to_owned()), known);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Holds each mutation against what Fluent did.
    ///
    /// # Errors
    /// All that was lost in silence or done twice.
    pub(crate) fn settle(&self, sandbox: &Sandbox) -> Result<Tally, Vec<String>> {
        let (mut tally, mut wrong) = (Tally::default(), Vec::new());
        let clashes = sandbox.seen().counts().clashes;
        if clashes > 0 {
            wrong.push(format!("{clashes} mutations came twice"));
        }
        for ((field, reference), known) in &*self.entries.lock().unwrap_or_else(PoisonError::into_inner) {
            let applied = sandbox.seen().mutation_count(field, reference);
            let right = match known {
                Known::Done => {
                    tally.done += 1;
                    applied == 1
                }
                Known::NotSent => {
                    tally.not_sent += 1;
                    applied == 0
                }
                Known::Unknown => {
                    tally.unknown += 1;
                    tally.applied += usize::from(applied == 1);
                    applied <= 1
                }
            };
            if !right {
                wrong.push(format!(
                    "{field} {reference}: {known:?}, and applied {applied} times"
                ));
            }
        }
        if wrong.is_empty() { Ok(tally) } else { Err(wrong) }
    }
}
