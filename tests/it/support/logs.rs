//! The log of this process, all of it, kept to be searched.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::filter::LevelFilter;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// How much of the log has been searched.
static SEARCHED: Mutex<usize> = Mutex::new(0);
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

/// Fails when the log holds a secret. What was searched is not searched again: a token that was given out later
/// cannot stand there.
pub(crate) fn assert_clean() {
    let mut searched = SEARCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let news = LOG.lock().unwrap()[*searched..].to_vec();
    super::assert_clean(&news, "the log");
    *searched += news.len();
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
