//! Bounds of the arguments, one function per kind. Each names its argument in the error and
//! never repeats the value.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::time::{Span, Timestamp};
use crate::{redact, rotation};

pub const MAX_NAMESPACE_BYTES: usize = 512;
pub const MAX_NAME_BYTES: usize = 256;
pub const MAX_DISPLAY_BYTES: usize = 64;
/// Of one call of `api_token_validate_many`.
pub const MAX_TOKENS: usize = 100_000;

pub fn required<T>(argument: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or(Error::Missing { argument })
}

fn within(argument: &'static str, text: &str, min: usize, max: usize) -> Result<()> {
    let actual = text.len();
    if (min..=max).contains(&actual) {
        Ok(())
    } else {
        Err(Error::Length { argument, min, max, actual })
    }
}

pub fn namespace(namespace: Option<&str>) -> Result<&str> {
    let namespace = required("namespace", namespace)?;
    within("namespace", namespace, 1, MAX_NAMESPACE_BYTES)?;
    Ok(namespace)
}

pub fn key_name(key_name: Option<&str>) -> Result<&str> {
    let key_name = required("key_name", key_name)?;
    within("key_name", key_name, 1, MAX_NAME_BYTES)?;
    Ok(key_name)
}

/// A plaintext for the vault.
pub fn value(value: Option<&str>, max: usize) -> Result<&str> {
    let value = required("value", value)?;
    let actual = value.len();
    if actual > max { Err(Error::ValueTooLong { max, actual }) } else { Ok(value) }
}

pub fn name(name: Option<&str>) -> Result<Option<&str>> {
    if let Some(name) = name {
        within("name", name, 0, MAX_NAME_BYTES)?;
    }
    Ok(name)
}

/// The display text of an imported token: not the token itself, nor anything that hides one.
pub fn display_prefix<'a>(display: Option<&'a str>, digest: &Digest) -> Result<&'a str> {
    let display = required("token_prefix", display)?;
    within("token_prefix", display, 1, MAX_DISPLAY_BYTES)?;
    if !digest.is_kept_secret_by(display) || redact::holds_a_token(display.as_bytes()) {
        return Err(Error::RevealingPrefix);
    }
    Ok(display)
}

pub fn future(
    argument: &'static str,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    match at {
        Some(at) if at <= now => Err(Error::NotInFuture { argument }),
        at => Ok(at),
    }
}

pub fn positive(argument: &'static str, span: Option<Span>) -> Result<Option<Span>> {
    match span {
        Some(span) if span <= Span::ZERO => Err(Error::NotPositive { argument }),
        span => Ok(span),
    }
}

pub fn not_negative(argument: &'static str, span: Option<Span>) -> Result<Span> {
    let span = required(argument, span)?;
    if span < Span::ZERO { Err(Error::Negative { argument }) } else { Ok(span) }
}

/// A bound on a number of rows; `None` is no bound.
pub fn row_limit(argument: &'static str, rows: Option<i64>) -> Result<Option<i64>> {
    match rows {
        Some(rows) if rows < 0 => Err(Error::Negative { argument }),
        rows => Ok(rows),
    }
}

/// The price of one call; 0 asks without paying.
pub fn cost(cost: Option<i32>) -> Result<i32> {
    let cost = required("cost", cost)?;
    if cost < 0 { Err(Error::Negative { argument: "cost" }) } else { Ok(cost) }
}

/// When a new token ends, and its hard end.
pub fn ends(
    expires_at: Option<Timestamp>,
    max_expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let expires_at = future("expires_at", expires_at, now)?;
    let max_expires_at = future("max_expires_at", max_expires_at, now)?;
    Ok(rotation::cap(expires_at, max_expires_at))
}

/// The times of an imported token, which may lie in the past as they were lived there.
#[derive(Clone, Copy, Debug)]
pub struct History {
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
}

impl History {
    pub fn check(
        created_at: Option<Timestamp>,
        last_used_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self> {
        let created_at = created_at.unwrap_or(now);
        let last_used_at = last_used_at.unwrap_or(created_at);
        let lived = Timestamp::UNIX_EPOCH..=now;
        for (argument, at) in [("created_at", created_at), ("last_used_at", last_used_at)] {
            if !lived.contains(&at) {
                let expected = "a time between 1970 and now";
                return Err(Error::Malformed { argument, expected });
            }
        }
        Ok(Self { created_at, last_used_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    #[test]
    fn lengths_are_bytes() {
        assert!(namespace(Some(&"a".repeat(512))).is_ok());
        assert!(namespace(Some(&"ä".repeat(257))).is_err());
        assert!(namespace(Some("")).is_err());
        assert_eq!(namespace(None), Err(Error::Missing { argument: "namespace" }));
        assert!(name(Some("")).is_ok());
        assert!(name(Some(&"a".repeat(257))).is_err());
    }

    #[test]
    fn now_is_not_the_future() {
        assert!(future("expires_at", Some(NOW), NOW).is_err());
        assert!(future("expires_at", Some(Timestamp(1_001)), NOW).is_ok());
        assert!(positive("max_idle", Some(Span::ZERO)).is_err());
        assert!(not_negative("grace", Some(Span::ZERO)).is_ok());
        assert!(not_negative("grace", Some(Span(-1))).is_err());
    }

    #[test]
    fn a_token_is_no_display_text() {
        let token = "sk_0000000000000000000000000000000030OBQY";
        let other = Digest([7; 32]);
        for display in [token, &format!("key: {token}"), &format!("{token} ")] {
            assert_eq!(display_prefix(Some(display), &other), Err(Error::RevealingPrefix));
        }
        assert!(display_prefix(Some("sk_0000...OBQY"), &other).is_ok());
    }

    #[test]
    fn imported_times_were_lived() {
        assert!(History::check(Some(Timestamp(1_001)), None, NOW).is_err());
        assert!(History::check(None, Some(Timestamp(1_001)), NOW).is_err());
        assert!(History::check(Some(Timestamp::MIN), None, NOW).is_err());
        assert!(History::check(Some(Timestamp(5)), None, NOW).is_ok_and(|h| h.last_used_at.0 == 5));
    }
}
