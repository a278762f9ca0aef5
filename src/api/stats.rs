//! Counters of the server, for a dashboard.

use super::Answer;
use crate::error::Result;
use crate::pg::datum::timestamptz;
use crate::pg::record::{Record, Shape, value};
use crate::pg::{clock, shmem};
use api_tokens_logic::Error;
use api_tokens_logic::counters::Event;
use pgrx::datum::JsonB;
use pgrx::{pg_extern, pg_sys};

thread_local! {
    static STATS: Shape = const { Shape::new(&[
        (c"calls", pg_sys::INT8OID),
        (c"accepted", pg_sys::INT8OID),
        (c"refused", pg_sys::JSONBOID),
        (c"touches_coalesced", pg_sys::INT8OID),
        (c"touches_written", pg_sys::INT8OID),
        (c"map_capacity", pg_sys::INT8OID),
        (c"map_used", pg_sys::INT8OID),
        (c"map_pending", pg_sys::INT8OID),
        (c"map_evictions", pg_sys::INT8OID),
        (c"map_full", pg_sys::INT8OID),
        (c"flushes", pg_sys::INT8OID),
        (c"rows_flushed", pg_sys::INT8OID),
        (c"flush_failures", pg_sys::INT8OID),
        (c"last_flush_at", pg_sys::TIMESTAMPTZOID),
        (c"last_error", pg_sys::TEXTOID),
        (c"rate_map_capacity", pg_sys::INT8OID),
        (c"rate_map_used", pg_sys::INT8OID),
    ]) };
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_stats() -> Answer<Record> {
    Ok(stats()?)
}

fn stats() -> Result<Record> {
    let shared = shmem::shared().ok_or(Error::NotPreloaded)?;
    let totals = shared.totals();
    let refused: Vec<(&str, u64)> =
        totals.refused().map(|(reason, count)| (reason.as_str(), count)).collect();
    let total: u64 = refused.iter().map(|(_, count)| count).sum();
    let by_reason: serde_json::Map<String, serde_json::Value> =
        refused.into_iter().map(|(reason, count)| (reason.to_owned(), count.into())).collect();
    let (used, pending) = shared.map().census();
    let number = |number: u64| value(number.cast_signed());
    let columns = [
        number(totals.accepted() + total),
        number(totals.accepted()),
        value(JsonB(by_reason.into())),
        number(totals.events(Event::Coalesced)),
        number(totals.events(Event::RowWrite)),
        number(shared.capacity() as u64),
        number(used as u64),
        number(pending as u64),
        number(totals.events(Event::Eviction)),
        number(totals.events(Event::MapFull)),
        number(totals.events(Event::Flush)),
        number(totals.events(Event::RowFlushed)),
        number(totals.events(Event::FlushFailure)),
        value(totals.last_flush().map(timestamptz)),
        value(totals.last_error()),
        number(shared.rate_capacity() as u64),
        number(shared.rates().used(clock::monotonic()) as u64),
    ];
    Ok(STATS.with(|stats| stats.form(&columns)))
}
