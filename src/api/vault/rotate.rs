//! Moving a namespace to another data key: each of its values is sealed anew, some at a time.

use super::dek::{self, Dek};
use super::rekey::{located, size};
use super::store::context;
use crate::api::Answer;
use crate::error::Result;
use crate::keyring;
use crate::pg::transaction;
use crate::store::events::{self, Event};
use crate::store::vault::versions::SealedVersion;
use crate::store::vault::{deks, versions};
use api_tokens_logic::event::Method;
use api_tokens_logic::vault::seal::{self, OpenError};
use api_tokens_logic::{Error, input};
use pgrx::pg_extern;

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_rotate_dek_begin(namespace: Option<&str>) -> Answer<bool> {
    transaction::require_writable(c"api_vault_rotate_dek_begin()");
    Ok(begin(namespace)?)
}

/// Puts a new key in the place of the one that seals. Where an earlier rotation is not finished
/// nothing is begun: the steps that follow finish it. False also if there is no key yet.
fn begin(namespace: Option<&str>) -> Result<bool> {
    let namespace = input::namespace(namespace)?;
    let ring = keyring::loaded()?.ring;
    if !deks::retired(namespace)?.is_empty() || !deks::retire(namespace)? {
        return Ok(false);
    }
    dek::create(&ring, namespace)?.ok_or(Error::Conflict)?;
    Ok(true)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_rotate_dek_step(
    namespace: Option<&str>,
    batch: Option<i32>,
    wait: Option<bool>,
) -> Answer<Option<i64>> {
    transaction::require_writable(c"api_vault_rotate_dek_step()");
    Ok(step(namespace, batch, wait)?)
}

/// Seals some values anew; says how many, `None` if there is nothing left to do. When it waits and
/// no value is left, the old keys are destroyed.
fn step(namespace: Option<&str>, batch: Option<i32>, wait: Option<bool>) -> Result<Option<i64>> {
    let namespace = input::namespace(namespace)?;
    let (batch, wait) = (size(batch)?, input::required("wait", wait)?);
    let retired = deks::retired(namespace)?;
    if retired.is_empty() {
        return Ok(None);
    }
    if !deks::are_in_use(&retired) {
        return finish(namespace, wait).map(Some);
    }
    let dek = dek::sealing(namespace)?;
    // Who waits holds nothing that others wait for in another order: one row at a time.
    let mut held = versions::hold_of(retired, if wait { 1 } else { batch }, wait)?;
    for version in &mut held {
        pgrx::check_for_interrupts!();
        reseal(&dek, version).map_err(|error| located(error, || version.place()))?;
    }
    let count = versions::reseal(namespace, &dek.id, &held)? as i64;
    if count > 0 {
        let event = Event { namespace: Some(namespace), count: Some(count), ..Event::default() };
        events::record(Method::VaultRekey, event)?;
    }
    Ok(Some(count))
}

/// Destroys the old keys, if it may wait for those who are sealing with one: they hold it, and what
/// they have stored is seen by the next step.
fn finish(namespace: &str, wait: bool) -> Result<i64> {
    if wait {
        let deks = deks::hold_all(namespace, false)?;
        if !deks::are_in_use(&deks) {
            deks::destroy(deks)?;
        }
    }
    Ok(0)
}

/// Opened again before anything is written.
fn reseal(dek: &Dek, version: &mut SealedVersion) -> Result<()> {
    let context = context(version.name(), version.version);
    let plaintext = dek::open(&context, &version.sealed)?;
    let sealed = dek.seal(&context, &plaintext);
    let again = seal::open(&dek.key, &context, &sealed).map_err(Error::Unopened)?;
    if again != plaintext {
        return Err(Error::Unopened(OpenError::Damaged).into());
    }
    version.sealed = sealed;
    Ok(())
}
