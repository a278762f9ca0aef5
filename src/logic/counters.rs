//! What `api_token_stats()` tells: plain counters, shared by all backends of a server.

use crate::time::Timestamp;
use crate::verdict::Reason;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// All zero at the start of the server.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Counters {
    accepted: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    /// Uses kept in the map, to be written later together.
    pub coalesced: AtomicU64,
    /// Uses written to the row by the check itself.
    pub row_writes: AtomicU64,
    pub evictions: AtomicU64,
    /// Uses that found no place in the map.
    pub map_full: AtomicU64,
    pub flushes: AtomicU64,
    pub rows_flushed: AtomicU64,
    pub flush_failures: AtomicU64,
    /// SQLSTATE as five bytes of ASCII, big-endian; 0 is none.
    last_error: AtomicU64,
    last_flush: AtomicI64,
}

pub fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    pub fn verdict(&self, verdict: Result<(), Reason>) {
        match verdict {
            Ok(()) => count(&self.accepted, 1),
            Err(reason) => count(&self.refused[reason as usize], 1),
        }
    }

    pub fn flushed(&self, rows: u64, now: Timestamp) {
        count(&self.flushes, 1);
        count(&self.rows_flushed, rows);
        self.last_flush.store(now.0, Ordering::Relaxed);
    }

    pub fn flush_failed(&self, sqlstate: [u8; 5]) {
        count(&self.flush_failures, 1);
        let packed = sqlstate.iter().fold(0, |packed, byte| packed << 8 | u64::from(*byte));
        self.last_error.store(packed, Ordering::Relaxed);
    }

    pub fn last_error(&self) -> Option<String> {
        let packed = self.last_error.load(Ordering::Relaxed);
        let bytes = packed.to_be_bytes();
        (packed != 0).then(|| bytes[3..].iter().copied().map(char::from).collect())
    }

    pub fn last_flush(&self) -> Option<Timestamp> {
        let at = self.last_flush.load(Ordering::Relaxed);
        (at != 0).then_some(Timestamp(at))
    }

    pub fn accepted(&self) -> u64 {
        read(&self.accepted)
    }

    /// Refusals by reason.
    pub fn refused(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, read(&self.refused[reason as usize])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_reason() {
        let counters = Counters::default();
        counters.verdict(Ok(()));
        counters.verdict(Err(Reason::Expired));
        counters.verdict(Err(Reason::Expired));
        assert_eq!(counters.accepted(), 1);
        let refused: Vec<(Reason, u64)> =
            counters.refused().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [(Reason::Expired, 2)]);
        assert_eq!(counters.last_error(), None);
        counters.flush_failed(*b"42P01");
        assert_eq!(counters.last_error().as_deref(), Some("42P01"));
    }
}
