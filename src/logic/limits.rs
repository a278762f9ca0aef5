//! The limits of a token: how much it may be used, and how often.

use crate::error::Result;
use crate::quota::Quota;
use crate::rate::Rate;
use crate::time::Span;

/// The columns as they are, each NULL or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub max_uses: Option<i64>,
    pub refill_amount: Option<i64>,
    pub refill_every: Option<Span>,
    pub rate_limit: Option<i32>,
    pub rate_window: Option<Span>,
}

/// What they mean together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub quota: Option<Quota>,
    pub rate: Option<Rate>,
}

impl Settings {
    pub fn check(&self) -> Result<Limits> {
        Ok(Limits {
            quota: Quota::check(self.max_uses, self.refill_amount, self.refill_every)?,
            rate: Rate::check(self.rate_limit, self.rate_window)?,
        })
    }
}

/// What an answer tells of limits: the least that is left of any, and when to come again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    pub remaining: Option<i64>,
    pub retry_after: Option<Span>,
    /// One of the limits will never let this through.
    is_hopeless: bool,
}

impl Allowance {
    pub fn note_left(&mut self, left: i64) {
        self.remaining = Some(self.remaining.map_or(left, |least| least.min(left)));
    }

    /// Of all limits that refuse, the last to give way counts.
    pub fn note_refusal(&mut self, left: i64, retry_after: Option<Span>) {
        self.note_left(left);
        self.is_hopeless |= retry_after.is_none();
        self.retry_after = self.retry_after.max(retry_after).filter(|_| !self.is_hopeless);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_left_and_the_last_gives_way() {
        let mut allowance = Allowance::default();
        allowance.note_left(9);
        allowance.note_refusal(2, Some(Span(5)));
        allowance.note_refusal(4, Some(Span(3)));
        assert_eq!((allowance.remaining, allowance.retry_after), (Some(2), Some(Span(5))));
        allowance.note_refusal(4, None);
        allowance.note_refusal(4, Some(Span(7)));
        assert_eq!(allowance.retry_after, None);
    }
}
