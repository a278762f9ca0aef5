//! Uses of tokens: kept in shared memory if there is some, and written to the table together.
//!
//! They are written in place: not in a transaction, so nothing is told to the map that could be
//! rolled back. After a crash between the two a batch may be counted twice.

use super::membership::members;
use super::tokens;
use crate::error::Result;
use crate::guc;
use crate::pg::raise::{Outcome, Raise};
use crate::pg::shmem::{self, Shared};
use crate::pg::worker;
use api_tokens_logic::counters::Event;
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::touch_map::{Key, Pending, Recorded};
use pgrx::spi::SpiResult;
use pgrx::{Spi, Uuid};

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
        Recorded::Full => {
            counters.count(Event::MapFull, 1);
            return false;
        }
        Recorded::KeptEvicting => counters.count(Event::Eviction, 1),
        Recorded::Kept => {}
    }
    counters.count(Event::Coalesced, 1);
    worker::ensure_flush(guc::flush_interval())
}

pub fn note_row_write() {
    if let Some(shared) = shmem::shared() {
        shared.counters().count(Event::RowWrite, 1);
    }
}

const BATCH: usize = 10_000;

/// What has to be written for this session's database, in batches.
pub fn pending(shared: &Shared) -> Vec<Vec<Pending>> {
    let (map, database) = (shared.map(), shmem::database());
    let all: Vec<Pending> =
        (0..map.bucket_count()).flat_map(|bucket| map.pending(bucket, database)).collect();
    all.chunks(BATCH).map(<[Pending]>::to_vec).collect()
}

/// Is anything left to be written for this session's database?
pub fn is_any_pending(shared: &Shared) -> bool {
    let (map, database) = (shared.map(), shmem::database());
    (0..map.bucket_count()).any(|bucket| map.pending(bucket, database).next().is_some())
}

/// Writes a batch and tells the map; says how many rows it wrote, `None` if the extension is not in
/// this database. A row that somebody else holds is left for the next time; a token that is gone
/// has no uses to remember.
pub fn write(shared: &Shared, batch: &[Pending]) -> Result<Option<u64>> {
    if !is_installed()? {
        return Ok(None);
    }
    let raises: Vec<Raise> = batch
        .iter()
        .map(|used| Raise {
            key: used.token_id,
            timestamp: used.last_use,
            counter: used.uses.cast_signed(),
        })
        .collect();
    let outcomes = tokens::raise(&raises);
    for (used, outcome) in batch.iter().zip(&outcomes) {
        if *outcome != Outcome::Held {
            shared.map().written(&key(&used.token_id), used.uses);
        }
    }
    Ok(Some(outcomes.iter().filter(|outcome| **outcome == Outcome::Raised).count() as u64))
}

/// Is the extension in this database, its table locked against DROP until the transaction ends?
/// The worker writes with a superuser's rights and outside of SQL: a table that merely has the
/// name must not be taken for ours.
fn is_installed() -> Result<bool> {
    const IS_MEMBER: &str = concat!(
        members!("pg_class"),
        " AND d.objid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('api_tokens.tokens')"
    );
    let is_member = || {
        Spi::connect(|client| client.select(IS_MEMBER, Some(1), &[]).map(|rows| !rows.is_empty()))
    };
    if !is_member()? {
        return Ok(false);
    }
    Spi::connect_mut(|client| {
        client.update("LOCK TABLE api_tokens.tokens IN ACCESS SHARE MODE", None, &[]).map(|_| ())
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
