//! What a store told, beside the time here.

use std::time::Duration;

use super::{Entry, Reading, StoreTime};
use crate::clock::Moment;
use crate::secret::Secret;
use crate::token::life::Life;

/// What a store told, and when.
pub(crate) struct Seen {
    pub(crate) reading: Reading,
    /// The moment here that was the reading's time there.
    pub(crate) at: Moment,
}

impl Seen {
    /// The moment here that a time of the store is.
    pub(crate) fn here(&self, time: StoreTime) -> Moment {
        let ahead = Duration::from_millis(time.0.saturating_sub(self.reading.now.0));
        let ago = Duration::from_millis(self.reading.now.0.saturating_sub(time.0));
        self.at + ahead - ago
    }

    fn there(&self, moment: Moment) -> StoreTime {
        // Rounded up: a token that is asked for a moment too early comes once more.
        let millis = |time: Duration| u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let (ahead, ago) = (millis(moment.since(self.at)), millis(self.at.since(moment)));
        StoreTime(self.reading.now.0.saturating_add(ahead).saturating_sub(ago))
    }

    pub(crate) fn refresh_token(&self) -> Option<&Secret> {
        self.reading.entry.as_ref()?.refresh_token.as_ref()
    }

    /// What other processes are told of tokens that came.
    pub(crate) fn entry(&self, token: Secret, refresh_token: Option<Secret>, life: &Life) -> Entry {
        Entry {
            token,
            refresh_token,
            issued_at: self.there(life.issued_at),
            expires_at: self.there(life.expires_at),
            gone_at: self.there(life.gone_at),
        }
    }
}
