//! The wall clock, never the start of the transaction: a long transaction must not keep a dead
//! token alive.

use super::raw;
use api_tokens_logic::time::Timestamp;

pub fn now() -> Timestamp {
    Timestamp(raw::GetCurrentTimestamp())
}
