//! What the current transaction is and may do.

use super::compat;
use api_tokens_logic::cursor::History;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Raises 25006 where nothing can be written, in the words Postgres uses for its own commands.
pub fn require_writable(function: &CStr) {
    // SAFETY: both read the transaction's state and raise an ERROR at most.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(function.as_ptr());
        pg_sys::PreventCommandIfParallelMode(function.as_ptr());
    }
}

/// Could a page be changed here?
pub(super) fn can_touch() -> bool {
    // SAFETY: these read backend-local state.
    unsafe { !pg_sys::XactReadOnly && !pg_sys::IsInParallelMode() && !is_in_recovery() }
}

/// Does one snapshot serve the whole transaction (REPEATABLE READ and above)?
pub fn keeps_its_snapshot() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

pub fn is_in_recovery() -> bool {
    // SAFETY: reads a flag in shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// The history that transaction ids belong to: the cluster's system identifier, and its timeline,
/// since after a promotion some ids are used again. On a standby, the timeline it follows.
pub fn history() -> History {
    // SAFETY: read fields of shared memory; the insertion timeline only outside of recovery, where
    // it is set.
    unsafe {
        let mut timeline = 0;
        if is_in_recovery() {
            pg_sys::GetXLogReplayRecPtr(&mut timeline);
        } else {
            timeline = compat::insertion_timeline();
        }
        let cluster = pg_sys::GetSystemIdentifier().cast_signed();
        History { cluster, timeline: timeline.cast_signed() }
    }
}
