//! The wall clock, never the start of the transaction: a long transaction must not keep a dead
//! token alive.

use api_tokens_logic::time::Timestamp;
use pgrx::pg_sys;

pub fn now() -> Timestamp {
    // SAFETY: reads the system clock; no preconditions.
    Timestamp(unsafe { pg_sys::GetCurrentTimestamp() })
}
