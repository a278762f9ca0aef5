//! What `api_token_stats()` tells: plain counters, shared by all backends of a server.
//!
//! There are several sets of them, and a backend counts in one: were they one set, every check on
//! one core would take the cache line away from the others. A reader adds them up.

use crate::time::Timestamp;
use crate::verdict::Reason;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// One set. All zero at the start of the server.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Counters {
    accepted: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    events: [AtomicU64; Event::COUNT],
    /// SQLSTATE as five bytes of ASCII, big-endian; 0 is none.
    last_error: AtomicU64,
    last_error_at: AtomicI64,
    last_flush: AtomicI64,
}

/// What is counted besides verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A use kept in the map, to be written later together with others.
    Coalesced,
    /// A use written to the row by the check itself.
    RowWrite,
    Eviction,
    /// A use that found no place in the map.
    MapFull,
    Flush,
    RowFlushed,
    FlushFailure,
}

impl Event {
    const COUNT: usize = 7;
}

impl Counters {
    pub fn verdict(&self, verdict: Result<(), Reason>) {
        let counter = match verdict {
            Ok(()) => &self.accepted,
            Err(reason) => &self.refused[reason as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, event: Event, by: u64) {
        self.events[event as usize].fetch_add(by, Ordering::Relaxed);
    }

    pub fn flushed(&self, rows: u64, now: Timestamp) {
        self.count(Event::Flush, 1);
        self.count(Event::RowFlushed, rows);
        self.last_flush.store(now.0, Ordering::Relaxed);
    }

    pub fn flush_failed(&self, sqlstate: [u8; 5], now: Timestamp) {
        self.count(Event::FlushFailure, 1);
        let packed = sqlstate.iter().fold(0, |packed, byte| packed << 8 | u64::from(*byte));
        self.last_error.store(packed, Ordering::Relaxed);
        self.last_error_at.store(now.0, Ordering::Relaxed);
    }
}

/// All sets, for a reader.
pub struct Totals<'a>(pub &'a [Counters]);

impl Totals<'_> {
    fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.0.iter().map(|set| counter(set).load(Ordering::Relaxed)).sum()
    }

    pub fn accepted(&self) -> u64 {
        self.sum(|set| &set.accepted)
    }

    /// Refusals by reason.
    pub fn refused(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.sum(|set| &set.refused[reason as usize])))
    }

    pub fn events(&self, event: Event) -> u64 {
        self.sum(|set| &set.events[event as usize])
    }

    pub fn last_flush(&self) -> Option<Timestamp> {
        let latest = self.0.iter().map(|set| set.last_flush.load(Ordering::Relaxed)).max();
        latest.filter(|at| *at != 0).map(Timestamp)
    }

    /// The SQLSTATE of the last flush that failed.
    pub fn last_error(&self) -> Option<String> {
        let latest = self.0.iter().max_by_key(|set| set.last_error_at.load(Ordering::Relaxed))?;
        let packed = latest.last_error.load(Ordering::Relaxed);
        let bytes = packed.to_be_bytes();
        (packed != 0).then(|| bytes[3..].iter().copied().map(char::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_added_up() {
        let sets = [Counters::default(), Counters::default()];
        let totals = Totals(&sets);
        assert_eq!((totals.last_error(), totals.last_flush()), (None, None));
        sets[0].verdict(Ok(()));
        sets[1].verdict(Ok(()));
        sets[1].verdict(Err(Reason::Expired));
        sets[0].flushed(3, Timestamp(5));
        sets[1].flush_failed(*b"XX000", Timestamp(6));
        sets[0].flush_failed(*b"42P01", Timestamp(7));
        let refused: Vec<(Reason, u64)> =
            totals.refused().filter(|(_, count)| *count > 0).collect();
        assert_eq!((totals.accepted(), refused), (2, vec![(Reason::Expired, 1)]));
        assert_eq!((totals.events(Event::Flush), totals.events(Event::RowFlushed)), (1, 3));
        assert_eq!(totals.last_flush(), Some(Timestamp(5)));
        assert_eq!(totals.last_error().as_deref(), Some("42P01"));
    }
}
