//! Uses of tokens: kept in shared memory if there is some, and written to the table together.

use super::statement::{self, statement};
use crate::error::Result;
use crate::pg::datum::timestamptz;
use crate::pg::shmem::{self, Shared};
use crate::pg::worker;
use api_tokens_logic::counters::count;
use api_tokens_logic::time::Timestamp;
use api_tokens_logic::touch_map::{Key, Pending, Recorded};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiResult;
use pgrx::{Spi, Uuid};

fn key(token_id: &Uuid) -> Key {
    Key { database: shmem::database(), token_id: *token_id.as_bytes() }
}

/// When the token was last used, if that is known here and not yet in the table.
pub fn last_use(token_id: &Uuid) -> Option<Timestamp> {
    shmem::shared()?.map().last_use(&key(token_id))
}

/// Keeps a use in shared memory and sees to it that it will be written; `false` if the row must be
/// written instead.
pub fn keep(token_id: &Uuid, now: Timestamp) -> bool {
    let Some(shared) = shmem::shared() else { return false };
    let counters = shared.counters();
    if !worker::ensure_flush() {
        return false;
    }
    match shared.map().record(&key(token_id), now) {
        Recorded::Full => {
            count(&counters.map_full, 1);
            return false;
        }
        Recorded::KeptEvicting => count(&counters.evictions, 1),
        Recorded::Kept => {}
    }
    count(&counters.coalesced, 1);
    true
}

pub fn note_row_write() {
    if let Some(shared) = shmem::shared() {
        count(&shared.counters().row_writes, 1);
    }
}

statement!(FLUSH = "
    WITH used AS MATERIALIZED (
        SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))
            AS u(token_id, last_use, uses)),
    free AS MATERIALIZED (
        SELECT token_id FROM api_tokens.tokens
        WHERE token_id OPERATOR(pg_catalog.=) ANY ($1)
        ORDER BY token_id FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE api_tokens.tokens t
    SET last_used_at = GREATEST(t.last_used_at, used.last_use),
        use_count = t.use_count OPERATOR(pg_catalog.+) used.uses
    FROM used JOIN free ON free.token_id OPERATOR(pg_catalog.=) used.token_id
    WHERE t.token_id OPERATOR(pg_catalog.=) used.token_id
    RETURNING t.token_id");
statement!(
    GONE = "
    SELECT id FROM pg_catalog.unnest($1) id
    WHERE NOT EXISTS (SELECT FROM api_tokens.tokens t WHERE t.token_id OPERATOR(pg_catalog.=) id)"
);

/// One batch of uses that can be written together.
pub struct Batch(Vec<Pending>);

/// What came of writing a batch, to be told to the map once the transaction has committed.
#[derive(Default)]
pub struct Written {
    settled: Vec<Uuid>,
    pub rows: u64,
}

const BATCH: usize = 10_000;

/// What has to be written for this session's database, in batches.
pub fn pending(shared: &Shared) -> Vec<Batch> {
    let (map, database) = (shared.map(), shmem::database());
    let all: Vec<Pending> =
        (0..map.bucket_count()).flat_map(|bucket| map.pending(bucket, database)).collect();
    all.chunks(BATCH).map(|batch| Batch(batch.to_vec())).collect()
}

/// Writes a batch. A row that somebody else holds is left for the next time; a token that is gone
/// has no uses to remember.
pub fn write(batch: &Batch) -> Result<Written> {
    let ids: Vec<Uuid> = batch.0.iter().map(|used| Uuid::from_bytes(used.token_id)).collect();
    let times: Vec<TimestampWithTimeZone> =
        batch.0.iter().map(|used| timestamptz(used.last_use)).collect();
    let uses: Vec<i64> = batch.0.iter().map(|used| used.uses.cast_signed()).collect();
    let arguments = [ids.clone().into(), times.into(), uses.into()];
    let mut settled = FLUSH.with(|flush| flush.run(&arguments, statement::ids))?;
    let rows = settled.len() as u64;
    if settled.len() < ids.len() {
        settled.extend(GONE.with(|gone| gone.run(&[ids.into()], statement::ids))?);
    }
    Ok(Written { settled, rows })
}

/// The batch is committed: its uses are no longer pending.
pub fn settle(shared: &Shared, batch: &Batch, written: &Written) {
    let settled: std::collections::HashSet<&[u8; 16]> =
        written.settled.iter().map(Uuid::as_bytes).collect();
    for used in batch.0.iter().filter(|used| settled.contains(&used.token_id)) {
        let key = Key { database: shmem::database(), token_id: used.token_id };
        shared.map().written(&key, used.uses);
    }
}

/// Is the extension still in this database?
pub fn is_installed() -> Result<bool> {
    const SQL: &str = "SELECT pg_catalog.to_regclass('api_tokens.tokens') IS NOT NULL";
    let installed = Spi::connect(|client| client.select(SQL, Some(1), &[])?.first().get_one())?;
    Ok(installed == Some(true))
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
