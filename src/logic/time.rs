//! Points and lengths of time, in Postgres' own unit.

const MICROS_PER_DAY: i128 = 24 * 60 * 60 * 1_000_000;
const MICROS_PER_HOUR: i64 = 60 * 60 * 1_000_000;
const DAYS_PER_MONTH: i128 = 30;

/// Microseconds since 2000-01-01 00:00 UTC. `i64::MAX` is Postgres' `infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// 2000-01-01 as seconds of the Unix epoch.
pub const POSTGRES_EPOCH_UNIX_SECONDS: i64 = 946_684_800;

impl Timestamp {
    /// The smallest finite `timestamptz`, 4714-11-24 BC.
    pub const MIN: Self = Self(-211_813_488_000_000_000);
    pub const UNIX_EPOCH: Self = Self(-POSTGRES_EPOCH_UNIX_SECONDS * 1_000_000);
    const NEGATIVE_INFINITY: i64 = i64::MIN;
    const INFINITY: i64 = i64::MAX;

    pub fn is_finite(self) -> bool {
        self.0 != Self::INFINITY && self.0 != Self::NEGATIVE_INFINITY
    }

    /// Saturates: a sum past the end of time is `infinity`, which no clock reaches.
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Saturates at the smallest finite timestamp.
    pub fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0)).max(Self::MIN)
    }

    /// The beginning of the hour that it lies in, in UTC.
    pub fn hour(self) -> Self {
        if !self.is_finite() {
            return self;
        }
        Self(self.0.saturating_sub(self.0.rem_euclid(MICROS_PER_HOUR)))
    }

    /// How long ago `earlier` was; negative if it lies ahead.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub i64);

impl Span {
    pub const ZERO: Self = Self(0);

    /// A Postgres `interval` as one length, with the rule Postgres itself compares intervals by:
    /// a month is 30 days, a day is 24 hours. So neither the time zone nor the calendar decides
    /// whether a token is alive.
    pub fn from_interval(months: i32, days: i32, micros: i64) -> Self {
        let days = i128::from(months) * DAYS_PER_MONTH + i128::from(days);
        let total = days * MICROS_PER_DAY + i128::from(micros);
        Self(total.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    pub const fn from_seconds(seconds: i32) -> Self {
        Self(seconds as i64 * 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_measured_as_postgres_compares_it() {
        assert_eq!(Span::from_interval(1, 0, 0), Span::from_interval(0, 30, 0));
        assert_eq!(Span::from_interval(0, 1, 0), Span(86_400_000_000));
        assert_eq!(Span::from_interval(0, 1, -86_400_000_000), Span::ZERO);
    }

    #[test]
    fn an_hour_begins_before_what_lies_in_it() {
        let hour = Span::from_seconds(3600).0;
        for (at, begins) in [(0, 0), (hour - 1, 0), (hour, hour), (-1, -hour), (-hour, -hour)] {
            assert_eq!(Timestamp(at).hour(), Timestamp(begins));
        }
        for never in [i64::MIN, i64::MAX] {
            assert_eq!(Timestamp(never).hour(), Timestamp(never));
        }
        assert_eq!(Timestamp(i64::MIN + 1).hour(), Timestamp(i64::MIN));
    }

    #[test]
    fn extremes_saturate() {
        assert_eq!(Span::from_interval(i32::MAX, i32::MAX, i64::MAX), Span(i64::MAX));
        assert_eq!(Timestamp(i64::MAX - 1).plus(Span(5)), Timestamp(i64::MAX));
        assert_eq!(Timestamp(0).minus(Span(i64::MAX)), Timestamp::MIN);
        assert!(!Timestamp(0).plus(Span(i64::MAX)).is_finite());
    }
}
