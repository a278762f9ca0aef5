//! Moving a namespace to another data key: each of its values is sealed anew, some at a time.

use super::dek::{self, Dek};
use super::rekey::size;
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
    dek::create(&ring, namespace)?;
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
    let dek = dek::sealing(namespace)?;
    let mut held = versions::hold_of(retired, batch, wait)?;
    for version in &mut held {
        pgrx::check_for_interrupts!();
        reseal(&dek, version)?;
    }
    if held.is_empty() && wait {
        // Those who are sealing with an old key hold it: this waits for them, and what they have
        // stored is seen by the next step.
        let deks = deks::hold_all(namespace, false)?;
        if !deks::are_in_use(&deks) {
            deks::destroy(deks)?;
        }
        return Ok(Some(0));
    }
    let count = versions::reseal(namespace, &dek.id, &held)? as i64;
    if count > 0 {
        let event = Event { namespace: Some(namespace), count: Some(count), ..Event::default() };
        events::record(Method::VaultRekey, event)?;
    }
    Ok(Some(count))
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
