//! Two columns of many rows, raised in place: a timestamp to a later one, a counter by a number.
//!
//! As `touch`, for many rows at once: one WAL record per page, about 17 bytes in it per row, and no
//! dead rows. A row that a transaction under way has locked or changed is left alone. All changes
//! that our functions make lock the row before they read it, so none of them writes back values
//! from before a raise; a bare UPDATE by a superuser can, if it falls into the same microseconds.

use super::overwrite::{self, Changes};
use super::transaction;
use api_tokens_logic::time::Timestamp;
use pgrx::pg_sys;

/// Where the columns lie: bytes from the start of a tuple's data, behind nothing but NOT NULL
/// columns of fixed width. The key is a uuid, and tells whether the row is still the one meant.
#[derive(Clone, Copy)]
pub struct Layout {
    pub key: usize,
    /// The timestamp, and right behind it the counter.
    pub pair: usize,
}

/// How one row is raised.
#[derive(Clone, Copy)]
pub struct Raise {
    pub key: [u8; 16],
    pub timestamp: Timestamp,
    pub counter: i64,
}

/// The two columns as they were before a raise.
#[derive(Clone, Copy)]
pub struct Before {
    pub timestamp: Timestamp,
    pub counter: i64,
}

/// A row's place: its page, and its number there.
pub(super) type Place = (pg_sys::BlockNumber, pg_sys::OffsetNumber);

/// Raises rows at known places, in any order, and tells which, by their number, and what was there
/// before. Only where the transaction can write; nothing is raised elsewhere.
///
/// # Safety
/// `table` must be open and be a heap with this layout, `places` of its pages.
pub(super) unsafe fn at_places(
    table: pg_sys::Relation,
    layout: &Layout,
    mut rows: Vec<(Place, usize)>,
    raises: &[Raise],
    raised: &mut dyn FnMut(usize, Before),
) {
    if !transaction::can_touch() {
        return;
    }
    rows.sort_unstable();
    let mut logged = 0;
    let mut done = Vec::new();
    for page in rows.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
        pgrx::check_for_interrupts!();
        let ((block, _), _) = page[0];
        // SAFETY: as promised by the caller. The buffer is pinned by ReadBuffer and locked before
        // its page is looked at; both end with UnlockReleaseBuffer.
        unsafe {
            let buffer = pg_sys::ReadBuffer(table, block);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
            let bytes = pg_sys::BufferGetPage(buffer).cast::<u8>();
            let mut changes = Changes::default();
            for ((_, number), at) in page {
                if let Some(data) = settled_tuple(bytes, *number, &raises[*at].key, layout) {
                    done.push((*at, add(&mut changes, bytes, data, layout, &raises[*at])));
                }
            }
            if !changes.is_empty() {
                logged = overwrite::overwrite(table, buffer, &changes);
            }
            pg_sys::UnlockReleaseBuffer(buffer);
        }
        // Told page by page: an ERROR at the next does not undo this one.
        done.drain(..).for_each(|(at, before)| raised(at, before));
    }
    // SAFETY: waits until what was logged is on disk, as a commit would; 0 is nothing.
    unsafe { pg_sys::XLogFlush(logged) };
}

/// # Safety
/// `data` must be how far into the locked `page` the data of a tuple with this layout lies.
unsafe fn add(
    changes: &mut Changes,
    page: *mut u8,
    data: usize,
    layout: &Layout,
    raise: &Raise,
) -> Before {
    let place = data + layout.pair;
    // SAFETY: the two columns are 8 bytes each and aligned to 8 in a tuple's data, itself aligned.
    let [last, count] = unsafe { page.add(place).cast::<[i64; 2]>().read() };
    let raised = [last.max(raise.timestamp.0), count.saturating_add(raise.counter)];
    changes.add(place, [last, count].map(i64::cast_unsigned), raised.map(i64::cast_unsigned));
    Before { timestamp: Timestamp(last), counter: count }
}

/// How far into the page the data of row `number` lies, if that is the row with this key and no
/// transaction under way has it.
///
/// # Safety
/// `page` must be a heap page with this layout, locked.
unsafe fn settled_tuple(
    page: *mut u8,
    number: pg_sys::OffsetNumber,
    key: &[u8; 16],
    layout: &Layout,
) -> Option<usize> {
    // SAFETY: the number of line pointers follows from the page header; a normal one points to a
    // tuple of this page, whose header says where its data begins.
    unsafe {
        let header = page.cast::<pg_sys::PageHeaderData>();
        let first = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
        let lines = (usize::from((*header).pd_lower) - first) / size_of::<pg_sys::ItemIdData>();
        let number = usize::from(number);
        if number == 0 || number > lines {
            return None;
        }
        let line = (*header).pd_linp.as_ptr().add(number - 1);
        if (*line).lp_flags() != pg_sys::LP_NORMAL {
            return None;
        }
        let start = (*line).lp_off() as usize;
        let tuple: pg_sys::HeapTupleHeader = page.add(start).cast();
        let data = start + usize::from((*tuple).t_hoff);
        let is_meant = page.add(data + layout.key).cast::<[u8; 16]>().read() == *key;
        (is_meant && is_settled(tuple)).then_some(data)
    }
}

/// Is the tuple the newest version of its row, with no transaction under way that has locked or
/// changed it?
///
/// # Safety
/// `tuple` must be a heap tuple on a locked page.
pub(super) unsafe fn is_settled(tuple: pg_sys::HeapTupleHeader) -> bool {
    // SAFETY: reads the header; asks the server about transactions it names.
    unsafe {
        let mask = u32::from((*tuple).t_infomask);
        if mask & pg_sys::HEAP_XMAX_INVALID != 0 {
            return true;
        }
        let is_lock = mask & pg_sys::HEAP_XMAX_LOCK_ONLY != 0;
        let by = (*tuple).t_choice.t_heap.t_xmax;
        if mask & pg_sys::HEAP_XMAX_IS_MULTI != 0 {
            let members = by.into_inner().into();
            return !pg_sys::MultiXactIdIsRunning(members, is_lock)
                && (is_lock
                    || !pg_sys::TransactionIdDidCommit(pg_sys::HeapTupleGetUpdateXid(tuple)));
        }
        // Neither under way nor committed is rolled back, or ended by a crash.
        !pg_sys::TransactionIdIsInProgress(by) && (is_lock || !pg_sys::TransactionIdDidCommit(by))
    }
}
