//! The write-ahead log, made durable.

use super::transaction;
use pgrx::pg_sys::{self, XLogRecPtr};

/// Waits until the end of every transaction that has ended so far is durable, rolled back ones and
/// those that did not wait for their commit included. Until then a crash forgets that there was
/// such a transaction, and its id is given out again.
///
/// A standby knows only of what its primary has made durable.
pub fn make_ends_durable() {
    if transaction::is_in_recovery() {
        return;
    }
    // SAFETY: read a position and a constant of the cluster; waits at most for the disk.
    unsafe {
        let segment = pg_sys::wal_segment_size.unsigned_abs().into();
        pg_sys::XLogFlush(end(pg_sys::GetXLogInsertRecPtr(), segment));
    }
}

const PAGE: u64 = pg_sys::XLOG_BLCKSZ as u64;
const HEADER: u64 = size_of::<pg_sys::XLogPageHeaderData>() as u64;
const HEADER_OF_SEGMENT: u64 = size_of::<pg_sys::XLogLongPageHeaderData>() as u64;

/// Where the log ends, if the next record begins at `next`. That may be behind the header of a page
/// which is not there yet, and waiting for it would be an ERROR. (Postgres' own function for this came
/// with later minor releases than those we must load into.)
fn end(next: XLogRecPtr, segment: u64) -> XLogRecPtr {
    let into_page = next % PAGE;
    let is_first = next % segment < PAGE;
    let header = if is_first { HEADER_OF_SEGMENT } else { HEADER };
    if into_page == header { next - into_page } else { next }
}
