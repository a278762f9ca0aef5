//! What `refresh` does to a token, decided while its row is locked.

use crate::lifetime::Lifetime;
use crate::time::{Span, Timestamp};
use crate::verdict::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The old token ends as `retired` says, the new one expires at `expires_at`.
    Granted {
        retired: Retirement,
        expires_at: Option<Timestamp>,
    },
    Refused(Reason),
    /// It was rotated before: someone holds a copy of an old token. Refused as `revoked`.
    Reused,
}

/// How the rotated token ends; the two columns that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retirement {
    pub revoked_at: Timestamp,
    pub in_grace: bool,
}

/// What is asked of a refresh, already checked: `grace` is not negative, `expires_at` lies ahead.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub grace: Span,
    pub expires_at: Option<Timestamp>,
}

pub fn plan(
    lifetime: &Lifetime,
    already_replaced: bool,
    max_expires_at: Option<Timestamp>,
    terms: &Terms,
    now: Timestamp,
) -> Rotation {
    if already_replaced {
        return Rotation::Reused;
    }
    // Only an import brings a token in that has an end of grace and no heir here: it was rotated
    // where it comes from.
    if lifetime.revocation.is_some() {
        return Rotation::Refused(Reason::Revoked);
    }
    if let Some(reason) = Reason::of_status(lifetime.status(now)) {
        return Rotation::Refused(reason);
    }
    Rotation::Granted {
        retired: retire(lifetime, terms.grace, now),
        expires_at: cap(terms.expires_at.or(lifetime.expires_at), max_expires_at),
    }
}

/// The old token's end: now, or after the grace period, but never past its own expiry.
fn retire(lifetime: &Lifetime, grace: Span, now: Timestamp) -> Retirement {
    if grace <= Span::ZERO {
        return Retirement { revoked_at: now, in_grace: false };
    }
    let end = now.plus(grace);
    Retirement {
        revoked_at: lifetime.expires_at.map_or(end, |expiry| expiry.min(end)),
        in_grace: true,
    }
}

/// An expiry under a hard end. With a hard end and no expiry, the hard end is the expiry.
pub fn cap(expires_at: Option<Timestamp>, hard_end: Option<Timestamp>) -> Option<Timestamp> {
    match (expires_at, hard_end) {
        (Some(expiry), Some(end)) => Some(expiry.min(end)),
        (expiry, end) => expiry.or(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifetime::{Revocation, active};

    const NOW: Timestamp = Timestamp(1_000);
    const ACTIVE: Lifetime = active(NOW);
    const AT_ONCE: Terms = Terms { grace: Span::ZERO, expires_at: None };

    #[test]
    fn without_grace_the_old_token_ends_now() {
        let granted = plan(&ACTIVE, false, None, &AT_ONCE, NOW);
        let retired = Retirement { revoked_at: NOW, in_grace: false };
        assert_eq!(granted, Rotation::Granted { retired, expires_at: None });
    }

    #[test]
    fn grace_never_outlives_the_old_expiry() {
        let expiring = Lifetime { expires_at: Some(Timestamp(1_500)), ..ACTIVE };
        let terms = Terms { grace: Span(10_000), expires_at: Some(Timestamp(9_000)) };
        let retired = Retirement { revoked_at: Timestamp(1_500), in_grace: true };
        let granted = Rotation::Granted { retired, expires_at: Some(Timestamp(9_000)) };
        assert_eq!(plan(&expiring, false, None, &terms, NOW), granted);
    }

    #[test]
    fn expiry_is_kept_and_capped() {
        let expiring = Lifetime { expires_at: Some(Timestamp(5_000)), ..ACTIVE };
        let expiry = |hard_end| match plan(&expiring, false, hard_end, &AT_ONCE, NOW) {
            Rotation::Granted { expires_at, .. } => expires_at,
            _ => None,
        };
        assert_eq!(expiry(None), Some(Timestamp(5_000)));
        assert_eq!(expiry(Some(Timestamp(2_000))), Some(Timestamp(2_000)));
        assert_eq!(cap(None, Some(NOW)), Some(NOW));
    }

    #[test]
    fn the_dead_are_not_renewed_and_reuse_is_seen() {
        let expired = Lifetime { expires_at: Some(NOW), ..ACTIVE };
        let refused = Rotation::Refused(Reason::Expired);
        assert_eq!(plan(&expired, false, None, &AT_ONCE, NOW), refused);
        assert_eq!(plan(&expired, true, None, &AT_ONCE, NOW), Rotation::Reused);
        let ending =
            Lifetime { revocation: Some(Revocation::GraceUntil(Timestamp(9_000))), ..ACTIVE };
        let refused = Rotation::Refused(Reason::Revoked);
        assert_eq!(plan(&ending, false, None, &AT_ONCE, NOW), refused);
    }
}
