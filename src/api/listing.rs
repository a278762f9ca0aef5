//! What the views and SQL functions of the install script need from Rust: the one decision about
//! a token's status, and the bounds of their arguments.

use super::Answer;
use crate::error::Result;
use crate::pg::argument::IntervalValue;
use crate::pg::datum::{self, timestamp, timestamptz};
use crate::pg::shmem;
use crate::store::uses;
use api_tokens_logic::Error;
use api_tokens_logic::input;
use api_tokens_logic::lifetime::{Lifetime, Revocation};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Uuid, pg_extern};

/// The status of a row of `api_tokens.tokens` at a time: the same function that validates. NULL for
/// what is no such row.
#[pg_extern(immutable, parallel_safe)]
fn token_status(
    revoked_at: Option<TimestampWithTimeZone>,
    in_grace: Option<bool>,
    enabled: Option<bool>,
    expires_at: Option<TimestampWithTimeZone>,
    last_used_at: Option<TimestampWithTimeZone>,
    max_idle: Option<IntervalValue>,
    now: Option<TimestampWithTimeZone>,
) -> Option<&'static str> {
    let lifetime = Lifetime {
        enabled: enabled?,
        revocation: Revocation::of(revoked_at.map(timestamp), in_grace?),
        expires_at: expires_at.map(timestamp),
        last_used_at: timestamp(last_used_at?),
        max_idle: max_idle.map(|idle| idle.span()),
    };
    Some(lifetime.status(timestamp(now?)).as_str())
}

#[pg_extern(volatile, parallel_safe)]
fn live_last_use(token_id: Uuid, last_used_at: TimestampWithTimeZone) -> TimestampWithTimeZone {
    let stored = timestamp(last_used_at);
    uses::last_use(&token_id).map_or(last_used_at, |live| timestamptz(live.max(stored)))
}

#[pg_extern(immutable, parallel_safe)]
fn checked_namespace(namespace: Option<&str>) -> Answer<String> {
    let check = || -> Result<String> { Ok(input::namespace(namespace)?.to_owned()) };
    Ok(check()?)
}

#[pg_extern(immutable, parallel_safe)]
fn checked_key_name(key_name: Option<&str>) -> Answer<String> {
    let check = || -> Result<String> { Ok(input::key_name(key_name)?.to_owned()) };
    Ok(check()?)
}

/// The uses of one token or of one namespace: one of the two must be given, and uses be counted.
#[pg_extern(stable, parallel_safe)]
fn check_usage_of(token_id: Option<Uuid>, namespace: Option<&str>) -> Answer<()> {
    let check = || -> Result<()> {
        if shmem::shared().is_none() {
            return Err(Error::NotPreloaded.into());
        }
        match token_id {
            None => input::namespace(namespace).map(drop)?,
            Some(_) if namespace.is_none() => {}
            Some(_) => {
                let expected = "either a token_id or a namespace, not both";
                return Err(Error::Malformed { argument: "namespace", expected }.into());
            }
        }
        Ok(())
    };
    Ok(check()?)
}

/// NULL stays NULL, which LIMIT takes for no limit.
#[pg_extern(immutable, parallel_safe)]
fn checked_max_rows(max_rows: Option<i32>) -> Answer<Option<i64>> {
    let check =
        || -> Result<Option<i64>> { Ok(input::row_limit("max_rows", max_rows.map(i64::from))?) };
    Ok(check()?)
}

/// Called once, by the install script.
#[pg_extern(stable, parallel_safe)]
fn check_encoding() -> Answer<()> {
    let check = || -> Result<()> {
        if datum::is_utf8_database() { Ok(()) } else { Err(Error::NotUtf8.into()) }
    };
    Ok(check()?)
}
