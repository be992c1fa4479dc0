//! A connection of HTTP/1.1 (RFC 9112), for one exchange after the other.
//!
//! An exchange runs within the future of its own request: no task stands between the two legs, and nothing is handed
//! from one to the other. That is what this is for: by hyper's client, a request took a quarter more instructions.
//! hyper speaks HTTP/2, and tests hold what is made of answers here against what it makes of them.
//!
//! 1. A connection has one owner: the pool, an exchange, or the body of an answer. Dropped, it is closed.
//! 2. The answer is read while the request is sent. Where it comes first, a task sends the rest and reads on, so that
//!    neither waits for the other; it is none of the pool's until both have ended.
//! 3. A connection serves again if both ended where they said, nothing came after, and upstream did not say `close`.
//! 4. An answer is waited for as long as `response_timeout` says, anew after each part of the request that upstream took;
//!    while the caller makes it wait, upstream is not waited for.
//! 5. An answer has begun with its first byte, be it of an interim one: what dies before that is unanswered, and
//!    nothing else is.
//! 6. A connection that stands unused for a while holds no buffer.

mod decode;
mod encode;
mod exchange;
mod failure;
mod one;
mod ones;

pub(super) use self::exchange::AnswerBody;
pub(super) use self::failure::{Failure, Unfinished};
pub(super) use self::one::One;
pub(super) use self::ones::{Lifetimes, Ones};

#[cfg(test)]
pub(super) mod tests;
