//! Every difference between the Postgres versions we build for.

use super::raw;
use pgrx::pg_sys;
use std::ffi::CStr;

/// A plain index scan; Postgres 18 takes one more argument, for EXPLAIN's counters.
///
/// # Safety
/// `table` and `index` must be open, and `snapshot` registered, until the scan ends; called inside
/// a guard, see `raw`.
pub unsafe fn index_beginscan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    #[cfg(feature = "pg18")]
    // SAFETY: as promised by the caller; no instrumentation is asked for.
    unsafe {
        raw::index_beginscan(table, index, snapshot, std::ptr::null_mut(), keys, 0)
    }
    #[cfg(not(feature = "pg18"))]
    // SAFETY: as promised by the caller.
    unsafe {
        raw::index_beginscan(table, index, snapshot, keys, 0)
    }
}

/// Keeps names with this prefix for settings that are defined. Otherwise any user could set a
/// placeholder of a name we do not define. Call it once, when all are defined.
pub fn reserve_settings(prefix: &CStr) {
    #[cfg(not(feature = "pg14"))]
    // SAFETY: a NUL-terminated text; looks through the settings there are.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(prefix.as_ptr())
    }
    #[cfg(feature = "pg14")]
    // SAFETY: as above; the name this function had before Postgres 15.
    unsafe {
        pg_sys::EmitWarningsOnPlaceholders(prefix.as_ptr())
    }
}

/// The setting that ends a session in the midst of a transaction, since Postgres 17.
pub const TRANSACTION_TIMEOUT: Option<&CStr> =
    if cfg!(any(feature = "pg17", feature = "pg18")) { Some(c"transaction_timeout") } else { None };

/// The timeline that WAL is written to.
///
/// # Safety
/// Only outside of recovery.
pub unsafe fn insertion_timeline() -> pg_sys::TimeLineID {
    #[cfg(feature = "pg14")]
    // SAFETY: set when recovery ended.
    unsafe {
        pg_sys::ThisTimeLineID
    }
    #[cfg(not(feature = "pg14"))]
    // SAFETY: as promised by the caller.
    unsafe {
        pg_sys::GetWALInsertionTimeLine()
    }
}

/// Are changes of this table logged? One that was made, or emptied, by this transaction is not with
/// `wal_level = minimal`; nor is an unlogged one.
///
/// # Safety
/// `table` must be open.
pub unsafe fn needs_wal(table: pg_sys::Relation) -> bool {
    // SAFETY: as promised by the caller; a variable of this process.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let emptied = (*table).rd_firstRelfilenodeSubid;
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let emptied = (*table).rd_firstRelfilelocatorSubid;
        let is_new = [(*table).rd_createSubid, emptied] != [0; 2];
        let is_permanent =
            (*(*table).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
        let keeps_all = pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32;
        is_permanent && (keeps_all || !is_new)
    }
}
