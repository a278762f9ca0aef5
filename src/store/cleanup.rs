//! Deleting what has been dead for long enough, and old events.

use super::statement::statement;
use crate::error::Result;
use crate::pg::datum::timestamptz;
use api_tokens_logic::time::Timestamp;

// Two ways to have died, one index each: a known date of death in its order, and idleness, which
// no index can hold without making every touch pay for it. Each branch locks what it picks and
// skips what others hold, so that a rotation under way wins. The array, not a join,
// keeps the planner from a sequential scan when it misjudges how much has died.
statement!(
    DELETE_DEAD = "
    WITH dated AS MATERIALIZED (
        SELECT token_id, LEAST(revoked_at, expires_at) AS died_at FROM api_tokens.tokens
        WHERE LEAST(revoked_at, expires_at) OPERATOR(pg_catalog.<) $1
        ORDER BY LEAST(revoked_at, expires_at) LIMIT $2 FOR UPDATE SKIP LOCKED),
    idle AS MATERIALIZED (
        SELECT token_id, last_used_at OPERATOR(pg_catalog.+) max_idle AS died_at
        FROM api_tokens.tokens
        WHERE max_idle IS NOT NULL
            AND ($1 OPERATOR(pg_catalog.-) last_used_at) OPERATOR(pg_catalog.>) max_idle
            AND ($1 OPERATOR(pg_catalog.-) api_tokens.live_last_use(token_id, last_used_at))
                OPERATOR(pg_catalog.>) max_idle
            AND (LEAST(revoked_at, expires_at) OPERATOR(pg_catalog.<) $1) IS NOT TRUE
        ORDER BY last_used_at OPERATOR(pg_catalog.+) max_idle LIMIT $2 FOR UPDATE SKIP LOCKED),
    oldest AS MATERIALIZED (
        SELECT token_id FROM (SELECT * FROM dated UNION ALL SELECT * FROM idle) dead
        ORDER BY died_at LIMIT $2),
    forgotten AS (
        DELETE FROM api_tokens.usage_hours
        WHERE token_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT token_id FROM oldest)))
    DELETE FROM api_tokens.tokens
    WHERE token_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT token_id FROM oldest))"
);

/// Deletes up to `max_rows` tokens that died before `cutoff`, oldest first, and their hours of use;
/// says how many tokens. (An hour that a flush writes at this moment goes when it is old.)
pub fn delete_dead(cutoff: Timestamp, max_rows: Option<i64>) -> Result<usize> {
    let arguments = [timestamptz(cutoff).into(), max_rows.into()];
    DELETE_DEAD.with(|delete| delete.execute(&arguments))
}

statement!(
    DELETE_OLD_EVENTS = "
    WITH old AS MATERIALIZED (
        SELECT event_id FROM api_tokens.events
        WHERE at OPERATOR(pg_catalog.<) $1
        ORDER BY event_id LIMIT $2 FOR UPDATE SKIP LOCKED)
    DELETE FROM api_tokens.events
    WHERE event_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT event_id FROM old))"
);

pub fn delete_old_events(cutoff: Timestamp, max_rows: Option<i64>) -> Result<usize> {
    let arguments = [timestamptz(cutoff).into(), max_rows.into()];
    DELETE_OLD_EVENTS.with(|delete| delete.execute(&arguments))
}
