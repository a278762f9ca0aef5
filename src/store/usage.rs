//! Uses per hour: where in a token's use count each hour begins in which it was used.
//!
//! A flush that moves a token's last use into another hour writes one row; all others write none.
//! The counts themselves are raised in place, before and outside of the transaction that writes the
//! row. If that fails, the row is missing for good, and the uses of its hour count to the one before;
//! also if a check wrote the last use itself, into a new hour, because the map was full.

use super::statement::statement;
use crate::error::Result;
use crate::pg::datum::timestamptz;
use crate::pg::raise::{Before, Raise};
use api_tokens_logic::time::{Span, Timestamp};
use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;

/// Hours that have begun for tokens, and their use counts before that.
#[derive(Default)]
pub(super) struct Beginnings {
    token_ids: Vec<Uuid>,
    hours: Vec<TimestampWithTimeZone>,
    uses_before: Vec<i64>,
}

// Known already is an hour if a token's last use was set back, by whoever may write to the table.
statement!(
    INSERT = "
    INSERT INTO api_tokens.usage_hours (token_id, hour, uses_before)
    SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))
    ON CONFLICT (token_id, hour) DO NOTHING"
);

impl Beginnings {
    /// Takes note of a token that was raised, if an hour has begun for it. A token that was never
    /// used has a last use too, its creation.
    pub fn note(&mut self, raise: &Raise, before: Before) {
        let hour = raise.timestamp.max(before.timestamp).hour();
        if before.counter == 0 || before.timestamp.hour() != hour {
            self.token_ids.push(Uuid::from_bytes(raise.key));
            self.hours.push(timestamptz(hour));
            self.uses_before.push(before.counter);
        }
    }

    pub fn write(self) -> Result<()> {
        if !self.token_ids.is_empty() {
            let arguments = [self.token_ids.into(), self.hours.into(), self.uses_before.into()];
            INSERT.with(|insert| insert.execute(&arguments))?;
        }
        Ok(())
    }
}

/// As far back as `api_token_usage` looks.
const KEPT: Span = Span::from_seconds(30 * 24 * 60 * 60);

// By their place: they are locked, so it stays theirs.
statement!(
    DELETE_OLD = "
    DELETE FROM api_tokens.usage_hours
    WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
        SELECT ctid FROM api_tokens.usage_hours
        WHERE hour OPERATOR(pg_catalog.<) $1
        ORDER BY hour LIMIT $2 FOR UPDATE SKIP LOCKED))"
);

/// What one statement keeps in mind.
const BATCH: i64 = 100_000;

/// Deletes up to `max_rows` hours that nobody is told of any more, oldest first.
pub fn delete_old(now: Timestamp, max_rows: Option<i64>) -> Result<()> {
    let mut left = max_rows.unwrap_or(i64::MAX);
    while left > 0 {
        pgrx::check_for_interrupts!();
        let batch = left.min(BATCH);
        let arguments = [timestamptz(now.minus(KEPT)).into(), batch.into()];
        let deleted = DELETE_OLD.with(|delete| delete.execute(&arguments))? as i64;
        if deleted < batch {
            break;
        }
        left -= deleted;
    }
    Ok(())
}
