//! Reading values. Nothing is written, so it works on a standby.

use super::dek;
use super::store::{context, name};
use crate::api::Answer;
use crate::error::Result;
use crate::pg::clock;
use crate::pg::datum::timestamptz;
use crate::pg::record::{Record, Shape, Text, value};
use crate::store::vault::secrets::{self, Name, Secret};
use crate::store::vault::versions::{self, Found};
use api_tokens_logic::Error;
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::vault::seal::OpenError;
use api_tokens_logic::vault::secret::Plaintext;
use pgrx::{pg_extern, pg_sys};

thread_local! {
    static ENCRYPTED: Shape = const { Shape::new(&[
        (c"encrypted_value", pg_sys::TEXTOID),
        (c"iv", pg_sys::TEXTOID),
        (c"created_at", pg_sys::TIMESTAMPTZOID),
        (c"updated_at", pg_sys::TIMESTAMPTZOID),
    ]) };
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_get(
    namespace: Option<&str>,
    key_name: Option<&str>,
    version: Option<i32>,
) -> Answer<Option<Text>> {
    Ok(get(name(namespace, key_name)?, version)?)
}

fn get(name: Name, version: Option<i32>) -> Result<Option<Text>> {
    let Some(secret) = readable(name) else { return Ok(None) };
    let found = match version {
        Some(version) => Some(read(name, version)?.ok_or(Error::NoSuchVersion)?),
        None => current(name, secret, read)?,
    };
    found.as_ref().map(text).transpose()
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_get_encrypted(
    namespace: Option<&str>,
    key_name: Option<&str>,
) -> Answer<Option<Record>> {
    Ok(get_encrypted(name(namespace, key_name)?)?)
}

fn get_encrypted(name: Name) -> Result<Option<Record>> {
    let Some(secret) = readable(name) else { return Ok(None) };
    let (created_at, updated_at) = (secret.created_at, secret.updated_at);
    current(name, secret, |name, version| encrypted(name, version, created_at, updated_at))
}

/// What `read` gives for the current version. It may be replaced, and no longer kept, between the two
/// looks: then it is another one. Where it stays the same and is not there it was destroyed.
fn current<R>(
    name: Name,
    mut secret: Secret,
    read: impl Fn(Name, i32) -> Result<Option<R>>,
) -> Result<Option<R>> {
    loop {
        pgrx::check_for_interrupts!();
        let found = read(name, secret.version)?;
        if found.is_some() {
            return Ok(found);
        }
        match readable(name) {
            Some(now) if now.version != secret.version => secret = now,
            _ => return Ok(None),
        }
    }
}

fn encrypted(
    name: Name,
    version: i32,
    created_at: Timestamp,
    updated_at: Timestamp,
) -> Result<Option<Record>> {
    versions::find(name, version, |found| match found {
        None => Ok(None),
        Some(Found::Sealed(_)) => Err(Error::NotClientEncrypted.into()),
        Some(Found::Client { encrypted_value, iv }) => {
            let row = [
                value(encrypted_value),
                value(iv),
                value(timestamptz(created_at)),
                value(timestamptz(updated_at)),
            ];
            Ok(Some(ENCRYPTED.with(|shape| shape.form(&row))))
        }
    })
}

/// The name, unless it is deleted or expired.
fn readable(name: Name) -> Option<Secret> {
    secrets::find(name).filter(|secret| secret.is_readable(clock::now()))
}

/// One version in the clear; `None` if there is none of this number.
pub(super) fn read(name: Name, version: i32) -> Result<Option<Plaintext>> {
    use crate::error::Error::Refused;
    let mut opened = read_once(name, version);
    // A rotation may have moved the value and destroyed its old key between the two looks.
    for _ in 0..RETRIES {
        match opened {
            Err(Refused(Error::Unopened(OpenError::KeyMissing(_)))) => {
                opened = read_once(name, version);
            }
            _ => break,
        }
    }
    opened
}

/// Each of them would need another rotation to finish in this very moment.
const RETRIES: usize = 3;

fn read_once(name: Name, version: i32) -> Result<Option<Plaintext>> {
    versions::find(name, version, |found| match found {
        None => Ok(None),
        Some(Found::Client { .. }) => Err(Error::ClientEncrypted.into()),
        Some(Found::Sealed(sealed)) => dek::open(&context(name, version), sealed).map(Some),
    })
}

pub(super) fn text(plaintext: &Plaintext) -> Result<Text> {
    Ok(Text::copy(utf8(plaintext)?))
}

/// What was stored was text; anything else was not sealed by us.
pub(super) fn utf8(plaintext: &Plaintext) -> Result<&str> {
    Ok(str::from_utf8(plaintext).map_err(|_| Error::Unopened(OpenError::Malformed))?)
}
