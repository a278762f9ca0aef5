//! What the views and SQL functions of the install script need from Rust: the one decision about
//! a token's status, and the bounds of their arguments.

use super::Answer;
use crate::error::Result;
use crate::pg::argument::IntervalValue;
use crate::pg::datum::timestamp;
use api_tokens_logic::input;
use api_tokens_logic::lifetime::{Lifetime, Revocation};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_extern;

/// The status of a row of `api_tokens.tokens` at a time: the same function that validates.
#[pg_extern(immutable, parallel_safe)]
fn token_status(
    revoked_at: Option<TimestampWithTimeZone>,
    in_grace: bool,
    enabled: bool,
    expires_at: Option<TimestampWithTimeZone>,
    last_used_at: TimestampWithTimeZone,
    max_idle: Option<IntervalValue>,
    now: TimestampWithTimeZone,
) -> &'static str {
    let revocation = revoked_at
        .map(|at| if in_grace { Revocation::GraceUntil(timestamp(at)) } else { Revocation::Final });
    let lifetime = Lifetime {
        enabled,
        revocation,
        expires_at: expires_at.map(timestamp),
        last_used_at: timestamp(last_used_at),
        max_idle: max_idle.map(|idle| idle.span()),
    };
    lifetime.status(timestamp(now)).as_str()
}

#[pg_extern(immutable, parallel_safe)]
fn checked_namespace(namespace: Option<&str>) -> Answer<String> {
    let check = || -> Result<String> { Ok(input::namespace(namespace)?.to_owned()) };
    Ok(check()?)
}

/// NULL stays NULL, which LIMIT takes for no limit.
#[pg_extern(immutable, parallel_safe)]
fn checked_max_rows(max_rows: Option<i32>) -> Answer<Option<i64>> {
    let check =
        || -> Result<Option<i64>> { Ok(input::row_limit("max_rows", max_rows.map(i64::from))?) };
    Ok(check()?)
}
