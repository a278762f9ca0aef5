//! Going back, hiding, and destroying.

use super::read;
use super::store::{keep_encrypted, name, record, store};
use crate::api::Answer;
use crate::error::Result;
use crate::pg::{clock, transaction};
use crate::store::events::{self, Event};
use crate::store::vault::secrets::Name;
use crate::store::vault::versions::Found;
use crate::store::vault::{deks, secrets, versions};
use api_tokens_logic::event::Method;
use api_tokens_logic::{Error, input};
use pgrx::pg_extern;

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_rollback(
    namespace: Option<&str>,
    key_name: Option<&str>,
    version: Option<i32>,
) -> Answer<i32> {
    transaction::require_writable(c"api_vault_rollback()");
    Ok(rollback(name(namespace, key_name)?, version)?)
}

/// The old value under a new number: a number once used always means the same value.
fn rollback(name: Name, version: Option<i32>) -> Result<i32> {
    let version = input::required("version", version)?;
    let encrypted = versions::find(name, version, |found| match found {
        Some(Found::Client { encrypted_value, iv }) => {
            Some((encrypted_value.to_owned(), iv.to_owned()))
        }
        _ => None,
    });
    if let Some((encrypted_value, iv)) = encrypted {
        return keep_encrypted(name, &encrypted_value, &iv, None);
    }
    let old = read::read(name, version)?.ok_or(Error::NoSuchVersion)?;
    store(name, read::utf8(&old)?, None, None)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_delete(namespace: Option<&str>, key_name: Option<&str>) -> Answer<bool> {
    transaction::require_writable(c"api_vault_delete()");
    Ok(hide(name(namespace, key_name)?, true)?)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_undelete(namespace: Option<&str>, key_name: Option<&str>) -> Answer<bool> {
    transaction::require_writable(c"api_vault_undelete()");
    Ok(hide(name(namespace, key_name)?, false)?)
}

/// True if it changed anything.
fn hide(name: Name, hidden: bool) -> Result<bool> {
    let Some(held) = secrets::hold(name)? else { return Ok(false) };
    if held.is_deleted == hidden || (!hidden && !versions::exist(name)?) {
        return Ok(false);
    }
    secrets::set_deleted(name, hidden.then(clock::now))?;
    let method = if hidden { Method::VaultDelete } else { Method::VaultStore };
    record(method, name, held.version)?;
    Ok(true)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_destroy(
    namespace: Option<&str>,
    key_name: Option<&str>,
    version: Option<i32>,
) -> Answer<i64> {
    transaction::require_writable(c"api_vault_destroy()");
    Ok(destroy(name(namespace, key_name)?, version)?)
}

/// Deletes one version, or all of them; the name stays, so that no number is used again. Says how
/// many versions it deleted.
fn destroy(name: Name, version: Option<i32>) -> Result<i64> {
    let Some(held) = secrets::hold(name)? else { return Ok(0) };
    let (from, to) = version.map_or((0, i32::MAX), |version| (version, version));
    let destroyed = versions::delete(name, from, to)? as i64;
    if version.is_none() && !held.is_deleted {
        secrets::set_deleted(name, Some(clock::now()))?;
    }
    if destroyed > 0 {
        record(Method::VaultDelete, name, version.unwrap_or(held.version))?;
    }
    Ok(destroyed)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_shred(namespace: Option<&str>, confirm: Option<&str>) -> Answer<i64> {
    transaction::require_writable(c"api_vault_shred()");
    Ok(shred(namespace, confirm)?)
}

/// Destroys the keys of a namespace and all that they seal; says how many values it had.
fn shred(namespace: Option<&str>, confirm: Option<&str>) -> Result<i64> {
    let namespace = input::namespace(namespace)?;
    if input::required("confirm", confirm)? != namespace {
        let expected = "the namespace, once more: what is shredded cannot be restored";
        return Err(Error::Malformed { argument: "confirm", expected }.into());
    }
    let held = deks::hold_all(namespace, true)?;
    secrets::delete_all(namespace)?;
    let values = versions::delete_all(namespace)? as i64;
    if deks::are_in_use(&held) {
        // Stored after this transaction's snapshot: out of sight of what deleted the others.
        return Err(Error::Conflict.into());
    }
    let keys = deks::destroy(held)?;
    if values > 0 || keys > 0 {
        let event = Event { namespace: Some(namespace), count: Some(values), ..Event::default() };
        events::record(Method::VaultShred, event)?;
    }
    Ok(values)
}
