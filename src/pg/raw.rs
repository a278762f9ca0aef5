//! The functions that a check calls, as Postgres exports them.
//!
//! pgrx guards each call of its own bindings against a Postgres ERROR with a sigsetjmp. A check
//! makes some fifteen calls in a row, and one guard around a row of them is enough; together the
//! others cost about a tenth of the check. So these are called inside
//! [`pgrx::pg_sys::ffi::pg_guard_ffi_boundary`], and nowhere else, with nothing on the stack of the
//! guarded closure that has a destructor.

use pgrx::pg_sys::{
    AttrNumber, Buffer, Datum, HeapTuple, HeapTupleHeader, IndexScanDesc, LOCKMODE, List, Oid,
    RegProcedure, Relation, ScanDirection, ScanKey, Snapshot, StrategyNumber, TimestampTz,
    TupleDesc, TupleTableSlot, XLogRecPtr,
};
use std::ffi::{c_int, c_void};

unsafe extern "C-unwind" {
    pub fn table_open(relation: Oid, lock: LOCKMODE) -> Relation;
    pub fn table_close(relation: Relation, lock: LOCKMODE);
    pub fn index_open(relation: Oid, lock: LOCKMODE) -> Relation;
    pub fn index_close(relation: Relation, lock: LOCKMODE);
    pub fn GetLatestSnapshot() -> Snapshot;
    pub fn RegisterSnapshot(snapshot: Snapshot) -> Snapshot;
    pub fn UnregisterSnapshot(snapshot: Snapshot);
    pub fn table_slot_create(relation: Relation, list: *mut *mut List) -> *mut TupleTableSlot;
    pub fn ExecDropSingleTupleTableSlot(slot: *mut TupleTableSlot);
    #[cfg(not(feature = "pg18"))]
    pub fn index_beginscan(
        table: Relation,
        index: Relation,
        snapshot: Snapshot,
        keys: c_int,
        order_bys: c_int,
    ) -> IndexScanDesc;
    #[cfg(feature = "pg18")]
    pub fn index_beginscan(
        table: Relation,
        index: Relation,
        snapshot: Snapshot,
        instrumentation: *mut c_void,
        keys: c_int,
        order_bys: c_int,
    ) -> IndexScanDesc;
    pub fn index_endscan(scan: IndexScanDesc);
    pub fn index_rescan(
        scan: IndexScanDesc,
        keys: ScanKey,
        key_count: c_int,
        order_bys: ScanKey,
        order_by_count: c_int,
    );
    pub fn index_getnext_slot(
        scan: IndexScanDesc,
        direction: ScanDirection::Type,
        slot: *mut TupleTableSlot,
    ) -> bool;
    pub fn slot_getsomeattrs_int(slot: *mut TupleTableSlot, last: c_int);
    pub fn heap_form_tuple(row_type: TupleDesc, values: *mut Datum, nulls: *mut bool) -> HeapTuple;
    pub fn HeapTupleHeaderGetDatum(tuple: HeapTupleHeader) -> Datum;
    pub fn MarkBufferDirty(buffer: Buffer);
    pub fn XLogBeginInsert();
    pub fn XLogRegisterBuffer(block: u8, buffer: Buffer, flags: u8);
    pub fn XLogRegisterBufData(block: u8, data: *const c_void, length: u32);
    pub fn XLogInsert(manager: u8, info: u8) -> XLogRecPtr;
    /// Reads the clock and cannot raise, so it needs no guard.
    pub safe fn GetCurrentTimestamp() -> TimestampTz;
    pub fn ScanKeyInit(
        entry: ScanKey,
        attribute: AttrNumber,
        strategy: StrategyNumber,
        procedure: RegProcedure,
        argument: Datum,
    );
}
