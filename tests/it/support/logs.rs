//! The log of this process, all of it, kept to be searched.

use std::io;
use std::sync::{Mutex, Once};

use tracing_subscriber::filter::LevelFilter;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static START: Once = Once::new();

/// Starts to keep what is logged, at the level `trace`: what is not written there is written nowhere.
pub(crate) fn capture() {
    START.call_once(|| {
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(LevelFilter::TRACE)
            .with_writer(|| Keep)
            .init();
    });
}

/// The log so far.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned()
}

/// Fails when the log holds a secret.
pub(crate) fn assert_clean() {
    super::assert_clean(&LOG.lock().unwrap(), "the log");
}

struct Keep;

impl io::Write for Keep {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
