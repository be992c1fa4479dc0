//! Memory that many bodies share, and that is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory of all bodies of a kind; clones count together.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Account>);

#[derive(Debug)]
struct Account {
    total: usize,
    used: AtomicUsize,
}

impl Memory {
    /// So many bytes, of which nothing is taken yet.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self(Arc::new(Account {
            total,
            used: AtomicUsize::new(0),
        }))
    }

    /// Bytes that are allocated now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be allocated at once.
    pub(super) fn total(&self) -> usize {
        self.0.total
    }

    /// A share of nothing yet.
    pub(super) fn share(&self) -> Share {
        Share {
            memory: self.clone(),
            bytes: 0,
        }
    }
}

/// What one body has taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    bytes: usize,
}

impl Share {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes as many bytes more as are `wanted`, or else as are `needed`, and says how many; none where there are not
    /// even these.
    pub(super) fn take(&mut self, wanted: usize, needed: usize) -> Option<usize> {
        let account = &self.memory.0;
        let taken = [wanted, needed].into_iter().find(|bytes| {
            let within = |used: usize| used.checked_add(*bytes).filter(|sum| *sum <= account.total);
            let update = account
                .used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
            update.is_ok()
        })?;
        self.bytes += taken;
        Some(taken)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
