//! The levels of all rate limits in use, shared by all backends of a server.
//!
//! As the touch map: buckets that somebody else allocates, worked on under a spin lock each. An
//! entry whose level has run out is as good as none, so its place is anybody's: memory is bounded
//! without forgetting anything. A limit has two buckets to be in, and goes into the emptier one: up to
//! three quarters of the map both are hardly ever full. If they are, calls are refused: a limit that
//! cannot be kept must not be taken for kept.

use crate::rate::{Level, Passed, Rate};
use crate::spin::{Locked, SpinLock};
use crate::time::Span;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

pub const ENTRIES_PER_BUCKET: usize = 8;

/// What is limited, in which database of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Oid of the database; never 0.
    pub database: u32,
    /// Random, or a hash.
    pub subject: [u8; 16],
}

/// All zero is an empty bucket.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Bucket {
    lock: SpinLock,
    entries: [Entry; ENTRIES_PER_BUCKET],
}

/// Database 0 is a free entry.
#[derive(Default)]
#[repr(C)]
struct Entry {
    subject: [AtomicU64; 2],
    level: [AtomicU64; 4],
    /// When the level has run out.
    ends_at: AtomicI64,
    database: AtomicU32,
}

#[derive(Clone, Copy)]
pub struct RateMap<'a> {
    buckets: &'a [Bucket],
}

impl<'a> RateMap<'a> {
    /// `buckets` must not be empty.
    pub fn new(buckets: &'a [Bucket]) -> Self {
        Self { buckets }
    }

    /// Would a call be let through? `now` as for [`Level`].
    pub fn look(&self, key: &Key, rate: &Rate, cost: i32, now: i64) -> Passed {
        let bucket = self.open(key);
        let Some(entry) = bucket.find(key) else {
            let has_room = bucket.vacancy(now).is_some();
            return if has_room {
                Level::EMPTY.look(rate, cost, now)
            } else {
                bucket.full(cost, now)
            };
        };
        let level = entry.level();
        if !level.runs_out_by(rate) {
            // A change counts from now on, also for how long this place is needed.
            entry.hold(key, level.settled(rate, now));
        }
        level.look(rate, cost, now)
    }

    /// Lets a call through and counts it, or does neither. A cost of 0 asks.
    pub fn charge(&self, key: &Key, rate: &Rate, cost: i32, now: i64) -> Passed {
        let bucket = self.open(key);
        let found = bucket.find(key);
        let mut level = found.map_or(Level::EMPTY, Entry::level);
        let passed = level.charge(rate, cost, now);
        if let Some(entry) = found {
            entry.hold(key, level);
            return passed;
        }
        if cost == 0 || matches!(passed, Passed::No { .. }) {
            return passed;
        }
        let Some(entry) = bucket.vacancy(now) else { return bucket.full(cost, now) };
        entry.hold(key, level);
        passed
    }

    /// Takes back a call that was counted and then refused for something else.
    pub fn refund(&self, key: &Key, rate: &Rate, cost: i32, now: i64) {
        let bucket = self.open(key);
        if let Some(entry) = bucket.find(key) {
            let mut level = entry.level();
            level.refund(rate, cost, now);
            entry.hold(key, level);
        }
    }

    /// Entries whose level has not run out.
    pub fn used(&self, now: i64) -> usize {
        let used = |bucket: &Bucket| {
            let _lock = bucket.lock.lock();
            bucket.entries.iter().filter(|entry| !entry.is_free(now)).count()
        };
        self.buckets.iter().map(used).sum()
    }

    /// The two buckets of a key, locked; always in the same order, so that nobody waits in a circle.
    fn open(&self, key: &Key) -> Opened<'a> {
        let count = self.buckets.len();
        let [high, low] = halves(&key.subject);
        let mixed = (high ^ low ^ u64::from(key.database)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let one = (mixed >> 32) as usize % count;
        // Another one, unless there is only one.
        let other = (one + 1 + (mixed as u32) as usize % count.saturating_sub(1).max(1)) % count;
        let first = &self.buckets[one.min(other)];
        let second = (one != other).then(|| &self.buckets[one.max(other)]);
        let locks = (first.lock.lock(), second.map(|bucket| bucket.lock.lock()));
        Opened { first, second, _locks: locks }
    }
}

struct Opened<'a> {
    first: &'a Bucket,
    second: Option<&'a Bucket>,
    _locks: (Locked<'a>, Option<Locked<'a>>),
}

impl<'a> Opened<'a> {
    fn each(&self) -> impl Iterator<Item = &'a Entry> {
        let second = self.second.into_iter().flat_map(|bucket| &bucket.entries);
        self.first.entries.iter().chain(second)
    }

    fn find(&self, key: &Key) -> Option<&'a Entry> {
        self.each().find(|entry| entry.is(key))
    }

    /// A place in the emptier one of the two: otherwise some are full long before the map is.
    fn vacancy(&self, now: i64) -> Option<&'a Entry> {
        let free =
            |bucket: &&Bucket| bucket.entries.iter().filter(|entry| entry.is_free(now)).count();
        let bucket = [self.second, Some(self.first)].into_iter().flatten().max_by_key(free)?;
        bucket.entries.iter().find(|entry| entry.is_free(now))
    }

    /// Where there is no place: until the first has run out.
    fn full(&self, cost: i32, now: i64) -> Passed {
        if cost == 0 {
            return Passed::Yes { left: 0 };
        }
        let first = self.each().map(|entry| entry.ends_at.load(Ordering::Relaxed)).min();
        let wait = first.map_or(0, |first| first.saturating_sub(now)).max(1);
        Passed::No { left: 0, retry_after: Some(Span(wait)) }
    }
}

impl Entry {
    fn is_free(&self, now: i64) -> bool {
        self.database.load(Ordering::Relaxed) == 0 || self.ends_at.load(Ordering::Relaxed) <= now
    }

    fn is(&self, key: &Key) -> bool {
        let subject = self.subject.each_ref().map(|half| half.load(Ordering::Relaxed));
        self.database.load(Ordering::Relaxed) == key.database && subject == halves(&key.subject)
    }

    fn level(&self) -> Level {
        Level::of_words(self.level.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    fn hold(&self, key: &Key, level: Level) {
        for (half, value) in self.subject.iter().zip(halves(&key.subject)) {
            half.store(value, Ordering::Relaxed);
        }
        for (word, value) in self.level.iter().zip(level.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.ends_at.store(level.ends_at(), Ordering::Relaxed);
        self.database.store(key.database, Ordering::Relaxed);
    }
}

fn halves(subject: &[u8; 16]) -> [u64; 2] {
    let half = |at: usize| std::array::from_fn(|byte| subject[at + byte]);
    [u64::from_ne_bytes(half(0)), u64::from_ne_bytes(half(8))]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn buckets(count: usize) -> Vec<Bucket> {
        std::iter::repeat_with(Bucket::default).take(count).collect()
    }

    fn key(number: u64) -> Key {
        let mut subject = [0; 16];
        subject[..8].copy_from_slice(&number.wrapping_mul(0xd6e8_feb8_6659_fd93).to_ne_bytes());
        subject[8..].copy_from_slice(&number.wrapping_mul(0xa076_1d64_78bd_642f).to_ne_bytes());
        Key { database: 5, subject }
    }

    fn rate(calls: i32, micros: i64) -> Rate {
        Rate::check(Some(calls), Some(Span(micros))).expect("good").expect("given")
    }

    fn passes(passed: Passed) -> bool {
        matches!(passed, Passed::Yes { .. })
    }

    #[test]
    fn each_key_has_a_limit_of_its_own() {
        let buckets = buckets(4);
        let map = RateMap::new(&buckets);
        let rate = rate(2, 1000);
        let other = Key { database: 6, ..key(1) };
        for key in [key(1), key(2), other] {
            let all: Vec<bool> = (0..3).map(|_| passes(map.charge(&key, &rate, 1, NOW))).collect();
            assert_eq!(all, [true, true, false]);
        }
        map.refund(&key(1), &rate, 1, NOW);
        assert!(passes(map.charge(&key(1), &rate, 1, NOW)));
        assert_eq!(map.used(NOW), 3);
        assert_eq!(map.used(NOW + 1000), 0, "all have run out");
        assert!(passes(map.charge(&key(9), &rate, 0, NOW)));
        assert_eq!(map.used(NOW), 3, "asking takes no place");
    }

    #[test]
    fn a_full_map_refuses_and_forgets_nobody() {
        let buckets = buckets(64);
        let map = RateMap::new(&buckets);
        let rate = rate(1, 1000);
        let capacity = (64 * ENTRIES_PER_BUCKET) as u64;
        let held: Vec<u64> =
            (0..2 * capacity).filter(|at| passes(map.charge(&key(*at), &rate, 1, NOW))).collect();
        assert!(
            held.len() as u64 <= capacity && held.len() as u64 > capacity * 9 / 10,
            "{}",
            held.len()
        );
        assert!(held.iter().all(|at| !passes(map.charge(&key(*at), &rate, 1, NOW))));
        let refused = (0..2 * capacity).find(|at| !held.contains(at)).expect("some");
        assert_eq!(map.look(&key(refused), &rate, 0, NOW), Passed::Yes { left: 0 });
        let first_gone = Passed::No { left: 0, retry_after: Some(Span(1000)) };
        assert_eq!(map.look(&key(refused), &rate, 1, NOW), first_gone);
        let first_refused = (0..2 * capacity).find(|at| !held.contains(at)).expect("some");
        assert!(
            first_refused > capacity * 3 / 4,
            "{first_refused}: with room left there is a place for everybody"
        );
        assert!(passes(map.charge(&key(first_refused), &rate, 1, NOW + 1000)));
    }

    #[test]
    fn a_lowered_limit_is_remembered_for_as_long_as_it_lasts() {
        let buckets = buckets(1);
        let map = RateMap::new(&buckets);
        for _ in 0..1000 {
            map.charge(&key(1), &rate(1000, 1_000_000), 1, NOW);
        }
        let (hourly, later) = (rate(1, 3_600_000_000), NOW + 2_000);
        // As a check does, which looks at all limits and charges none if one refuses.
        assert!(!passes(map.look(&key(1), &hourly, 1, later)));
        for other in 2..20 {
            map.charge(&key(other), &hourly, 1, later + 2_000_000);
        }
        assert!(!passes(map.charge(&key(1), &hourly, 1, later + 3_000_000)));
    }

    #[test]
    fn threads_together_get_exactly_the_limit() {
        let buckets = buckets(256);
        let rate = rate(1000, 1_000_000_000);
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let map = RateMap::new(&buckets);
                    for at in 0..500 {
                        // Two keys, so that their buckets are locked in both orders.
                        let _ = map.charge(&key(at), &rate, 1, NOW);
                        let yes = passes(map.charge(&key(77_777), &rate, 1, NOW));
                        passed.fetch_add(yes.into(), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1000);
    }
}
