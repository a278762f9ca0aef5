//! Does everything open? The last step after a restore.

use super::dek::{self, unwrap};
use super::read::read;
use super::store::context;
use crate::error::{self, Error};
use crate::keyring;
use crate::store::vault::{deks, versions};
use api_tokens_logic::vault::keyring::Ring;
use api_tokens_logic::vault::seal::OpenError;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};
use std::collections::BTreeMap;

const BATCH: i32 = 1000;

#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns off the signature")]
fn api_vault_verify() -> Result<
    TableIterator<'static, (name!(object, String), name!(result, String), name!(count, i64))>,
    ErrorReport,
> {
    let ring = keyring::loaded().map_err(Error::from)?.ring;
    let counts = [("data key", of_deks(&ring)?), ("value", of_values()?)];
    let rows = counts.into_iter().flat_map(|(object, counts)| {
        let row = move |(result, count): (&str, i64)| (object.to_owned(), result.to_owned(), count);
        counts.into_iter().map(row)
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// How often each result came up.
type Counts = BTreeMap<&'static str, i64>;

fn of_deks(ring: &Ring) -> error::Result<Counts> {
    let mut counts = Counts::from([("ok", 0)]);
    let mut batch = deks::after(None, BATCH)?;
    while let Some(last) = batch.last() {
        let next = deks::after(Some(last), BATCH)?;
        for dek in &batch {
            pgrx::check_for_interrupts!();
            *counts.entry(result(unwrap(ring, dek).map(|_| ()))?).or_default() += 1;
        }
        batch = next;
    }
    Ok(counts)
}

fn of_values() -> error::Result<Counts> {
    let mut counts = Counts::from([("ok", 0)]);
    let mut batch = versions::after(None, BATCH)?;
    while let Some(last) = batch.last() {
        let next = versions::after(Some(last), BATCH)?;
        for value in &batch {
            pgrx::check_for_interrupts!();
            let mut opened =
                dek::open(&context(value.name(), value.version), &value.sealed).map(Some);
            if opened.is_err() {
                // It may have been changed, moved to another key or deleted since the batch was read.
                opened = read(value.name(), value.version);
            }
            if opened.as_ref().is_ok_and(Option::is_none) {
                continue;
            }
            *counts.entry(result(opened.map(|_| ()))?).or_default() += 1;
        }
        batch = next;
    }
    Ok(counts)
}

/// What became of one; anything that is not about the box itself is an error of the whole.
fn result(opened: error::Result<()>) -> error::Result<&'static str> {
    use api_tokens_logic::Error::{KeyMissing, Unopened};
    match opened {
        Ok(()) => Ok("ok"),
        Err(Error::Refused(KeyMissing { .. } | Unopened(OpenError::KeyMissing(_)))) => {
            Ok("key missing")
        }
        Err(Error::Refused(Unopened(OpenError::WrongContext))) => Ok("wrong context"),
        Err(Error::Refused(Unopened(_))) => Ok("damaged"),
        Err(other) => Err(other),
    }
}
