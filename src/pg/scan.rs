//! One row by a unique index, as it was committed last.
//!
//! A plain index scan, no SPI and no plan: about a third of the cost. Its snapshot is the latest
//! one, not the transaction's: under REPEATABLE READ the transaction's own would keep a revoked
//! token valid for as long as the transaction lasts. Taking it is forbidden in parallel mode, so
//! every function that gets here is PARALLEL UNSAFE.

use super::raise::{self, Before, Layout, Place, Raise};
use super::row::Row;
use super::words::Words;
use super::{compat, raw};
use pgrx::datum::IntoDatum;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary as guard;
use pgrx::pg_sys::{self, Datum};
use std::cell::Cell;
use std::ffi::CStr;

/// A unique index over one to three columns; keep it in a `thread_local`. It is known by name: names survive
/// DROP and CREATE EXTENSION, oids do not. The oids are looked up again whenever any relation of
/// the catalog changed.
pub struct UniqueIndex {
    schema: &'static CStr,
    table: &'static CStr,
    index: &'static CStr,
    /// The highest column number that readers ask for.
    columns: i32,
    found: Cell<Option<Found>>,
    /// Whether the table was empty, at that generation.
    empty: Cell<Option<(u64, bool)>>,
}

#[derive(Clone, Copy)]
struct Found {
    table: pg_sys::Oid,
    index: pg_sys::Oid,
    generation: u64,
}

thread_local! {
    /// How many times Postgres has told this backend that a relation changed.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
}

/// Changes whenever Postgres tells this backend that a relation changed.
pub fn catalog_generation() -> u64 {
    GENERATION.get()
}

/// Takes note of what other sessions have committed, before something kept is looked at.
pub fn hear_of_changes() {
    // SAFETY: takes the messages that are there; inside a transaction it may always be called.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Has all backends drop what they keep because of the catalog, when this transaction commits.
pub fn tell_all_that_changed(table: pg_sys::Oid) {
    // SAFETY: queues a message; an unknown table is an ERROR.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) };
}

/// Has Postgres tell us. Call it once, from `_PG_init`.
pub fn watch_catalog() {
    // SAFETY: registers a callback of the right type, which touches a thread-local only.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), Datum::null()) };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: Datum, _relation: pg_sys::Oid) {
    GENERATION.set(GENERATION.get().wrapping_add(1));
}

/// The value looked for in one column, of the column's type.
pub enum Key<'a> {
    Bytea32(&'a [u8; 32]),
    Uuid(&'a [u8; 16]),
    /// In a column with collation "C".
    Text(&'a str),
    Integer(i32),
}

const MAX_KEYS: usize = 3;

/// What to do with the row that is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    None,
    /// `FOR NO KEY UPDATE`: waits for whoever changes the row, then shows what they left. Unlike
    /// SQL's, it does not raise 40001 under REPEATABLE READ: what follows decides about that.
    NoKeyUpdate,
}

impl UniqueIndex {
    pub const fn new(
        schema: &'static CStr,
        table: &'static CStr,
        index: &'static CStr,
        columns: i32,
    ) -> Self {
        let (found, empty) = (Cell::new(None), Cell::new(None));
        Self { schema, table, index, columns, found, empty }
    }

    /// Has the table never held a row? Known without a look at it, until the catalog changes: whoever
    /// adds the first one must [`tell_all_that_changed`].
    pub fn is_unused(&self) -> bool {
        let generation = GENERATION.get();
        if let Some((_, empty)) = self.empty.get().filter(|(known, _)| *known == generation) {
            return empty;
        }
        let table = self.oids().table;
        // SAFETY: opens and closes one relation; an ERROR releases it.
        let empty = unsafe {
            let table = pg_sys::table_open(table, LOCK);
            let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(table, fork);
            pg_sys::table_close(table, LOCK);
            blocks == 0
        };
        self.empty.set(Some((generation, empty)));
        empty
    }

    /// Has all backends look again whether the table is used, when this transaction commits.
    pub fn tell_all_that_changed(&self) {
        tell_all_that_changed(self.oids().table);
    }

    /// Gives `work` some words of the row with this key, or `None`; see [`Words`].
    pub fn words<const N: usize, R>(
        &self,
        key: Key,
        offset: usize,
        work: impl FnOnce(Option<Words<N>>) -> R,
    ) -> R {
        let scan = Scan::begin(self, 1);
        let found = scan.seek(&[key], self.columns);
        work(found.then_some(Words { table: scan.table, slot: scan.slot, offset }))
    }

    fn oids(&self) -> Found {
        let generation = GENERATION.get();
        if let Some(found) = self.found.get().filter(|found| found.generation == generation) {
            return found;
        }
        // SAFETY: catalog look-ups by name; a missing schema is an ERROR, a missing relation is
        // InvalidOid, which no relation can be opened by.
        let (table, index) = unsafe {
            let schema = pg_sys::get_namespace_oid(self.schema.as_ptr(), false);
            let table = pg_sys::get_relname_relid(self.table.as_ptr(), schema);
            (table, pg_sys::get_relname_relid(self.index.as_ptr(), schema))
        };
        let found = Found { table, index, generation };
        self.found.set(Some(found));
        found
    }

    /// Gives `read` the row with these values in the indexed columns, or `None`, and closes
    /// everything behind it.
    pub fn find<R>(&self, keys: &[Key], lock: Lock, read: impl FnOnce(Option<Row>) -> R) -> R {
        let scan = Scan::begin(self, keys.len());
        let found =
            scan.seek(keys, self.columns) && (lock == Lock::None || scan.lock(self.columns));
        read(found.then(|| scan.row()))
    }

    /// Gives `read` the row for each key in turn, as committed last, give or take a thousand keys.
    /// `None` finds nothing.
    pub fn find_each<'k>(
        &self,
        keys: impl Iterator<Item = Option<Key<'k>>>,
        mut read: impl FnMut(Option<Row>),
    ) {
        const KEYS_PER_SNAPSHOT: usize = 1000;
        // What a row's columns are fetched into is given back after it.
        let mut each = pgrx::PgMemoryContexts::new("api_tokens: one row");
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            pgrx::check_for_interrupts!();
            let scan = Scan::begin(self, 1);
            for key in keys.by_ref().take(KEYS_PER_SNAPSHOT) {
                let found = key.is_some_and(|key| scan.seek(&[key], self.columns));
                // SAFETY: emptied when nobody has a reference into it: `read` returns nothing.
                unsafe {
                    each.switch_to(|_| read(found.then(|| scan.row())));
                    each.reset();
                }
            }
        }
    }

    /// Raises two columns of the rows with these keys in place; see `raise`. Tells by their number
    /// which are raised, as they are, and what was there before, and then which have no row. The
    /// index is one over the key of the layout.
    pub fn raise(
        &self,
        layout: &Layout,
        raises: &[Raise],
        raised: &mut dyn FnMut(usize, Before),
        gone: &mut dyn FnMut(usize),
    ) {
        let scan = Scan::begin(self, 1);
        let mut missing = Vec::new();
        let mut places = Vec::with_capacity(raises.len());
        for (at, raise) in raises.iter().enumerate() {
            pgrx::check_for_interrupts!();
            if scan.seek(&[Key::Uuid(&raise.key)], 1) {
                places.push((scan.place(), at));
            } else {
                missing.push(at);
            }
        }
        // SAFETY: the table is open, and callers name the layout of this table.
        unsafe { raise::at_places(scan.table, layout, places, raises, raised) };
        missing.into_iter().for_each(gone);
    }
}

const LOCK: i32 = pg_sys::AccessShareLock as i32;

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
    fn begin(of: &UniqueIndex, keys: usize) -> Self {
        // SAFETY: takes note of what other sessions have changed.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        loop {
            let oids = of.oids();
            // SAFETY: opens by oid (a relation dropped meanwhile raises an ERROR). Guarded once for all.
            let scan = unsafe {
                guard(|| {
                    let table = raw::table_open(oids.table, LOCK);
                    if GENERATION.get() != oids.generation {
                        return Err(table);
                    }
                    Ok(Self::of_index(table, oids.index, keys))
                })
            };
            let table = match scan {
                Ok(scan) => return scan,
                Err(table) => table,
            };
            let now = of.oids();
            // SAFETY: the table is open, and is closed if its name is another table's by now.
            unsafe {
                if now.table == oids.table {
                    return guard(|| Self::of_index(table, now.index, keys));
                }
                guard(|| raw::table_close(table, LOCK));
            }
        }
    }

    /// # Safety
    /// `index` must be the name's of the open `table` that was looked up, or known to be unchanged, since the
    /// table was locked: after that it cannot be dropped, nor replaced by REINDEX CONCURRENTLY. Called
    /// inside a guard.
    unsafe fn of_index(table: pg_sys::Relation, index: pg_sys::Oid, keys: usize) -> Self {
        // SAFETY: hands each object to the next call as Postgres' own index scans do.
        unsafe {
            let index = raw::index_open(index, LOCK);
            let snapshot = raw::RegisterSnapshot(raw::GetLatestSnapshot());
            let slot = raw::table_slot_create(table, std::ptr::null_mut());
            let scan = compat::index_beginscan(table, index, snapshot, keys as i32);
            Self { table, index, snapshot, slot, scan }
        }
    }

    /// Brings the row with these keys, as many as the scan began with, into the slot; `false` if
    /// there is none.
    fn seek(&self, keys: &[Key], columns: i32) -> bool {
        let mut bytea = Bytea32([0; 36]);
        let mut wanted = [(Datum::null(), 0); MAX_KEYS];
        for (place, key) in wanted.iter_mut().zip(keys) {
            *place = match key {
                Key::Bytea32(bytes) => (bytea.hold(bytes), pg_sys::F_BYTEAEQ),
                Key::Uuid(bytes) => (Datum::from(bytes.as_ptr()), pg_sys::F_UUID_EQ),
                Key::Text(text) => (text.into_datum().expect("a text"), pg_sys::F_TEXTEQ),
                Key::Integer(number) => (Datum::from(*number), pg_sys::F_INT4EQ),
            };
        }
        let (scan, slot) = (self.scan, self.slot);
        // SAFETY: the scan and its slot are open. The scan copies the keys; what their arguments
        // point to lives in this frame, or in the current memory context, until the one match of a
        // unique index is fetched. The row is deformed as far as readers ask.
        unsafe {
            let mut entries = [pg_sys::ScanKeyData::default(); MAX_KEYS];
            let wanted = &wanted[..keys.len()];
            guard(|| {
                let equal = pg_sys::BTEqualStrategyNumber as u16;
                for (at, (argument, equals)) in wanted.iter().enumerate() {
                    let entry = &mut entries[at];
                    raw::ScanKeyInit(entry, at as i16 + 1, equal, (*equals).into(), *argument);
                }
                let count = wanted.len() as i32;
                raw::index_rescan(scan, entries.as_mut_ptr(), count, std::ptr::null_mut(), 0);
                let forward = pg_sys::ScanDirection::ForwardScanDirection;
                let found = raw::index_getnext_slot(scan, forward, slot);
                if found {
                    raw::slot_getsomeattrs_int(slot, columns);
                }
                found
            })
        }
    }

    /// Where the row lies that was brought into the slot.
    fn place(&self) -> Place {
        // SAFETY: the slot holds a tuple of this table.
        let tid = unsafe { (*self.slot).tts_tid };
        ((u32::from(tid.ip_blkid.bi_hi) << 16) | u32::from(tid.ip_blkid.bi_lo), tid.ip_posid)
    }

    /// The row that was brought into the slot.
    fn row(&self) -> Row<'_> {
        Row { table: self.table, slot: self.slot, scan: std::marker::PhantomData }
    }

    /// Locks the newest version of the row and shows it in the slot; `false` if it was deleted.
    fn lock(&self, columns: i32) -> bool {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the slot holds a tuple of this open table, and the table's access method is the
        // one that Postgres itself calls here. Called through a pointer, hence the guard.
        let result = unsafe {
            let lock = (*(*self.table).rd_tableam).tuple_lock.expect("a table can lock rows");
            let mut tid = (*self.slot).tts_tid;
            let command = pg_sys::GetCurrentCommandId(true);
            guard(|| {
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
            pg_sys::TM_Result::TM_Ok => {
                // SAFETY: the slot holds the version that was locked.
                unsafe { pg_sys::slot_getsomeattrs_int(self.slot, columns) };
                true
            }
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
        let Self { table, index, snapshot, slot, scan } = *self;
        // SAFETY: each was opened by `begin` and is closed once. The relation locks go too, so
        // that a validate in a long transaction does not hold up ALTER EXTENSION.
        unsafe {
            guard(|| {
                raw::index_endscan(scan);
                raw::ExecDropSingleTupleTableSlot(slot);
                raw::UnregisterSnapshot(snapshot);
                raw::index_close(index, LOCK);
                raw::table_close(table, LOCK);
            });
        }
    }
}
