//! What the current transaction is and may do.

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

/// Could a row be updated here, without asking any row yet?
///
/// Not under SERIALIZABLE: the write would join this transaction's conflicts with others, and a
/// touch must never be what aborts it.
pub(super) fn can_touch() -> bool {
    // SAFETY: these read backend-local state and one shared flag.
    unsafe {
        !pg_sys::XactReadOnly
            && pg_sys::XactIsoLevel != pg_sys::XACT_SERIALIZABLE as i32
            && !pg_sys::IsInParallelMode()
            && !pg_sys::RecoveryInProgress()
    }
}

/// Does one snapshot serve the whole transaction (REPEATABLE READ and above)?
pub(super) fn keeps_its_snapshot() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// The cluster's identity, which names the space its transaction ids belong to.
pub fn system_identifier() -> i64 {
    // SAFETY: reads a field of the control file that is in shared memory since startup.
    unsafe { pg_sys::GetSystemIdentifier() }.cast_signed()
}
