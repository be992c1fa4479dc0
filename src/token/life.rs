//! The moments of a token's life.

use std::time::Duration;

use crate::clock::Moment;
use crate::token::grant::Policy;

/// The unit in which servers tell lifetimes, and the shortest life that is believed.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The part of the margin over which processes that hold the same token spread their renewals.
const SPREAD: f64 = 0.1;

/// The moments of a token's life.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "a moment is named by what happens at it"
)]
pub(crate) struct Life {
    /// When it was asked for.
    pub(crate) issued_at: Moment,
    pub(crate) renew_at: Moment,
    /// The earliest moment at which the server may have it dead, or the latest where the same token came
    /// again.
    pub(crate) expires_at: Moment,
    /// When the server surely has it dead, if it told the truth.
    pub(crate) gone_at: Moment,
}

impl Life {
    /// The life that is `told`, or that the policy has where nothing is, of a token that was asked for at `issued_at`
    /// and came at `now`; `before` is the life it had when it came the time before, if it did.
    pub(crate) fn of_answer(
        told: Option<Duration>,
        (issued_at, now): (Moment, Moment),
        (policy, spread): (&Policy, f64),
        before: Option<Self>,
    ) -> Self {
        let told = policy.lifetime(told);
        let gone_at = now + Duration::from_secs(told.as_secs()) + SECOND;
        if before.is_some_and(|before| issued_at + told <= before.gone_at) {
            return Self::to_its_end(issued_at, gone_at);
        }
        let expires_at = issued_at + told.max(SECOND);
        Self::new((issued_at, expires_at, gone_at), policy.margin, spread)
    }

    /// A life that is renewed a margin before its end, and up to `spread` of the tenth part of that later.
    pub(crate) fn new(
        (issued_at, expires_at, gone_at): (Moment, Moment, Moment),
        margin: Duration,
        spread: f64,
    ) -> Self {
        let margin = margin.min(expires_at.since(issued_at) / 5);
        Self {
            issued_at,
            renew_at: expires_at - margin.mul_f64(1.0 - SPREAD * spread),
            expires_at,
            gone_at,
        }
    }

    /// A life that is lived to its end.
    pub(crate) fn to_its_end(issued_at: Moment, gone_at: Moment) -> Self {
        Self {
            issued_at,
            renew_at: gone_at,
            expires_at: gone_at,
            gone_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn processes_spread_their_renewals_over_the_first_tenth_of_the_margin() {
        let issued_at = Clock::system().now();
        let expires_at = issued_at + Duration::from_hours(1);
        for (spread, before) in [(0.0, 60), (0.5, 57), (1.0, 54)] {
            let life = Life::new((issued_at, expires_at, expires_at), 60 * SECOND, spread);
            assert_eq!(expires_at.since(life.renew_at), before * SECOND);
        }
    }
}
