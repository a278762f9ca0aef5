//! A rate limit: so many calls per window, by the generic cell rate algorithm (GCRA, ITU-T I.371).
//!
//! The algorithm is kept in its other form, as a leaking bucket: a level that each call raises by its
//! cost, that runs out evenly over the window, and that must not pass the limit. It decides the same;
//! and the level, a number of calls, still means something when the limit is changed, which the
//! "theoretical arrival time" does not. All is whole numbers, so nothing is rounded: the unit of the
//! level is a call divided by the microseconds of the window.

use crate::error::{Error, Result};
use crate::time::Span;

/// 366 days: what is longer is a quota.
pub const MAX_WINDOW: Span = Span(366 * 24 * 60 * 60 * 1_000_000);

/// `calls` in any `window`, all of them at once if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    calls: i128,
    window: i128,
}

impl Rate {
    /// The two settings as they were given; both NULL is no limit.
    pub fn check(rate_limit: Option<i32>, rate_window: Option<Span>) -> Result<Option<Self>> {
        match (rate_limit, rate_window) {
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(Error::Incomplete { argument: "rate_limit", needs: "rate_window" })
            }
            (None, Some(_)) => {
                Err(Error::Incomplete { argument: "rate_window", needs: "rate_limit" })
            }
            (Some(calls), _) if calls <= 0 => Err(Error::NotPositive { argument: "rate_limit" }),
            (_, Some(window)) if window <= Span::ZERO => {
                Err(Error::NotPositive { argument: "rate_window" })
            }
            (_, Some(window)) if window > MAX_WINDOW => {
                let expected = "at most 366 days";
                Err(Error::Malformed { argument: "rate_window", expected })
            }
            (Some(calls), Some(window)) => {
                Ok(Some(Self { calls: calls.into(), window: window.0.into() }))
            }
        }
    }

    fn most(&self) -> i128 {
        self.calls * self.window
    }
}

/// How much has been called lately, and when that was so, in microseconds of a clock that never
/// steps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// In calls divided by the window of `rate`.
    level: i128,
    /// By which it runs out: that of the last call.
    rate: Rate,
    at: i64,
}

/// Whether a call is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// So many more would be, right now.
    Yes { left: i64 },
    /// Not before; never, if one call costs more than the limit.
    No { left: i64, retry_after: Option<Span> },
}

impl Level {
    pub const EMPTY: Self = Self { level: 0, rate: Rate { calls: 1, window: 1 }, at: 0 };

    /// As it is now, running out by `rate` from now on; until now it did by the rate that it had.
    pub fn settled(self, rate: &Rate, now: i64) -> Self {
        let passed = i128::from(now.saturating_sub(self.at).max(0));
        let left = (self.level - passed * self.rate.calls).max(0);
        let level = if self.rate == *rate {
            left
        } else {
            // Up, so that a change of the window gives nothing away; but under a lowered limit nobody
            // waits longer than if all of that were used up.
            let scaled = left * rate.window;
            let window = self.rate.window;
            (scaled.div_euclid(window) + i128::from(scaled % window > 0)).min(rate.most())
        };
        Self { level, rate: *rate, at: now.max(self.at) }
    }

    pub fn runs_out_by(&self, rate: &Rate) -> bool {
        self.rate == *rate
    }

    /// When all of it has run out, so that nobody need remember it.
    pub fn ends_at(self) -> i64 {
        let calls = self.rate.calls;
        let micros = self.level.div_euclid(calls) + i128::from(self.level % calls > 0);
        self.at.saturating_add(saturated(micros))
    }

    /// Would a call be let through? It is not counted.
    pub fn look(self, rate: &Rate, cost: i32, now: i64) -> Passed {
        let level = self.settled(rate, now);
        let price = i128::from(cost) * rate.window;
        let after = level.level + price;
        let left = |level: i128| ((rate.most() - level).max(0) / rate.window) as i64;
        if cost > 0 && after > rate.most() {
            let excess = after - rate.most();
            let micros = excess.div_euclid(rate.calls) + i128::from(excess % rate.calls > 0);
            let retry_after = (price <= rate.most()).then_some(Span(saturated(micros)));
            return Passed::No { left: left(level.level), retry_after };
        }
        Passed::Yes { left: left(after) }
    }

    /// Lets a call through and counts it, or does neither. A cost of 0 asks.
    pub fn charge(&mut self, rate: &Rate, cost: i32, now: i64) -> Passed {
        let passed = self.look(rate, cost, now);
        *self = self.settled(rate, now);
        if matches!(passed, Passed::Yes { .. }) {
            self.level += i128::from(cost) * rate.window;
        }
        passed
    }

    /// Takes back a call that was counted and then refused for something else.
    pub fn refund(&mut self, rate: &Rate, cost: i32, now: i64) {
        let level = self.settled(rate, now);
        let price = i128::from(cost) * rate.window;
        *self = Self { level: (level.level - price).max(0), ..level };
    }

    /// As words for shared memory, and back. A level is below 2^96, so that the calls of the rate find
    /// their place above it.
    pub fn to_words(self) -> [u64; 4] {
        let Rate { calls, window } = self.rate;
        let level = (self.level | calls << 96).cast_unsigned();
        [level as u64, (level >> 64) as u64, window as u64, self.at.cast_unsigned()]
    }

    pub fn of_words([low, high, window, at]: [u64; 4]) -> Self {
        let level = (u128::from(high as u32) << 64 | u128::from(low)).cast_signed();
        let rate = Rate { calls: i128::from(high >> 32).max(1), window: i128::from(window).max(1) };
        Self { level, rate, at: at.cast_signed() }
    }
}

fn saturated(micros: i128) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(calls: i32, micros: i64) -> Rate {
        Rate::check(Some(calls), Some(Span(micros))).expect("good").expect("given")
    }

    #[test]
    fn a_burst_then_one_at_a_time() {
        let rate = rate(3, 300);
        let mut level = Level::EMPTY;
        for left in [2, 1, 0] {
            assert_eq!(level.charge(&rate, 1, 1000), Passed::Yes { left });
        }
        let refused = |micros| Passed::No { left: 0, retry_after: Some(Span(micros)) };
        assert_eq!(level.charge(&rate, 1, 1000), refused(100));
        assert_eq!(level.charge(&rate, 1, 1099), refused(1));
        assert_eq!(level.charge(&rate, 1, 1100), Passed::Yes { left: 0 });
        assert_eq!(level.charge(&rate, 2, 1100), refused(200));
        assert_eq!(level.charge(&rate, 4, 1100), Passed::No { left: 0, retry_after: None });
        assert_eq!(level.charge(&rate, 0, 1100), Passed::Yes { left: 0 }, "asking is free");
        assert_eq!(level.ends_at(), 1400);
        assert_eq!(level.charge(&rate, 1, 500), refused(100), "time does not step back");
    }

    #[test]
    fn a_new_limit_keeps_what_was_called() {
        let mut level = Level::EMPTY;
        level.charge(&rate(1, 3_600), 1, 0);
        assert_eq!(level.charge(&rate(1000, 3_600), 1, 0), Passed::Yes { left: 998 });
        assert_eq!(level.charge(&rate(1000, 7_200), 0, 0), Passed::Yes { left: 998 });
        assert_eq!(
            level.charge(&rate(2, 10), 1, 0),
            Passed::No { left: 0, retry_after: Some(Span(5)) }
        );
    }

    #[test]
    fn what_has_run_out_does_not_come_back_with_a_lower_limit() {
        let (fast, slow) = (rate(1000, 1_000_000), rate(10, 3_600_000_000));
        let mut level = Level::EMPTY;
        level.charge(&fast, 1000, 0);
        assert_eq!(level.look(&slow, 1, 1_000_000), Passed::Yes { left: 9 });
        assert_eq!(level.look(&slow, 1, 996_000), Passed::Yes { left: 5 }, "four are left of them");
        let share = Span(360_000_000);
        let used_up = Passed::No { left: 0, retry_after: Some(share) };
        assert_eq!(level.look(&slow, 1, 0), used_up, "no longer than if all of it were used up");
        let (mut level, mut slowly) = (level.settled(&slow, 0), level.settled(&slow, 0));
        assert_eq!(level.charge(&slow, 1, share.0), Passed::Yes { left: 0 });
        // And a raised one is not as if it had been so before.
        assert_eq!(slowly.charge(&fast, 0, share.0), Passed::Yes { left: 991 });
    }

    #[test]
    fn extremes_fit() {
        let mut level = Level::EMPTY;
        let most = rate(i32::MAX, MAX_WINDOW.0);
        level.charge(&most, i32::MAX, i64::MAX / 2);
        assert_eq!(Level::of_words(level.to_words()), level);
        assert_eq!(level.ends_at(), i64::MAX / 2 + MAX_WINDOW.0);
        let refused = level.charge(&rate(1, MAX_WINDOW.0), 1, i64::MAX / 2);
        assert_eq!(refused, Passed::No { left: 0, retry_after: Some(MAX_WINDOW) });
        let refused = level.charge(&rate(i32::MAX, 1), i32::MAX, i64::MAX / 2);
        assert_eq!(
            refused,
            Passed::No { left: i64::from(i32::MAX) - 1, retry_after: Some(Span(1)) }
        );
    }

    #[test]
    fn settings_belong_together() {
        assert_eq!(Rate::check(None, None), Ok(None));
        for (calls, window) in [
            (Some(1), None),
            (None, Some(Span(1))),
            (Some(0), Some(Span(1))),
            (Some(1), Some(Span(0))),
        ] {
            assert!(Rate::check(calls, window).is_err());
        }
        assert!(Rate::check(Some(1), Some(MAX_WINDOW)).is_ok());
        assert!(Rate::check(Some(1), Some(Span(MAX_WINDOW.0 + 1))).is_err());
    }

    proptest! {
        /// In no window do more calls pass than the limit and what runs out meanwhile; and whoever
        /// waits as long as told is let through, a microsecond earlier is not.
        #[test]
        fn never_more_than_the_limit(
            calls in 1_i32..1_000_000, window in 1_i64..10_000_000_000,
            steps in prop::collection::vec((0_i64..100_000, 0_i32..5), 1..100),
        ) {
            let rate = rate(calls, window);
            let mut level = Level::EMPTY;
            let (mut now, mut passed) = (1_000_000, 0_i128);
            for (wait, cost) in steps {
                now += wait;
                match level.charge(&rate, cost, now) {
                    Passed::Yes { .. } => passed += i128::from(cost),
                    Passed::No { retry_after, .. } => if let Some(wait) = retry_after {
                        let mut early = level;
                        let refused = matches!(early.charge(&rate, cost, now + wait.0 - 1), Passed::No { .. });
                        let mut in_time = level;
                        let accepted = matches!(in_time.charge(&rate, cost, now + wait.0), Passed::Yes { .. });
                        prop_assert!(refused && accepted);
                    },
                }
                let elapsed = i128::from(now - 1_000_000);
                let most = i128::from(calls) + elapsed * i128::from(calls) / i128::from(window);
                prop_assert!(passed <= most, "{passed} > {most}");
                prop_assert_eq!(Level::of_words(level.to_words()), level);
            }
        }

        #[test]
        fn a_refund_is_as_if_nothing_was(cost in 1_i32..5, before in 0_i32..5) {
            let rate = rate(10, 1000);
            let mut level = Level::EMPTY;
            level.charge(&rate, before, 50);
            let was = level;
            level.charge(&rate, cost, 50);
            level.refund(&rate, cost, 50);
            prop_assert_eq!(level.settled(&rate, 50).level, was.settled(&rate, 50).level);
        }
    }
}
