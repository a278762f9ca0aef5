//! Who flushes which database: at most one at a time, and never nobody for long.
//!
//! A claim that is not let go of, because its worker was never started or died with the process
//! that should have started it, is taken over once it is stale.

use crate::spin::SpinLock;
use crate::time::{Span, Timestamp};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering, fence};

/// Databases beyond this many have no worker; their uses are written row by row.
pub const MAX_DATABASES: usize = 128;

/// All zero is no claim at all.
#[repr(C, align(64))]
pub struct Claims {
    lock: SpinLock,
    places: [Place; MAX_DATABASES],
}

/// `database` 0 is a free place.
#[derive(Default)]
#[repr(C)]
struct Place {
    since: AtomicI64,
    database: AtomicU32,
}

/// What came of asking for a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The caller must see to the flush, and let go with this stamp.
    Mine(Timestamp),
    UnderWay,
    NoPlace,
}

impl Default for Claims {
    fn default() -> Self {
        Self { lock: SpinLock::default(), places: std::array::from_fn(|_| Place::default()) }
    }
}

impl Claims {
    /// Whoever holds a claim since before `now - patience` is taken to be gone.
    pub fn claim(&self, database: u32, now: Timestamp, patience: Span) -> Claim {
        // The use that asks for a flush must be seen by whoever lets go of a claim after this.
        fence(Ordering::SeqCst);
        if self.is_under_way(database, now, patience) {
            return Claim::UnderWay;
        }
        let _locked = self.lock.lock();
        if self.is_under_way(database, now, patience) {
            return Claim::UnderWay;
        }
        let mine = self.places.iter().find(|place| place.is_of(database));
        let Some(place) = mine.or_else(|| self.places.iter().find(|place| place.is_of(0))) else {
            return Claim::NoPlace;
        };
        place.since.store(now.0, Ordering::SeqCst);
        place.database.store(database, Ordering::SeqCst);
        Claim::Mine(now)
    }

    fn is_under_way(&self, database: u32, now: Timestamp, patience: Span) -> bool {
        let place = self.places.iter().find(|place| place.is_of(database));
        let since = place.map(|place| Timestamp(place.since.load(Ordering::SeqCst)));
        since.is_some_and(|since| now.since(since) < patience)
    }

    /// The stamp of the claim on a database.
    pub fn stamp(&self, database: u32) -> Option<Timestamp> {
        let place = self.places.iter().find(|place| place.is_of(database))?;
        Some(Timestamp(place.since.load(Ordering::SeqCst)))
    }

    /// Lets go, unless somebody has taken over since.
    pub fn release(&self, database: u32, stamp: Timestamp) {
        let _locked = self.lock.lock();
        for place in self.places.iter().filter(|place| place.is_of(database)) {
            if place.since.load(Ordering::SeqCst) == stamp.0 {
                place.database.store(0, Ordering::SeqCst);
            }
        }
        fence(Ordering::SeqCst);
    }
}

impl Place {
    fn is_of(&self, database: u32) -> bool {
        self.database.load(Ordering::SeqCst) == database
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Span = Span(100);

    #[test]
    fn one_at_a_time_and_never_nobody() {
        let claims = Claims::default();
        let at = Timestamp;
        assert_eq!(claims.claim(5, at(10), PATIENCE), Claim::Mine(at(10)));
        assert_eq!(claims.claim(5, at(109), PATIENCE), Claim::UnderWay);
        assert_eq!(claims.claim(6, at(11), PATIENCE), Claim::Mine(at(11)));
        assert_eq!(claims.claim(5, at(110), PATIENCE), Claim::Mine(at(110)), "stale");
        claims.release(5, at(10));
        assert_eq!(claims.claim(5, at(111), PATIENCE), Claim::UnderWay, "not the old one's to end");
        claims.release(5, at(110));
        assert_eq!((claims.stamp(5), claims.stamp(6)), (None, Some(at(11))));
    }

    #[test]
    fn places_run_out() {
        let claims = Claims::default();
        for database in 1..=MAX_DATABASES as u32 {
            assert!(matches!(claims.claim(database, Timestamp(0), PATIENCE), Claim::Mine(_)));
        }
        assert_eq!(claims.claim(1000, Timestamp(0), PATIENCE), Claim::NoPlace);
    }

    #[test]
    fn of_many_threads_one_gets_it() {
        for _ in 0..200 {
            let claims = Claims::default();
            // Something before it is freed at the same time, so that two could find two places.
            claims.claim(9, Timestamp(0), PATIENCE);
            let mine = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|_| scope.spawn(|| claims.claim(5, Timestamp(1), PATIENCE)))
                    .collect();
                claims.release(9, Timestamp(0));
                let outcomes = threads.into_iter().map(|thread| thread.join().expect("thread"));
                outcomes.filter(|outcome| matches!(outcome, Claim::Mine(_))).count()
            });
            assert_eq!(mine, 1);
        }
    }
}
