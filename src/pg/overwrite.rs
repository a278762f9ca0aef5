//! Bytes of a page overwritten where they lie, and logged.
//!
//! The record is one of Postgres' generic WAL (`src/backend/access/transam/generic_xlog.c`: for each
//! change its offset and length, two bytes each, then the bytes), so crash recovery and standbys
//! apply it without us. It is put together here, because `GenericXLogFinish` finds out what changed
//! by comparing the whole page with a copy, byte by byte: five times the cost of the rest.

use super::{compat, raw};
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary as guard;
use pgrx::pg_sys::{self, XLogRecPtr};

/// What to overwrite in one page.
#[derive(Default)]
pub(super) struct Changes {
    /// Where, from the start of the page; aligned to 8.
    words: Vec<(usize, u64)>,
    /// As the log has it.
    log: Vec<u8>,
}

impl Changes {
    /// Words that follow one another, and what is there now. Of each run only the bytes from the
    /// first that differs to the last are logged: of a time that moves forward the lower half.
    pub fn add<const N: usize>(&mut self, place: usize, now: [u64; N], then: [u64; N]) {
        self.words.extend((place..).step_by(8).zip(then));
        let bytes = |words: [u64; N]| words.into_iter().flat_map(u64::to_ne_bytes);
        let pairs = bytes(now).zip(bytes(then)).enumerate();
        let mut differing = pairs.filter(|(_, (now, then))| now != then).map(|(at, _)| at);
        let Some(first) = differing.next() else { return };
        let last = differing.last().unwrap_or(first);
        self.log.extend_from_slice(&((place + first) as u16).to_ne_bytes());
        self.log.extend_from_slice(&((last + 1 - first) as u16).to_ne_bytes());
        self.log.extend(bytes(then).skip(first).take(last + 1 - first));
    }

    /// Is there nothing that differs?
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }
}

/// Makes the changes, and returns where the log ends with them; 0 if the table is not logged.
///
/// # Safety
/// `buffer` must be a page of the open `table`, pinned and locked exclusively, in a transaction that
/// can write; the changes must lie inside of it, and each word must make sense by itself to those
/// who look at it with a pin alone.
pub(super) unsafe fn overwrite(
    table: pg_sys::Relation,
    buffer: pg_sys::Buffer,
    changes: &Changes,
) -> XLogRecPtr {
    // SAFETY: as promised by the caller. In the order the server asks for: what may fail comes before
    // the critical section, in which an ERROR is a PANIC; dirty before it is logged; the page
    // carries the position of its record. Nothing here has a destructor.
    unsafe {
        let is_logged = compat::needs_wal(table);
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        let (data, length) = (changes.log.as_ptr(), changes.log.len() as u32);
        // Where replicas compare the page with ours (`wal_consistency_checking`), they get it whole: hint
        // bits, which no record tells of, would be taken for damage.
        let is_compared =
            *pg_sys::wal_consistency_checking.add(pg_sys::RmgrIds::RM_GENERIC_ID as usize);
        let whole = if is_compared { pg_sys::REGBUF_FORCE_IMAGE } else { 0 };
        let flags = (pg_sys::REGBUF_STANDARD | whole) as u8;
        guard(|| {
            pg_sys::CritSectionCount += 1;
            for (place, word) in &changes.words {
                page.add(*place).cast::<u64>().write(*word);
            }
            raw::MarkBufferDirty(buffer);
            let mut end = 0;
            if is_logged {
                raw::XLogBeginInsert();
                raw::XLogRegisterBuffer(0, buffer, flags);
                raw::XLogRegisterBufData(0, data.cast(), length);
                end = raw::XLogInsert(pg_sys::RmgrIds::RM_GENERIC_ID as u8, 0);
                let header = page.cast::<pg_sys::PageHeaderData>();
                (*header).pd_lsn.xlogid = (end >> 32) as u32;
                (*header).pd_lsn.xrecoff = end as u32;
            }
            pg_sys::CritSectionCount -= 1;
            end
        })
    }
}
