//! Deleting the long dead.

use super::Answer;
use crate::error::Result;
use crate::pg::argument::IntervalValue;
use crate::pg::{clock, transaction};
use crate::store::events::{self, Event};
use crate::{guc, store};
use api_tokens_logic::event::Method;
use api_tokens_logic::input;
use pgrx::pg_extern;

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_cleanup(older_than: Option<IntervalValue>, max_rows: Option<i64>) -> Answer<i64> {
    transaction::require_writable(c"api_token_cleanup()");
    Ok(cleanup(older_than, max_rows)?)
}

fn cleanup(older_than: Option<IntervalValue>, max_rows: Option<i64>) -> Result<i64> {
    let age = input::not_negative("older_than", older_than.map(|age| age.span()))?;
    let max_rows = input::row_limit("max_rows", max_rows)?;
    let now = clock::now();
    let deleted = store::cleanup::delete_dead(now.minus(age), max_rows)? as i64;
    store::quotas::close_orphaned(max_rows)?;
    store::quotas::settle(max_rows)?;
    store::usage::delete_old(now, max_rows)?;
    store::cleanup::delete_old_events(now.minus(guc::event_retention()), max_rows)?;
    if deleted > 0 {
        events::record(Method::Cleanup, Event { count: Some(deleted), ..Event::default() })?;
    }
    Ok(deleted)
}
