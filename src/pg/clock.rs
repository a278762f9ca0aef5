//! The wall clock, never the start of the transaction: a long transaction must not keep a dead
//! token alive.

use super::raw;
use api_tokens_logic::time::Timestamp;

pub fn now() -> Timestamp {
    Timestamp(raw::GetCurrentTimestamp())
}

/// Microseconds of a clock that all processes of the machine share and that never steps back.
pub fn monotonic() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the place it is given; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}
