//! Moving to another key-encryption key: each data key is wrapped anew, some at a time.

use super::dek::{unwrap, wrap};
use crate::api::Answer;
use crate::error::{self, Result};
use crate::keyring;
use crate::pg::transaction;
use crate::store::events::{self, Event};
use crate::store::vault::deks::{self, WrappedDek};
use api_tokens_logic::event::Method;
use api_tokens_logic::vault::seal::OpenError;
use api_tokens_logic::{Error, input};
use pgrx::pg_extern;

#[pg_extern(volatile, parallel_unsafe)]
fn api_vault_rekey_step(batch: Option<i32>, wait: Option<bool>) -> Answer<Option<i64>> {
    transaction::require_writable(c"api_vault_rekey_step()");
    Ok(step(batch, wait)?)
}

/// How many rows a step takes at most.
pub(super) fn size(batch: Option<i32>) -> Result<i32> {
    match input::required("batch", batch)? {
        batch if batch <= 0 => Err(Error::NotPositive { argument: "batch" }.into()),
        batch => Ok(batch),
    }
}

/// Wraps some keys anew; says how many, `None` if there is nothing left to do. Each is opened again
/// before anything is written.
fn step(batch: Option<i32>, wait: Option<bool>) -> Result<Option<i64>> {
    let (batch, wait) = (size(batch)?, input::required("wait", wait)?);
    let ring = keyring::loaded()?.ring;
    // Who waits holds nothing that others wait for in another order: one row at a time.
    let held = deks::hold_of_others(&ring.primary().id, if wait { 1 } else { batch }, wait)?;
    let mut rewrapped = Vec::with_capacity(held.len());
    for dek in &held {
        pgrx::check_for_interrupts!();
        let key = unwrap(&ring, dek).map_err(|error| located(error, || place(dek)))?;
        let anew = wrap(&ring, dek.dek_id, &dek.namespace, &key);
        if unwrap(&ring, &anew)?.as_bytes() != key.as_bytes() {
            return Err(Error::Unopened(OpenError::Damaged).into());
        }
        rewrapped.push((anew.dek_id, anew.wrapped));
    }
    if held.is_empty() && !deks::are_of_others(&ring.primary().id)? {
        return Ok(None);
    }
    let count = deks::rewrap(&ring.primary().id, &rewrapped)? as i64;
    if count > 0 {
        events::record(Method::VaultRekey, Event { count: Some(count), ..Event::default() })?;
    }
    Ok(Some(count))
}

/// For people.
pub(super) fn place(dek: &WrappedDek) -> String {
    format!("the data key {} of namespace \"{}\"", dek.dek_id, dek.namespace)
}

/// Says of a box that does not open which it is.
pub(super) fn located(error: error::Error, place: impl FnOnce() -> String) -> error::Error {
    match error {
        error::Error::Refused(Error::Unopened(cause)) => {
            Error::UnopenedAt { place: place(), cause }.into()
        }
        other => other,
    }
}
