//! Does everything open? The last step after a restore.

use super::dek::{self, unwrap};
use super::read::read;
use super::rekey::place;
use super::store::context;
use crate::error::{self, Error};
use crate::keyring;
use crate::store::vault::{deks, versions};
use api_tokens_logic::Error::{KeyMissing, Unopened};
use api_tokens_logic::vault::keyring::Ring;
use api_tokens_logic::vault::seal::{self, OpenError};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};
use std::collections::BTreeMap;

/// Two batches are in memory, values and all.
const BATCH: i32 = 100;

#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns off the signature")]
fn api_vault_verify() -> Result<
    TableIterator<'static, (name!(object, String), name!(result, String), name!(count, i64))>,
    ErrorReport,
> {
    let ring = keyring::loaded().map_err(Error::from)?.ring;
    let counts = [("data key", of_deks(&ring)?), ("value", of_values()?)];
    let rows = counts.into_iter().flat_map(|(object, tally)| {
        let row = move |(result, count): (&str, i64)| (object.to_owned(), result.to_owned(), count);
        tally.counts.into_iter().map(row)
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// How often each result came up.
struct Tally {
    counts: BTreeMap<&'static str, i64>,
    warnings: usize,
}

impl Tally {
    fn new() -> Self {
        Self { counts: BTreeMap::from([("ok", 0)]), warnings: 0 }
    }

    /// What is not about the box itself is an error of the whole. The first few that are damaged or
    /// moved are told by a WARNING.
    fn add(
        &mut self,
        opened: error::Result<()>,
        place: impl FnOnce() -> String,
    ) -> error::Result<()> {
        const MAX_WARNINGS: usize = 20;
        let result = match opened {
            Ok(()) => "ok",
            Err(Error::Refused(KeyMissing { .. } | Unopened(OpenError::KeyMissing(_)))) => {
                "key missing"
            }
            Err(Error::Refused(Unopened(OpenError::WrongContext))) => "wrong context",
            Err(Error::Refused(Unopened(_))) => "damaged",
            Err(other) => return Err(other),
        };
        if matches!(result, "wrong context" | "damaged") && self.warnings < MAX_WARNINGS {
            self.warnings += 1;
            pgrx::warning!("{result}: {}", place());
        }
        *self.counts.entry(result).or_default() += 1;
        Ok(())
    }
}

fn of_deks(ring: &Ring) -> error::Result<Tally> {
    let mut tally = Tally::new();
    let mut batch = deks::after(None, BATCH)?;
    while let Some(last) = batch.last() {
        let next = deks::after(Some(last), BATCH)?;
        for dek in &batch {
            pgrx::check_for_interrupts!();
            let opened = match seal::key_id(&dek.wrapped) {
                Ok(named) if named != dek.kek_id => Err(misplaced()),
                _ => unwrap(ring, dek).map(|_| ()),
            };
            tally.add(opened, || place(dek))?;
        }
        batch = next;
    }
    Ok(tally)
}

fn of_values() -> error::Result<Tally> {
    let mut tally = Tally::new();
    let mut batch = versions::after(None, BATCH)?;
    while let Some(last) = batch.last() {
        let next = versions::after(Some(last), BATCH)?;
        for value in &batch {
            pgrx::check_for_interrupts!();
            let context = context(value.name(), value.version);
            let mut opened = match seal::key_id(&value.sealed) {
                Ok(named) if named != value.dek_id => Err(misplaced()),
                _ => dek::open(&context, &value.sealed).map(|_| ()),
            };
            if matches!(opened, Err(Error::Refused(Unopened(OpenError::KeyMissing(_))))) {
                // Moved to another key, or deleted, since the batch was read?
                match read(value.name(), value.version) {
                    Ok(None) => continue,
                    again => opened = again.map(|_| ()),
                }
            }
            tally.add(opened, || value.place())?;
        }
        batch = next;
    }
    Ok(tally)
}

/// The row names another key than the box.
fn misplaced() -> Error {
    Unopened(OpenError::WrongContext).into()
}
