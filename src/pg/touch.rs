//! The one write a check may make: a timestamp column moved forward, or nothing.
//!
//! It is made on the caller's path, so it must never be felt there: no wait for a row or relation
//! lock, no 40001, no deadlock. Where any of these could happen it is left out, and the next use
//! tries again. An SPI `UPDATE … SKIP LOCKED` cannot promise that: under REPEATABLE READ it raises
//! when the row changed between the look and the lock.

use super::{compat, transaction};
use api_tokens_logic::time::Timestamp;
use pgrx::pg_sys::{self, Datum};

/// # Safety
/// `slot` must hold a tuple of the open `table`, read under the registered `snapshot`, deformed
/// up to `column`, a timestamptz.
pub(super) unsafe fn write(
    table: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: pg_sys::Snapshot,
    column: i16,
    now: Timestamp,
) -> bool {
    if !transaction::can_touch() {
        return false;
    }
    // SAFETY: as promised by the caller.
    unsafe {
        is_mine_to_change(table, slot)
            && lock_table(table)
            && update(table, slot, snapshot, column, now)
    }
}

/// Under REPEATABLE READ a version newer than the transaction's snapshot must stay untouched:
/// our update of it would be visible to us beside the old version, as a second row.
///
/// # Safety
/// As [`write`].
unsafe fn is_mine_to_change(table: pg_sys::Relation, slot: *mut pg_sys::TupleTableSlot) -> bool {
    if !transaction::keeps_its_snapshot() {
        return true;
    }
    // SAFETY: as promised by the caller; called through a pointer, hence the guard.
    unsafe {
        let visible = (*(*table).rd_tableam).tuple_satisfies_snapshot.expect("a table can check");
        let mine = pg_sys::GetTransactionSnapshot();
        pg_sys::ffi::pg_guard_ffi_boundary(|| visible(table, slot, mine))
    }
}

/// The lock an UPDATE takes, until the transaction ends; `false` if it would have to wait.
///
/// # Safety
/// `table` must be open.
unsafe fn lock_table(table: pg_sys::Relation) -> bool {
    // SAFETY: as promised by the caller.
    unsafe { pg_sys::ConditionalLockRelationOid((*table).rd_id, pg_sys::RowExclusiveLock as i32) }
}

/// # Safety
/// As [`write`], with the table locked for writing.
unsafe fn update(
    table: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: pg_sys::Snapshot,
    column: i16,
    now: Timestamp,
) -> bool {
    const DO_NOT_WAIT: bool = false;
    // SAFETY: the new tuple is a copy of the slot's with one by-value column replaced, stored in a
    // slot of the same row type; the access method is the one Postgres itself calls. The arrays
    // hold the one column that heap_modify_tuple_by_cols is told of.
    unsafe {
        let mut free_old = false;
        let old = pg_sys::ExecFetchSlotHeapTuple(slot, false, &mut free_old);
        let (mut number, mut value, mut null) = (i32::from(column), Datum::from(now.0), false);
        let row_type = (*table).rd_att;
        let new =
            pg_sys::heap_modify_tuple_by_cols(old, row_type, 1, &mut number, &mut value, &mut null);
        let new_slot = pg_sys::MakeSingleTupleTableSlot(row_type, &pg_sys::TTSOpsHeapTuple);
        pg_sys::ExecStoreHeapTuple(new, new_slot, false);

        let update = (*(*table).rd_tableam).tuple_update.expect("a table can update rows");
        let mut tid = (*slot).tts_tid;
        let command = pg_sys::GetCurrentCommandId(true);
        let mut failure = pg_sys::TM_FailureData::default();
        let mut lock_mode = pg_sys::LockTupleMode::LockTupleNoKeyExclusive;
        let mut update_indexes = compat::UpdateIndexes::default();
        let result = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            update(
                table,
                &mut tid,
                new_slot,
                command,
                snapshot,
                std::ptr::null_mut(),
                DO_NOT_WAIT,
                &mut failure,
                &mut lock_mode,
                &mut update_indexes,
            )
        });
        let written = result == pg_sys::TM_Result::TM_Ok;
        if written {
            if !compat::is_hot(update_indexes) {
                enter_into_indexes(table, new_slot);
            }
            // So that a second check in the same statement sees it and writes nothing.
            pg_sys::CommandCounterIncrement();
        }
        pg_sys::ExecDropSingleTupleTableSlot(new_slot);
        written
    }
}

/// The page was full, so the new version lies elsewhere and every index must point to it.
///
/// # Safety
/// `slot` must hold a tuple just written to the open `table`.
unsafe fn enter_into_indexes(table: pg_sys::Relation, slot: *mut pg_sys::TupleTableSlot) {
    // Then no column counts as changed, which is true of every indexed one.
    const NO_RANGE_TABLE: u32 = 0;
    // SAFETY: an executor state of our own, used for this one table and freed; the result
    // relation is palloc'd zeroed and initialised as logical replication does it.
    unsafe {
        let estate = pg_sys::CreateExecutorState();
        let target = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
        pg_sys::InitResultRelInfo(target, table, NO_RANGE_TABLE, std::ptr::null_mut(), 0);
        pg_sys::ExecOpenIndices(target, false);
        compat::insert_index_entries(target, slot, estate);
        pg_sys::ExecCloseIndices(target);
        pg_sys::FreeExecutorState(estate);
    }
}
