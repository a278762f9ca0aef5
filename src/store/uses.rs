//! Uses of tokens: kept in shared memory if there is some, and written to the table together.
//!
//! They are written in place: not in a transaction, so nothing is told to the map that could be
//! rolled back. A flush is handed the uses it writes, and gives back what it could not write, so
//! none is counted twice, whatever becomes of the flush and however many there are.

use super::membership::members;
use super::tokens;
use super::usage::Beginnings;
use crate::error::Result;
use crate::guc;
use crate::pg::raise::Raise;
use crate::pg::shmem::{self, Shared};
use crate::pg::{random, transaction, worker};
use api_tokens_logic::counters::Event;
use api_tokens_logic::time::{Span, Timestamp};
use api_tokens_logic::touch_map::{Key, Pending, Recorded};
use pgrx::spi::SpiResult;
use pgrx::{Spi, Uuid};
use std::cell::Cell;

fn key(token_id: &[u8; 16]) -> Key {
    Key { database: shmem::database(), token_id: *token_id }
}

/// When the token was last used, if that is known here and not yet in the table.
pub fn last_use(token_id: &Uuid) -> Option<Timestamp> {
    shmem::shared()?.map().last_use(&key(token_id.as_bytes()))
}

/// Keeps a use in shared memory and sees to it that it will be written; `false` if the row must be
/// written instead. First the use, then the flush: a worker that ends looks for uses after it has
/// let go of its claim.
pub fn keep(token_id: &Uuid, now: Timestamp) -> bool {
    let Some(shared) = shmem::shared() else { return false };
    let counters = shared.counters();
    match shared.map().record(&key(token_id.as_bytes()), now) {
        Recorded::Full if transaction::is_in_recovery() => {
            // Nothing is written on a standby, so no place would ever become free.
            shared.map().record_evicting(&key(token_id.as_bytes()), now);
            counters.count(Event::Eviction, 1);
        }
        Recorded::Full => {
            counters.count(Event::MapFull, 1);
            return false;
        }
        Recorded::KeptEvicting => counters.count(Event::Eviction, 1),
        Recorded::Kept => {}
    }
    counters.count(Event::Coalesced, 1);
    worker::ensure_flush(guc::flush_interval(), 0)
}

pub fn note_row_write() {
    if let Some(shared) = shmem::shared() {
        shared.counters().count(Event::RowWrite, 1);
    }
}

/// Uses handed out to be written together; what is not written is given back when it is dropped.
pub struct Batch<'a> {
    shared: &'a Shared,
    uses: Vec<Pending>,
    is_done: Vec<Cell<bool>>,
}

const BATCH: usize = 10_000;

/// How many uses a batch has after so many failures in a row: in the end one, so that a row that
/// cannot be written holds up nothing but itself.
fn batch_size(failures: u32) -> usize {
    (BATCH >> failures.saturating_mul(2).min(16)).max(1)
}

/// What has to be written for this session's database, in batches, from another place each time.
pub fn pending(shared: &Shared, failures: u32) -> impl Iterator<Item = Batch<'_>> {
    let (map, database, size) = (shared.map(), shmem::database(), batch_size(failures));
    let count = map.bucket_count();
    let start = u32::from_ne_bytes(random::bytes()) as usize % count;
    let mut buckets = (start..count).chain(0..start);
    std::iter::from_fn(move || {
        let mut uses = Vec::new();
        while uses.len() < size {
            let Some(bucket) = buckets.next() else { break };
            uses.extend(map.hand_out(bucket, database));
        }
        let is_done = vec![Cell::new(false); uses.len()];
        (!uses.is_empty()).then_some(Batch { shared, uses, is_done })
    })
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for (used, is_done) in self.uses.iter().zip(&self.is_done) {
            if !is_done.get() {
                self.shared.map().give_back(&key(&used.token_id), used.uses);
            }
        }
    }
}

/// Is anything left to be written for this session's database?
pub fn is_any_pending(shared: &Shared) -> bool {
    let (map, database) = (shared.map(), shmem::database());
    (0..map.bucket_count()).any(|bucket| map.is_pending(bucket, database))
}

/// Writes a batch and tells the map; says how many rows it wrote, `None` if the extension is not in
/// this database. A row that somebody else holds is left for the next time; a token that is gone
/// has no uses to remember, unless it may not have been committed yet.
pub fn write(batch: &Batch, now: Timestamp) -> Result<Option<u64>> {
    const TO_COMMIT: Span = Span(60_000_000);
    if !is_installed()? {
        return Ok(None);
    }
    let raises: Vec<Raise> = batch
        .uses
        .iter()
        .map(|used| Raise {
            key: used.token_id,
            timestamp: used.last_use,
            counter: used.uses.cast_signed(),
        })
        .collect();
    let mut rows = 0;
    let mut beginnings = Beginnings::default();
    let written = |at: usize| {
        let used = &batch.uses[at];
        batch.shared.map().written(&key(&used.token_id), used.uses);
        batch.is_done[at].set(true);
    };
    tokens::raise(
        &raises,
        &mut |at, before| {
            written(at);
            rows += 1;
            beginnings.note(&raises[at], before);
        },
        &mut |at| {
            if now.since(batch.uses[at].last_use) > TO_COMMIT {
                written(at);
            }
        },
    );
    beginnings.write()?;
    Ok(Some(rows))
}

/// Is the extension in this database, its tables locked against DROP until the transaction ends, in
/// the order in which DROP EXTENSION locks them?
/// The worker writes with a superuser's rights and outside of SQL: a table that merely has the
/// name must not be taken for ours.
fn is_installed() -> Result<bool> {
    const MEMBERS: &str = concat!(
        members!("pg_class"),
        " AND d.objid OPERATOR(pg_catalog.=) ANY (ARRAY[pg_catalog.to_regclass('api_tokens.tokens')::pg_catalog.oid,
            pg_catalog.to_regclass('api_tokens.usage_hours')])"
    );
    let is_member =
        || Spi::connect(|client| client.select(MEMBERS, None, &[]).map(|rows| rows.len() == 2));
    if !is_member()? {
        return Ok(false);
    }
    Spi::connect_mut(|client| {
        const LOCK: &str =
            "LOCK TABLE api_tokens.tokens, api_tokens.usage_hours IN ACCESS SHARE MODE";
        client.update(LOCK, None, &[]).map(|_| ())
    })?;
    Ok(is_member()?)
}

/// Databases that exist, by oid.
pub fn databases() -> Result<Vec<u32>> {
    const SQL: &str = "SELECT oid FROM pg_catalog.pg_database";
    let oids = Spi::connect(|client| {
        let rows = client.select(SQL, None, &[])?;
        rows.map(|row| row.get::<pgrx::pg_sys::Oid>(1)).collect::<SpiResult<Vec<_>>>()
    })?;
    Ok(oids.into_iter().flatten().map(|oid| oid.to_u32()).collect())
}
