//! Numbers in a row that many transactions change at once, and none waits for another.
//!
//! They are overwritten in place, under the lock of the page, as `touch` and `raise` do; see there
//! for why that is sound. What is different: here the new value depends on the old one. So all
//! changes must be made this way, and no UPDATE ever touches the row.

use super::overwrite::{self, Changes};
use super::{raise, transaction};
use pgrx::pg_sys;

/// `N` words of 8 bytes in a row, `offset` bytes from the start of its data, behind nothing but NOT
/// NULL columns of fixed width.
pub struct Words<const N: usize> {
    pub(super) table: pg_sys::Relation,
    pub(super) slot: *mut pg_sys::TupleTableSlot,
    pub(super) offset: usize,
}

/// The row is held by a transaction, which may be about to delete it; by several, if not told which.
pub struct Held(pub Option<u32>);

impl<const N: usize> Words<N> {
    /// The words as they are.
    pub fn read(&self) -> [u64; N] {
        // SAFETY: under the lock the words are at rest.
        self.locked(pg_sys::BUFFER_LOCK_SHARE, |place| unsafe { place.read() })
    }

    /// Changes the words, if no transaction has the row. `change` must neither wait nor raise. Only
    /// where the transaction can write.
    pub fn alter<R>(&self, change: impl FnOnce(&mut [u64; N]) -> R) -> Result<R, Held> {
        self.locked(pg_sys::BUFFER_LOCK_EXCLUSIVE, |place| {
            // SAFETY: the row's header and words are on the page, which is locked; what is changed
            // lies inside the row. An unsettled row names the transaction that has it.
            unsafe {
                let slot = self.slot.cast::<pg_sys::BufferHeapTupleTableSlot>();
                let tuple = (*(*slot).base.tuple).t_data;
                if !raise::is_settled(tuple) {
                    let by = (*tuple).t_choice.t_heap.t_xmax.into_inner();
                    let mask = u32::from((*tuple).t_infomask);
                    let is_one = mask & pg_sys::HEAP_XMAX_IS_MULTI == 0;
                    return Err(Held(is_one.then_some(by)));
                }
                let buffer = (*slot).buffer;
                let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
                let start = place.cast::<u8>().offset_from(page).cast_unsigned();
                let now = place.read();
                let mut then = now;
                let result = change(&mut then);
                let mut changes = Changes::default();
                for at in (0..N).filter(|at| now[*at] != then[*at]) {
                    changes.add(start + at * size_of::<u64>(), [now[at]], [then[at]]);
                }
                if !changes.is_empty() {
                    overwrite::overwrite(self.table, buffer, &changes);
                }
                Ok(result)
            }
        })
    }

    fn locked<R>(&self, mode: u32, work: impl FnOnce(*mut [u64; N]) -> R) -> R {
        // SAFETY: the slot pins its buffer, and while there is a pin no tuple on the page is moved.
        // The words lie inside of the tuple, which its length says, and are aligned to 8, as a
        // tuple's data is. An ERROR releases the lock.
        unsafe {
            let slot = self.slot.cast::<pg_sys::BufferHeapTupleTableSlot>();
            let (buffer, tuple) = ((*slot).buffer, (*slot).base.tuple);
            let start = usize::from((*(*tuple).t_data).t_hoff) + self.offset;
            let fits = start + N * size_of::<u64>() <= (*tuple).t_len as usize;
            assert!(fits && self.offset.is_multiple_of(size_of::<u64>()), "the row is too short");
            pg_sys::LockBuffer(buffer, mode as i32);
            let result = work((*tuple).t_data.cast::<u8>().add(start).cast());
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
            result
        }
    }
}

/// Can words be changed by this transaction?
pub fn can_alter() -> bool {
    transaction::can_touch()
}
