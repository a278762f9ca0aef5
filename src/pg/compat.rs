//! Every difference between the Postgres versions we build for.

use pgrx::pg_sys;

/// A plain index scan; Postgres 18 takes one more argument, for EXPLAIN's counters.
///
/// # Safety
/// `table` and `index` must be open, and `snapshot` registered, until the scan ends.
pub unsafe fn index_beginscan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    #[cfg(feature = "pg18")]
    // SAFETY: as promised by the caller; no instrumentation is asked for.
    unsafe {
        pg_sys::index_beginscan(table, index, snapshot, std::ptr::null_mut(), keys, 0)
    }
    #[cfg(not(feature = "pg18"))]
    // SAFETY: as promised by the caller.
    unsafe {
        pg_sys::index_beginscan(table, index, snapshot, keys, 0)
    }
}

#[cfg(any(feature = "pg14", feature = "pg15"))]
pub type UpdateIndexes = bool;
#[cfg(not(any(feature = "pg14", feature = "pg15")))]
pub type UpdateIndexes = pg_sys::TU_UpdateIndexes::Type;

/// Did the update need no new index entries (a HOT update)?
pub fn is_hot(update_indexes: UpdateIndexes) -> bool {
    update_indexes == UpdateIndexes::default()
}

/// Enters the tuple in `slot` into all indexes that `target` has open.
///
/// # Safety
/// `target`, `slot` and `estate` must belong together and be live.
pub unsafe fn insert_index_entries(
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) {
    let none = std::ptr::null_mut();
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: as promised by the caller; no speculative insertion, no arbiter indexes.
    unsafe {
        pg_sys::ExecInsertIndexTuples(
            target,
            slot,
            estate,
            true,
            false,
            std::ptr::null_mut(),
            none,
        );
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: as promised by the caller; no speculative insertion, no arbiter indexes.
    unsafe {
        pg_sys::ExecInsertIndexTuples(
            target,
            slot,
            estate,
            true,
            false,
            std::ptr::null_mut(),
            none,
            false,
        );
    }
}
