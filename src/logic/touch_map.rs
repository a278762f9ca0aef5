//! Uses of tokens that are not in the table yet, shared by all backends of a server.
//!
//! The map is a slice of buckets somebody else allocates (in Postgres: shared memory, zeroed). A
//! token has one bucket by its id and any of the entries in it. A bucket is worked on under its
//! own lock for some tens of nanoseconds; nothing in there allocates, waits or fails, so the lock
//! is a spin lock. Everything is an atomic, so the map needs no unsafe and no initialisation.
//!
//! Rejected: one lock-free entry per token. An entry that is given to another token between the
//! comparison of the key and the store would keep a stranger's token alive.

use crate::spin::{self, SpinLock};
use crate::time::Timestamp;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

pub const ENTRIES_PER_BUCKET: usize = 8;

/// Which token, in which database of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Oid of the database; never 0.
    pub database: u32,
    pub token_id: [u8; 16],
}

/// One token's uses that are handed to a flush: nobody else is given them until they are written or
/// given back, so that none is counted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub token_id: [u8; 16],
    pub last_use: Timestamp,
    pub uses: u64,
}

/// What became of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Kept,
    /// Kept in the place of a token all of whose uses are in the table.
    KeptEvicting,
    /// All entries of the bucket have uses to be written: write this one yourself.
    Full,
}

/// All zero is an empty bucket.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Bucket {
    lock: SpinLock,
    entries: [Entry; ENTRIES_PER_BUCKET],
}

/// `database` 0 is a free entry.
#[derive(Default)]
#[repr(C)]
struct Entry {
    token_id: [AtomicU64; 2],
    last_use: AtomicI64,
    uses: AtomicU64,
    database: AtomicU32,
    /// How many of the uses are handed to a flush.
    handed_out: AtomicU32,
}

#[derive(Clone, Copy)]
pub struct TouchMap<'a> {
    buckets: &'a [Bucket],
}

impl<'a> TouchMap<'a> {
    /// `buckets` must not be empty.
    pub fn new(buckets: &'a [Bucket]) -> Self {
        Self { buckets }
    }

    /// When the token was last used, as far as the map knows.
    pub fn last_use(&self, key: &Key) -> Option<Timestamp> {
        let bucket = self.bucket(key).lock();
        bucket.find(key).map(|entry| Timestamp(entry.last_use.load(Ordering::Relaxed)))
    }

    pub fn record(&self, key: &Key, now: Timestamp) -> Recorded {
        let bucket = self.bucket(key).lock();
        if let Some(entry) = bucket.find(key) {
            let last_use = entry.last_use.load(Ordering::Relaxed).max(now.0);
            entry.last_use.store(last_use, Ordering::Relaxed);
            entry.uses.store(entry.uses.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return Recorded::Kept;
        }
        let Some((entry, was_free)) = bucket.vacancy() else {
            return Recorded::Full;
        };
        entry.hold(key, now);
        if was_free { Recorded::Kept } else { Recorded::KeptEvicting }
    }

    /// Keeps a use in the place of the one longest unused, written or not: where nothing can be
    /// written, the latest uses are worth most.
    pub fn record_evicting(&self, key: &Key, now: Timestamp) {
        let bucket = self.bucket(key).lock();
        if let Some(oldest) =
            bucket.each().min_by_key(|entry| entry.last_use.load(Ordering::Relaxed))
        {
            oldest.hold(key, now);
        }
    }

    /// How many buckets there are, for walking over all of them.
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// Is there anything in a bucket to be written for a database that no flush has yet?
    pub fn is_pending(&self, bucket: usize, database: u32) -> bool {
        let bucket = self.buckets[bucket].lock();
        bucket.each().any(|entry| entry.waiting(database) > 0)
    }

    /// Hands out what one bucket has to be written for a database.
    pub fn hand_out(&self, bucket: usize, database: u32) -> impl Iterator<Item = Pending> {
        let bucket = self.buckets[bucket].lock();
        let found = bucket.each().map(|entry| entry.hand_out(database));
        let found: [Option<Pending>; ENTRIES_PER_BUCKET] = collect(found);
        found.into_iter().flatten()
    }

    /// These uses, handed out before, are in the table now; later ones stay pending.
    pub fn written(&self, key: &Key, uses: u64) {
        let bucket = self.bucket(key).lock();
        if let Some(entry) = bucket.find(key) {
            let taken = entry.take_back(uses);
            let pending = entry.uses.load(Ordering::Relaxed);
            entry.uses.store(pending.saturating_sub(taken), Ordering::Relaxed);
        }
    }

    /// These uses, handed out before, are for another flush to write.
    pub fn give_back(&self, key: &Key, uses: u64) {
        let bucket = self.bucket(key).lock();
        if let Some(entry) = bucket.find(key) {
            entry.take_back(uses);
        }
    }

    /// Frees the entries of all databases that `is_gone`.
    pub fn forget(&self, is_gone: impl Fn(u32) -> bool) {
        for bucket in self.buckets {
            let bucket = bucket.lock();
            for entry in bucket.each() {
                let database = entry.database.load(Ordering::Relaxed);
                if database != 0 && is_gone(database) {
                    entry.database.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// Entries in use, and those of them with uses to be written.
    pub fn census(&self) -> (usize, usize) {
        let (mut used, mut pending) = (0, 0);
        for bucket in self.buckets {
            let bucket = bucket.lock();
            for entry in bucket.each().filter(|entry| !entry.is_free()) {
                used += 1;
                pending += usize::from(entry.uses.load(Ordering::Relaxed) > 0);
            }
        }
        (used, pending)
    }

    /// Ids are UUIDs v7: their second half is random but for two bits, which multiplying spreads.
    fn bucket(&self, key: &Key) -> &'a Bucket {
        let [_, low] = halves(&key.token_id);
        let mixed = (low ^ u64::from(key.database)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.buckets[(mixed >> 32) as usize % self.buckets.len()]
    }
}

/// A bucket while it is locked.
struct Opened<'a> {
    bucket: &'a Bucket,
    _lock: spin::Locked<'a>,
}

impl Bucket {
    fn lock(&self) -> Opened<'_> {
        Opened { bucket: self, _lock: self.lock.lock() }
    }
}

impl<'a> Opened<'a> {
    fn each(&self) -> impl Iterator<Item = &'a Entry> {
        self.bucket.entries.iter()
    }

    fn find(&self, key: &Key) -> Option<&'a Entry> {
        self.each().find(|entry| entry.is(key))
    }

    /// A free entry, or else the one longest unused whose uses are all in the table.
    fn vacancy(&self) -> Option<(&'a Entry, bool)> {
        if let Some(free) = self.each().find(|entry| entry.is_free()) {
            return Some((free, true));
        }
        let settled = self.each().filter(|entry| entry.uses.load(Ordering::Relaxed) == 0);
        let oldest = settled.min_by_key(|entry| entry.last_use.load(Ordering::Relaxed));
        oldest.map(|entry| (entry, false))
    }
}

impl Entry {
    fn is_free(&self) -> bool {
        self.database.load(Ordering::Relaxed) == 0
    }

    fn is(&self, key: &Key) -> bool {
        self.database.load(Ordering::Relaxed) == key.database && self.token_id() == key.token_id
    }

    fn token_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        for (bytes, half) in id.chunks_exact_mut(8).zip(&self.token_id) {
            bytes.copy_from_slice(&half.load(Ordering::Relaxed).to_be_bytes());
        }
        id
    }

    fn hold(&self, key: &Key, now: Timestamp) {
        for (half, value) in self.token_id.iter().zip(halves(&key.token_id)) {
            half.store(value, Ordering::Relaxed);
        }
        self.last_use.store(now.0, Ordering::Relaxed);
        self.uses.store(1, Ordering::Relaxed);
        self.handed_out.store(0, Ordering::Relaxed);
        self.database.store(key.database, Ordering::Relaxed);
    }

    /// Uses that are handed to no flush.
    fn waiting(&self, database: u32) -> u64 {
        let is_of = self.database.load(Ordering::Relaxed) == database;
        let handed_out = u64::from(self.handed_out.load(Ordering::Relaxed));
        if is_of { self.uses.load(Ordering::Relaxed).saturating_sub(handed_out) } else { 0 }
    }

    fn hand_out(&self, database: u32) -> Option<Pending> {
        let handed_out = self.handed_out.load(Ordering::Relaxed);
        let uses = self.waiting(database).min(u64::from(u32::MAX - handed_out));
        self.handed_out.store(handed_out + uses as u32, Ordering::Relaxed);
        let last_use = Timestamp(self.last_use.load(Ordering::Relaxed));
        (uses > 0).then(|| Pending { token_id: self.token_id(), last_use, uses })
    }

    /// Not more than was handed out: the entry may have been given to another token and back.
    fn take_back(&self, uses: u64) -> u64 {
        let handed_out = self.handed_out.load(Ordering::Relaxed);
        let taken = u64::from(handed_out).min(uses);
        self.handed_out.store(handed_out - taken as u32, Ordering::Relaxed);
        taken
    }
}

fn halves(id: &[u8; 16]) -> [u64; 2] {
    let [mut high, mut low] = [[0; 8]; 2];
    high.copy_from_slice(&id[..8]);
    low.copy_from_slice(&id[8..]);
    [u64::from_be_bytes(high), u64::from_be_bytes(low)]
}

fn collect<T: Copy>(items: impl Iterator<Item = Option<T>>) -> [Option<T>; ENTRIES_PER_BUCKET] {
    let mut array = [None; ENTRIES_PER_BUCKET];
    array.iter_mut().zip(items).for_each(|(place, item)| *place = item);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(count: usize) -> Vec<Bucket> {
        (0..count).map(|_| Bucket::default()).collect()
    }

    fn key(number: u8) -> Key {
        let mut token_id = [0; 16];
        token_id[15] = number;
        Key { database: 5, token_id }
    }

    #[test]
    fn keeps_the_latest_use_and_counts() {
        let memory = buckets(1);
        let map = TouchMap::new(&memory);
        assert_eq!(map.last_use(&key(1)), None);
        assert_eq!(map.record(&key(1), Timestamp(10)), Recorded::Kept);
        assert_eq!(map.record(&key(1), Timestamp(7)), Recorded::Kept);
        assert_eq!(map.last_use(&key(1)), Some(Timestamp(10)), "only forward");
        let pending: Vec<Pending> = map.hand_out(0, 5).collect();
        let expected = Pending { token_id: key(1).token_id, last_use: Timestamp(10), uses: 2 };
        assert_eq!(pending, [expected]);
        assert_eq!(map.hand_out(0, 6).count(), 0, "another database");
        assert_eq!(map.hand_out(0, 5).count(), 0, "handed out once");
        map.record(&key(1), Timestamp(11));
        map.written(&key(1), 2);
        assert!(map.is_pending(0, 5) && !map.is_pending(0, 6));
        assert_eq!(map.hand_out(0, 5).next().map(|pending| pending.uses), Some(1));
        map.give_back(&key(1), 1);
        assert_eq!(map.hand_out(0, 5).next().map(|pending| pending.uses), Some(1));
        map.written(&key(1), 1);
        assert!(!map.is_pending(0, 5));
        assert_eq!(map.last_use(&key(1)), Some(Timestamp(11)), "still known");
        map.written(&key(1), 7);
        map.record(&key(1), Timestamp(12));
        map.written(&key(1), 1);
        assert!(map.is_pending(0, 5), "only what was handed out is written");
    }

    #[test]
    fn only_what_is_written_is_evicted_oldest_first() {
        let memory = buckets(1);
        let map = TouchMap::new(&memory);
        for number in 0..ENTRIES_PER_BUCKET as u8 {
            map.record(&key(number), Timestamp(i64::from(number)));
        }
        assert_eq!(map.record(&key(100), Timestamp(50)), Recorded::Full);
        map.record_evicting(&key(101), Timestamp(60));
        assert_eq!((map.last_use(&key(0)), map.last_use(&key(101))), (None, Some(Timestamp(60))));
        let _ = map.hand_out(0, 5);
        map.written(&key(4), 1);
        map.written(&key(2), 1);
        assert_eq!(map.record(&key(100), Timestamp(50)), Recorded::KeptEvicting);
        assert_eq!(map.last_use(&key(2)), None);
        assert_eq!(map.last_use(&key(4)), Some(Timestamp(4)));
        assert_eq!(map.census(), (ENTRIES_PER_BUCKET, ENTRIES_PER_BUCKET - 1));
        map.forget(|database| database == 5);
        assert_eq!(map.census(), (0, 0));
    }

    #[test]
    fn threads_lose_no_use() {
        let memory = buckets(4);
        let map = TouchMap::new(&memory);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..5_000_u32 {
                        let number = (round % 8) as u8;
                        map.record(&key(number), Timestamp(i64::from(round)));
                        if thread == 0 && round % 100 == 0 {
                            map.written(&key(number), 0);
                        }
                    }
                });
            }
        });
        let all = (0..map.bucket_count()).flat_map(|bucket| map.hand_out(bucket, 5));
        assert_eq!(all.map(|pending| pending.uses).sum::<u64>(), 20_000);
    }
}
