//! What the current transaction is and may do.

use super::compat;
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
    // SAFETY: these read backend-local state and one shared flag.
    unsafe { !pg_sys::XactReadOnly && !pg_sys::IsInParallelMode() && !pg_sys::RecoveryInProgress() }
}

/// Does one snapshot serve the whole transaction (REPEATABLE READ and above)?
pub fn keeps_its_snapshot() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// The history that transaction ids belong to: the cluster, and its timeline, since a promoted or
/// restored copy uses some ids again. On a standby, the timeline it follows.
pub fn history() -> i64 {
    // SAFETY: read fields of shared memory; the insertion timeline only outside of recovery, where
    // it is set.
    let (cluster, timeline) = unsafe {
        let mut timeline = 0;
        if pg_sys::RecoveryInProgress() {
            pg_sys::GetXLogReplayRecPtr(&mut timeline);
        } else {
            timeline = compat::insertion_timeline();
        }
        (pg_sys::GetSystemIdentifier(), timeline)
    };
    cluster.wrapping_add(timeline.into()).cast_signed()
}
