//! The one write a check may make: a timestamp column moved forward, in place.
//!
//! It is made on the caller's path, so it must never be felt there, nor by anyone else. An UPDATE,
//! however it is made, locks the row until the caller's transaction ends: a revocation would wait
//! for every session that has just checked the token and sits idle, and could deadlock with it; and
//! under SERIALIZABLE it can abort the caller. So the eight bytes are overwritten where they lie,
//! as Postgres itself does for the statistics in pg_class: no transaction id, no row lock, no dead
//! row, nothing to roll back. The page is changed under its content lock and logged as generic WAL,
//! so crash recovery and standbys have it.
//!
//! What that costs: the value is the same for every snapshot, which is what a last use should be;
//! logical replication does not carry it; and while a transaction under way has the row locked or
//! changed, the use is not recorded (see `raise`).

use super::overwrite::{self, Changes};
use super::{raise, transaction};
use api_tokens_logic::time::Timestamp;
use pgrx::pg_sys;

/// A NOT NULL timestamptz column that lies behind nothing but NOT NULL columns of fixed width.
#[derive(Clone, Copy)]
pub struct FixedColumn {
    pub number: i16,
    /// Bytes from the start of a tuple's data.
    pub offset: usize,
}

/// What to do if somebody else has the page at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Leave it: the next use tries again.
    None,
    /// Wait for as long as others work on pages: microseconds, or a write to disk.
    ForThePage,
}

/// What became of a touch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    Written,
    /// Somebody else wrote as late a time.
    AlreadyThere,
    /// Nothing can be written here, or the row is held.
    No,
}

/// Sees to it that the column is not earlier than `now`.
///
/// # Safety
/// `slot` must hold a tuple of the open heap `table`, pinned in its buffer and deformed up to the
/// column, which must be as [`FixedColumn`] says.
pub(super) unsafe fn write(
    table: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    column: FixedColumn,
    now: Timestamp,
    patience: Patience,
) -> Touched {
    if !transaction::can_touch() {
        return Touched::No;
    }
    // SAFETY: the slot pins the buffer, and while there is a pin no tuple on the page is moved, so
    // the distances stay true under the lock. The value lies inside the tuple, aligned to 8 bytes as
    // its column is. The lock is held until the change is in place and logged.
    unsafe {
        let deformed = *(*slot).tts_values.add(column.number as usize - 1);
        let slot = slot.cast::<pg_sys::BufferHeapTupleTableSlot>();
        let buffer = (*slot).buffer;
        let tuple = (*(*slot).base.tuple).t_data;
        let value = tuple.cast::<u8>().add(usize::from((*tuple).t_hoff) + column.offset);
        let place = value.offset_from(pg_sys::BufferGetPage(buffer).cast::<u8>()).cast_unsigned();
        // Others may have touched it since it was read, always forward; were the offset ever wrong,
        // this does no harm.
        if value.cast::<i64>().read() < deformed.value() as i64 || !lock(buffer, patience) {
            return Touched::No;
        }
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        let touched = if page.add(place).cast::<i64>().read() >= now.0 {
            Touched::AlreadyThere
        } else if raise::is_settled(tuple) {
            let mut change = Changes::default();
            let there = page.add(place).cast::<u64>().read();
            change.add(place, [there], [now.0.cast_unsigned()]);
            overwrite::overwrite(table, buffer, &change);
            Touched::Written
        } else {
            Touched::No
        };
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
        touched
    }
}

/// # Safety
/// `buffer` must be pinned.
unsafe fn lock(buffer: pg_sys::Buffer, patience: Patience) -> bool {
    // SAFETY: as promised by the caller.
    unsafe {
        if pg_sys::ConditionalLockBuffer(buffer) {
            return true;
        }
        if patience == Patience::ForThePage {
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        }
        patience == Patience::ForThePage
    }
}
