//! One row by a unique index, as it was committed last.
//!
//! A plain index scan, no SPI and no plan: about a third of the cost. Its snapshot is the latest
//! one, not the transaction's: under REPEATABLE READ the transaction's own would keep a revoked
//! token valid for as long as the transaction lasts. Taking it is forbidden in parallel mode, so
//! every function that gets here is PARALLEL UNSAFE.

use super::datum::{self, Element};
pub use super::touch::{FixedColumn, Patience};
use super::{clock, compat, touch};
use api_tokens_logic::network::Network;
use api_tokens_logic::time::{Span, Timestamp};
use pgrx::pg_sys::{self, Datum};
use std::ffi::CStr;

/// A unique index over one column, by name: names survive DROP and CREATE EXTENSION, oids do not.
pub struct UniqueIndex {
    pub schema: &'static CStr,
    pub table: &'static CStr,
    pub index: &'static CStr,
    /// The highest column number that readers ask for.
    pub columns: i32,
}

/// The value looked for, of the indexed column's type.
pub enum Key<'a> {
    Bytea32(&'a [u8; 32]),
    Uuid(&'a [u8; 16]),
}

/// What to do with the row that is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    None,
    /// `FOR NO KEY UPDATE`: waits for whoever changes the row, then shows what they left. Unlike
    /// SQL's, it does not raise 40001 under REPEATABLE READ: what follows decides about that.
    NoKeyUpdate,
}

/// A row under the scan; it lives as long as the closure it is given to.
pub struct Row<'a> {
    table: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    scan: std::marker::PhantomData<&'a Scan>,
}

impl UniqueIndex {
    /// Gives `read` the row with this key, or `None`, and closes everything behind it.
    pub fn find<R>(&self, key: Key, lock: Lock, read: impl FnOnce(Option<Row>) -> R) -> R {
        let scan = Scan::begin(self);
        let found = scan.seek(&key) && (lock == Lock::None || scan.lock());
        read(found.then(|| scan.row(self.columns)))
    }

    /// Gives `read` the row for each key in turn, all as of the same moment. `None` finds nothing.
    pub fn find_each<'k>(
        &self,
        keys: impl Iterator<Item = Option<Key<'k>>>,
        mut read: impl FnMut(Option<Row>),
    ) {
        let scan = Scan::begin(self);
        for key in keys {
            pgrx::check_for_interrupts!();
            let found = key.is_some_and(|key| scan.seek(&key));
            read(found.then(|| scan.row(self.columns)));
        }
    }
}

/// A 32-byte bytea on the stack: 4 bytes of header, then the data.
#[repr(C, align(4))]
struct Bytea32([u8; 36]);

impl Bytea32 {
    fn hold(&mut self, bytes: &[u8; 32]) -> Datum {
        self.0[4..].copy_from_slice(bytes);
        // SAFETY: the buffer is aligned for a varlena header and as long as it says.
        unsafe { pgrx::set_varsize_4b(self.0.as_mut_ptr().cast(), self.0.len() as i32) };
        Datum::from(self.0.as_ptr())
    }
}

struct Scan {
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    slot: *mut pg_sys::TupleTableSlot,
    scan: pg_sys::IndexScanDesc,
}

impl Scan {
    fn begin(of: &UniqueIndex) -> Self {
        const LOCK: i32 = pg_sys::AccessShareLock as i32;
        // SAFETY: opens by oids just looked up (a dropped relation raises an ERROR), and hands
        // each object to the next call as Postgres' own index scans do.
        unsafe {
            let schema = pg_sys::get_namespace_oid(of.schema.as_ptr(), false);
            let table = pg_sys::get_relname_relid(of.table.as_ptr(), schema);
            let index = pg_sys::get_relname_relid(of.index.as_ptr(), schema);
            let table = pg_sys::table_open(table, LOCK);
            let index = pg_sys::index_open(index, LOCK);
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
            let scan = compat::index_beginscan(table, index, snapshot, 1);
            Self { table, index, snapshot, slot, scan }
        }
    }

    /// Brings the row with this key into the slot; `false` if there is none.
    fn seek(&self, key: &Key) -> bool {
        let mut bytea = Bytea32([0; 36]);
        let (argument, equals) = match key {
            Key::Bytea32(bytes) => (bytea.hold(bytes), pg_sys::F_BYTEAEQ),
            Key::Uuid(bytes) => (Datum::from(bytes.as_ptr()), pg_sys::F_UUID_EQ),
        };
        // SAFETY: the scan and its slot are open. The scan copies the key; what its argument
        // points to lives in this frame until the one match of a unique index is fetched.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            let equal = pg_sys::BTEqualStrategyNumber as u16;
            pg_sys::ScanKeyInit(&mut key, 1, equal, equals.into(), argument);
            pg_sys::index_rescan(self.scan, &mut key, 1, std::ptr::null_mut(), 0);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            pg_sys::index_getnext_slot(self.scan, forward, self.slot)
        }
    }

    /// The row that was brought into the slot.
    fn row(&self, columns: i32) -> Row<'_> {
        // SAFETY: the slot holds a tuple of this table.
        unsafe { pg_sys::slot_getsomeattrs_int(self.slot, columns) };
        Row { table: self.table, slot: self.slot, scan: std::marker::PhantomData }
    }

    /// Locks the newest version of the row and shows it in the slot; `false` if it was deleted.
    fn lock(&self) -> bool {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the slot holds a tuple of this open table, and the table's access method is the
        // one that Postgres itself calls here. Called through a pointer, hence the guard.
        let result = unsafe {
            let lock = (*(*self.table).rd_tableam).tuple_lock.expect("a table can lock rows");
            let mut tid = (*self.slot).tts_tid;
            let command = pg_sys::GetCurrentCommandId(true);
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                lock(
                    self.table,
                    &mut tid,
                    self.snapshot,
                    self.slot,
                    command,
                    pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                    pg_sys::LockWaitPolicy::LockWaitBlock,
                    pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION as u8,
                    &mut failure,
                )
            })
        };
        match result {
            pg_sys::TM_Result::TM_Ok => true,
            pg_sys::TM_Result::TM_Deleted => false,
            other => pgrx::error!("unexpected result {other} of a row lock"),
        }
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        // After an ERROR the transaction's resource owner closes all of this; calling Postgres
        // once more in that state could raise again.
        if std::thread::panicking() {
            return;
        }
        const LOCK: i32 = pg_sys::AccessShareLock as i32;
        // SAFETY: each was opened by `begin` and is closed once. The relation locks go too, so
        // that a validate in a long transaction does not hold up ALTER EXTENSION.
        unsafe {
            pg_sys::index_endscan(self.scan);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::UnregisterSnapshot(self.snapshot);
            pg_sys::index_close(self.index, LOCK);
            pg_sys::table_close(self.table, LOCK);
        }
    }
}

impl Row<'_> {
    /// The column as it lies there, for passing on; `None` is NULL. Valid inside the closure.
    pub fn datum(&self, column: i16) -> Option<Datum> {
        let at = usize::try_from(column - 1).expect("column numbers start at 1");
        // SAFETY: the slot is deformed up to `UniqueIndex::columns`, asserted to cover `column`.
        unsafe {
            assert!(column <= (*self.slot).tts_nvalid);
            (!*(*self.slot).tts_isnull.add(at)).then(|| *(*self.slot).tts_values.add(at))
        }
    }

    pub fn bool(&self, column: i16) -> bool {
        self.datum(column).is_some_and(|datum| datum.value() != 0)
    }

    pub fn int(&self, column: i16) -> i32 {
        self.datum(column).map_or(0, |datum| datum.value() as i32)
    }

    pub fn timestamp(&self, column: i16) -> Option<Timestamp> {
        self.datum(column).map(|datum| Timestamp(datum.value() as i64))
    }

    pub fn uuid(&self, column: i16) -> Option<pgrx::Uuid> {
        // SAFETY: callers name a uuid column; such a datum points to 16 bytes.
        self.datum(column)
            .map(|datum| unsafe { pgrx::Uuid::from_bytes(*datum.cast_mut_ptr::<[u8; 16]>()) })
    }

    pub fn interval(&self, column: i16) -> Option<Span> {
        // SAFETY: callers name an interval column.
        self.datum(column).map(|datum| unsafe { datum::interval(datum) })
    }

    pub fn text(&self, column: i16) -> Option<&str> {
        // SAFETY: callers name a text column; the tuple is pinned while `self` lives.
        self.datum(column).map(|datum| unsafe { datum::text(datum) })
    }

    pub fn texts(&self, column: i16) -> Vec<&str> {
        let Some(array) = self.datum(column) else {
            return Vec::new();
        };
        // SAFETY: callers name a text[] column; the tuple is pinned while `self` lives.
        unsafe {
            let elements = Element::TEXT.of_array(array);
            elements.into_iter().flatten().map(|text| datum::text(text)).collect()
        }
    }

    pub fn networks(&self, column: i16) -> Option<Vec<Network>> {
        let array = self.datum(column)?;
        // SAFETY: callers name a cidr[] column.
        unsafe {
            let elements = Element::CIDR.of_array(array);
            Some(elements.into_iter().flatten().map(|cidr| datum::network(cidr)).collect())
        }
    }

    /// Moves a timestamp column forward to now, in place and at once; says whether it did. Only
    /// where the transaction can write.
    pub fn touch(&self, column: FixedColumn, patience: Patience) -> bool {
        // SAFETY: table and slot are those of the open scan this row belongs to.
        unsafe { touch::write(self.table, self.slot, column, clock::now(), patience) }
    }
}
