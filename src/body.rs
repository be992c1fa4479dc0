//! Bodies on their way through: the tape that a replay is read from.

/// What tapes may hold.
#[derive(Clone, Copy, Debug)]
pub struct TapeLimits {
    /// Bytes of one request; a longer body streams on without a tape.
    pub request: usize,
    /// Bytes of all tapes together; used up, requests stream without a tape.
    pub total: usize,
}
