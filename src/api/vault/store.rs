//! Storing: sealed, or as a client encrypted it. Each is a new version.

use super::dek;
use crate::api::Answer;
use crate::error::Result;
use crate::guc;
use crate::pg::argument::Jsonb;
use crate::pg::datum::timestamp;
use crate::pg::{clock, transaction};
use crate::store::events::{self, Event};
use crate::store::vault::secrets::{self, About, HeldSecret, Name};
use crate::store::vault::versions::{self, Content};
use api_tokens_logic::event::Method;
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::vault::passphrase;
use api_tokens_logic::vault::seal::Context;
use api_tokens_logic::{Error, input};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_extern;

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_store(
    namespace: Option<&str>,
    key_name: Option<&str>,
    value: Option<&str>,
    expected_version: Option<i32>,
    metadata: Option<Jsonb>,
    expires_at: Option<TimestampWithTimeZone>,
) -> Answer<i32> {
    transaction::require_writable(c"api_vault_store()");
    let name = name(namespace, key_name)?;
    let about = about(metadata, expires_at)?;
    let expected = expected(expected_version)?;
    Ok(store(name, bounded(value)?, expected, Some(&about))?)
}

fn bounded(value: Option<&str>) -> Result<&str> {
    Ok(input::value(value, guc::vault_max_value_bytes())?)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_store_encrypted(
    namespace: Option<&str>,
    key_name: Option<&str>,
    encrypted_value: Option<&str>,
    iv: Option<&str>,
) -> Answer<i32> {
    transaction::require_writable(c"api_vault_store_encrypted()");
    Ok(store_encrypted(name(namespace, key_name)?, encrypted_value, iv)?)
}

fn store_encrypted(name: Name, encrypted_value: Option<&str>, iv: Option<&str>) -> Result<i32> {
    let encrypted_value = input::required("encrypted_value", encrypted_value)?;
    // Base64 of a value that is long enough is four thirds of it.
    let bound = guc::vault_max_value_bytes().div_ceil(3) * 4 + 24;
    input::value(Some(encrypted_value), bound)?;
    let iv = input::required("iv", iv)?;
    passphrase::check(encrypted_value, iv)?;
    let about = About { metadata: None, expires_at: None };
    keep_encrypted(name, encrypted_value, iv, Some(&about))
}

/// Makes a value that a client encrypted current.
pub(super) fn keep_encrypted(
    name: Name,
    encrypted_value: &str,
    iv: &str,
    about: Option<&About>,
) -> Result<i32> {
    let content = |version: i32, now| {
        versions::insert(name, version, &Content::Client { encrypted_value, iv }, now)
    };
    advance(name, None, about, content)
}

/// A place in the vault, or a refusal.
pub(super) fn name<'a>(namespace: Option<&'a str>, key_name: Option<&'a str>) -> Result<Name<'a>> {
    let namespace = input::namespace(namespace)?;
    Ok(Name { namespace, key_name: input::key_name(key_name)? })
}

fn about(metadata: Option<Jsonb>, expires_at: Option<TimestampWithTimeZone>) -> Result<About> {
    let expires_at = input::future("expires_at", expires_at.map(timestamp), clock::now())?;
    Ok(About { metadata, expires_at })
}

fn expected(version: Option<i32>) -> Result<Option<i32>> {
    match version {
        Some(version) if version < 0 => {
            Err(Error::Negative { argument: "expected_version" }.into())
        }
        version => Ok(version),
    }
}

/// Seals the value and makes it current; without anything about it, what there is stays.
pub(super) fn store(
    name: Name,
    value: &str,
    expected: Option<i32>,
    about: Option<&About>,
) -> Result<i32> {
    let dek = dek::sealing(name.namespace)?;
    advance(name, expected, about, |version, now| {
        let sealed = dek.seal(&context(name, version), value.as_bytes());
        versions::insert(name, version, &Content::Sealed { dek_id: dek.id, sealed: &sealed }, now)
    })
}

/// What a value is sealed for.
pub(super) fn context<'a>(name: Name<'a>, version: i32) -> Context<'a> {
    let version = u64::from(version.unsigned_abs());
    Context::Value { namespace: name.namespace, key_name: name.key_name, version }
}

/// Makes a new version current, and has `insert` add it.
fn advance(
    name: Name,
    expected: Option<i32>,
    about: Option<&About>,
    insert: impl FnOnce(i32, Timestamp) -> Result<()>,
) -> Result<i32> {
    let now = clock::now();
    let version = next_version(name, expected, about, now)?;
    insert(version, now)?;
    let kept = guc::vault_keep_versions();
    if version > kept {
        versions::delete(name, 1, version - kept)?;
    }
    record(Method::VaultStore, name, version)?;
    Ok(version)
}

fn next_version(
    name: Name,
    expected: Option<i32>,
    about: Option<&About>,
    now: Timestamp,
) -> Result<i32> {
    let mut held = secrets::hold(name)?;
    if held.is_none() {
        check(expected, None, now)?;
        let none = About { metadata: None, expires_at: None };
        if secrets::insert(name, about.unwrap_or(&none), now)? {
            return Ok(1);
        }
        // Somebody else has added it in this moment. A snapshot from before cannot see it.
        held = secrets::hold(name)?;
    }
    let held = held.ok_or(Error::Conflict)?;
    check(expected, Some(&held), now)?;
    let exhausted =
        Error::TooMany { argument: "key_name", max: i32::MAX as usize, actual: i32::MAX as usize };
    let version = held.last_version.checked_add(1).ok_or(exhausted)?;
    secrets::advance(name, version, about, now)?;
    Ok(version)
}

/// Is the current version what the caller has read?
fn check(expected: Option<i32>, held: Option<&HeldSecret>, now: Timestamp) -> Result<()> {
    let actual = held.filter(|held| held.is_readable(now)).map_or(0, |held| held.version);
    match expected {
        Some(expected) if expected != actual => {
            Err(Error::VersionChanged { expected, actual }.into())
        }
        _ => Ok(()),
    }
}

pub(super) fn record(method: Method, name: Name, version: i32) -> Result<()> {
    let mut detail = serde_json::Map::new();
    detail.insert("key_name".to_owned(), name.key_name.into());
    detail.insert("version".to_owned(), version.into());
    events::record(method, Event { namespace: Some(name.namespace), detail, ..Event::default() })
}
