//! A lock for some tens of nanoseconds, in memory that processes share.
//!
//! What is done under it must not allocate, wait or fail: if its holder were to die, nobody could
//! take it again.

use std::sync::atomic::{AtomicU32, Ordering};

/// All zero is unlocked.
#[derive(Default)]
#[repr(transparent)]
pub struct SpinLock(AtomicU32);

/// Unlocks when it is dropped.
pub struct Locked<'a>(&'a SpinLock);

impl SpinLock {
    pub fn lock(&self) -> Locked<'_> {
        const SPINS_BEFORE_YIELDING: u32 = 100;
        let mut spins: u32 = 0;
        while self.0.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(SPINS_BEFORE_YIELDING) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        Locked(self)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Release);
    }
}
