//! Is a token alive? The part of a verdict that does not depend on the request.

use crate::time::{Span, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Revoked, whatever the clock says: a clock that steps back, or a standby whose clock is
    /// behind, must not bring it back to life.
    Final,
    /// Rotated away with a grace period that ends at this time.
    GraceUntil(Timestamp),
}

impl Revocation {
    /// As the two columns of a row say it.
    pub fn of(revoked_at: Option<Timestamp>, in_grace: bool) -> Option<Self> {
        revoked_at.map(|at| if in_grace { Self::GraceUntil(at) } else { Self::Final })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub enabled: bool,
    pub revocation: Option<Revocation>,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Timestamp,
    pub max_idle: Option<Span>,
}

/// What a token is now; the order is the order of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Active,
    Revoked,
    Disabled,
    Expired,
    IdleTimeout,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::IdleTimeout => "idle_timeout",
        }
    }
}

/// Without preloading, a use of a token with `max_idle` is written at least this many times
/// within it, so the recorded idleness is at most a twentieth too long.
const TOUCHES_PER_MAX_IDLE: i64 = 20;

impl Lifetime {
    /// Bounds: dead at `expires_at` itself; idle when more than `max_idle` has passed.
    pub fn status(&self, now: Timestamp) -> Status {
        if self.is_revoked(now) {
            Status::Revoked
        } else if !self.enabled {
            Status::Disabled
        } else if self.expires_at.is_some_and(|end| now >= end) {
            Status::Expired
        } else if self.max_idle.is_some_and(|max| now.since(self.last_used_at) > max) {
            Status::IdleTimeout
        } else {
            Status::Active
        }
    }

    pub fn is_revoked(&self, now: Timestamp) -> bool {
        match self.revocation {
            None => false,
            Some(Revocation::Final) => true,
            Some(Revocation::GraceUntil(end)) => now >= end,
        }
    }

    /// Is it time to write down a use, if uses are written at most once per `interval`?
    pub fn touch_is_due(&self, now: Timestamp, interval: Span) -> bool {
        let idle_step = self.max_idle.map(|max| Span(max.0 / TOUCHES_PER_MAX_IDLE));
        now.since(self.last_used_at) >= idle_step.map_or(interval, |step| step.min(interval))
    }
}

/// A live token without any bound, for tests to put bounds on.
#[cfg(test)]
pub(crate) const fn active(last_used_at: Timestamp) -> Lifetime {
    Lifetime { enabled: true, revocation: None, expires_at: None, last_used_at, max_idle: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn alive() -> Lifetime {
        active(NOW)
    }

    #[test]
    fn the_first_reason_wins() {
        let mut token = Lifetime {
            enabled: false,
            revocation: Some(Revocation::Final),
            expires_at: Some(Timestamp(1)),
            last_used_at: Timestamp(0),
            max_idle: Some(Span(1)),
        };
        assert_eq!(token.status(NOW), Status::Revoked);
        token.revocation = None;
        assert_eq!(token.status(NOW), Status::Disabled);
        token.enabled = true;
        assert_eq!(token.status(NOW), Status::Expired);
        token.expires_at = None;
        assert_eq!(token.status(NOW), Status::IdleTimeout);
        token.max_idle = None;
        assert_eq!(token.status(NOW), Status::Active);
    }

    #[test]
    fn bounds() {
        let expiring = Lifetime { expires_at: Some(NOW), ..alive() };
        assert_eq!(expiring.status(NOW), Status::Expired);
        assert_eq!(expiring.status(Timestamp(NOW.0 - 1)), Status::Active);
        let idle = Lifetime { max_idle: Some(Span(10)), ..alive() };
        assert_eq!(idle.status(Timestamp(NOW.0 + 10)), Status::Active);
        assert_eq!(idle.status(Timestamp(NOW.0 + 11)), Status::IdleTimeout);
        let grace = Lifetime { revocation: Some(Revocation::GraceUntil(NOW)), ..alive() };
        assert_eq!(grace.status(Timestamp(NOW.0 - 1)), Status::Active);
        assert_eq!(grace.status(NOW), Status::Revoked);
        let infinite = Lifetime { expires_at: Some(Timestamp(i64::MAX)), ..alive() };
        assert_eq!(infinite.status(NOW), Status::Active);
    }

    #[test]
    fn a_clock_that_steps_back_revives_nothing() {
        let revoked = Lifetime { revocation: Some(Revocation::Final), ..alive() };
        assert_eq!(revoked.status(Timestamp(0)), Status::Revoked);
    }

    #[test]
    fn touches_are_coalesced_within_a_twentieth_of_max_idle() {
        let minute = Span::from_seconds(60);
        let after = |seconds| Timestamp(NOW.0 + Span::from_seconds(seconds).0);
        assert!(!alive().touch_is_due(after(59), minute));
        assert!(alive().touch_is_due(after(60), minute));
        assert!(alive().touch_is_due(NOW, Span::ZERO));
        let idle = Lifetime { max_idle: Some(Span::from_seconds(100)), ..alive() };
        assert!(!idle.touch_is_due(after(4), minute));
        assert!(idle.touch_is_due(after(5), minute));
        let patient = Lifetime { max_idle: Some(Span::from_seconds(86_400)), ..alive() };
        assert!(patient.touch_is_due(after(60), minute));
    }
}
