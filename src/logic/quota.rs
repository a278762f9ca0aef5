//! A quota: so many uses, perhaps refilled from time to time, counted exactly while many
//! transactions use it at once, and none waits for another.
//!
//! A counter in a row that each use updates would be locked until its transaction ends; whoever
//! authenticates and then works for a second keeps everybody else with this token waiting. So a use
//! is counted at once, outside of any transaction, and beside the counter it leaves a *reservation*:
//! the number of its transaction and what it cost. Whoever comes next settles what has ended
//! meanwhile: a reservation of a transaction that was rolled back, or died with the server, is taken
//! off the counter again; any other is just dropped. So whoever reads the counter alone, or the row
//! in the midst of a change as a dump does, sees too many uses, never too few.

use crate::error::{Error, Result};
use crate::time::{Span, Timestamp};

/// How many transactions can hold reservations of one quota at a time; the next one waits.
pub const SLOTS: usize = 32;

/// Of those, how many one transaction may have, for its subtransactions.
const SLOTS_OF_ONE: usize = 8;

/// What a token is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub max_uses: i64,
    pub refill: Option<Refill>,
}

/// So many uses come back, that often, up to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    pub amount: i64,
    pub every: Span,
}

impl Quota {
    /// The three settings as they were given; all NULL is no quota.
    pub fn check(
        max_uses: Option<i64>,
        refill_amount: Option<i64>,
        refill_every: Option<Span>,
    ) -> Result<Option<Self>> {
        let positive = |argument, number: Option<i64>| match number {
            Some(number) if number <= 0 => Err(Error::NotPositive { argument }),
            number => Ok(number),
        };
        positive("max_uses", max_uses)?;
        positive("refill_amount", refill_amount)?;
        positive("refill_every", refill_every.map(|every| every.0))?;
        let missing = |argument, needs| Err(Error::Incomplete { argument, needs });
        let refill = match (refill_amount, refill_every) {
            (None, None) => None,
            (Some(amount), Some(every)) => Some(Refill { amount, every }),
            (Some(_), None) => return missing("refill_amount", "refill_every"),
            (None, Some(_)) => return missing("refill_every", "refill_amount"),
        };
        match max_uses {
            None if refill.is_some() => missing("refill_amount", "max_uses"),
            None => Ok(None),
            Some(max_uses) => Ok(Some(Self { max_uses, refill })),
        }
    }
}

/// How a transaction ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    UnderWay,
    /// It is the one that asks, or one inside of it.
    Own,
    Committed,
    RolledBack,
}

/// A use that is not settled; transaction 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reservation {
    transaction: u64,
    cost: i64,
    /// Of the transaction that asks; not written.
    is_own: bool,
}

/// What a quota's row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Uses, those of transactions under way included, less what was refilled.
    pub spent: i64,
    pub refilled_at: Timestamp,
    /// Which cluster's transactions the reservations name.
    pub cluster: i64,
    slots: [Reservation; SLOTS],
}

/// The account as words of a row: spent, refilled_at, cluster, one that is not ours, the slots.
pub const WORDS: usize = 4 + 2 * SLOTS;
pub type Words = [u64; WORDS];

/// Who uses it: the innermost subtransaction, and the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub innermost: u64,
    pub top: u64,
}

/// What became of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// So many are left.
    Accepted { left: i64 },
    /// It does not fit; perhaps later, if nobody else takes them.
    Exceeded { left: i64, retry_after: Option<Span> },
    /// No place for another reservation before one of so many transactions has ended.
    Crowded,
}

impl Account {
    pub fn new(cluster: i64, now: Timestamp) -> Self {
        let slots = [Reservation::default(); SLOTS];
        Self { spent: 0, refilled_at: now, cluster, slots }
    }

    /// What is damaged and below zero is taken for zero.
    pub fn of_words(words: &Words) -> Self {
        let mut slots = [Reservation::default(); SLOTS];
        for (slot, words) in slots.iter_mut().zip(words[4..].chunks_exact(2)) {
            let [transaction, cost] = [words[0], words[1]];
            *slot = Reservation { transaction, cost: cost.cast_signed().max(0), is_own: false };
        }
        let [spent, refilled_at, cluster] = [0, 1, 2].map(|at| words[at].cast_signed());
        Self { spent: spent.max(0), refilled_at: Timestamp(refilled_at), cluster, slots }
    }

    pub fn write_to(&self, words: &mut Words) {
        let own = [self.spent, self.refilled_at.0, self.cluster];
        for (word, value) in words.iter_mut().zip(own) {
            *word = value.cast_unsigned();
        }
        for (words, slot) in words[4..].chunks_exact_mut(2).zip(&self.slots) {
            words.copy_from_slice(&[slot.transaction, slot.cost.cast_unsigned()]);
        }
    }

    /// The transactions that have reservations.
    pub fn transactions(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|slot| slot.transaction).filter(|transaction| *transaction != 0)
    }

    /// Settles what has ended. Reservations of another cluster, whose rows were dumped and restored
    /// here, stay counted: nothing is known of their transactions.
    pub fn settle(&mut self, cluster: i64, outcome: impl Fn(u64) -> Outcome) {
        let is_foreign = self.cluster != cluster;
        self.cluster = cluster;
        for slot in self.slots.iter_mut().filter(|slot| slot.transaction != 0) {
            let outcome = if is_foreign { Outcome::Committed } else { outcome(slot.transaction) };
            match outcome {
                Outcome::UnderWay => continue,
                Outcome::Own => {
                    slot.is_own = true;
                    continue;
                }
                Outcome::RolledBack => self.spent = self.spent.saturating_sub(slot.cost).max(0),
                Outcome::Committed => {}
            }
            *slot = Reservation::default();
        }
    }

    /// Gives back what has been refilled since; what would be more than the most is lost.
    pub fn refill(&mut self, quota: &Quota, now: Timestamp) {
        let Some(refill) = quota.refill else { return };
        let times = now.since(self.refilled_at).0 / refill.every.0;
        if times > 0 {
            let amount = refill.amount.saturating_mul(times);
            self.spent = self.spent.saturating_sub(amount).max(0);
            let passed = refill.every.0.saturating_mul(times);
            self.refilled_at = self.refilled_at.plus(Span(passed));
            self.forget_refilled();
        }
    }

    /// A use that has come back by a refill does not come back once more by a rollback.
    fn forget_refilled(&mut self) {
        let reserved = self.slots.iter().fold(0_i64, |sum, slot| sum.saturating_add(slot.cost));
        let mut excess = reserved.saturating_sub(self.spent);
        for slot in &mut self.slots {
            let refilled = excess.clamp(0, slot.cost);
            slot.cost -= refilled;
            excess -= refilled;
        }
    }

    /// Does it fit? For one that is settled and refilled. Nothing is reserved.
    pub fn look(&self, quota: &Quota, cost: i32, now: Timestamp) -> Charged {
        // Below zero where the most was lowered.
        let free = quota.max_uses.saturating_sub(self.spent);
        let (left, cost) = (free.max(0), i64::from(cost));
        if cost <= left {
            return Charged::Accepted { left };
        }
        let refill = quota.refill.filter(|_| cost <= quota.max_uses);
        let retry_after = refill.map(|refill| {
            let missing = cost.saturating_sub(free);
            let times = missing.div_euclid(refill.amount) + i64::from(missing % refill.amount > 0);
            self.refilled_at.plus(Span(refill.every.0.saturating_mul(times))).since(now)
        });
        Charged::Exceeded { left, retry_after }
    }

    /// Counts what it costs and reserves it for this transaction, if that fits.
    pub fn charge(&mut self, quota: &Quota, user: User, cost: i32, now: Timestamp) -> Charged {
        let fits = self.look(quota, cost, now);
        let Charged::Accepted { left } = fits else { return fits };
        if cost == 0 {
            return fits;
        }
        let cost = i64::from(cost);
        let Some(slot) = self.slot_of(user) else {
            return Charged::Crowded;
        };
        slot.cost = slot.cost.saturating_add(cost);
        self.spent = self.spent.saturating_add(cost);
        Charged::Accepted { left: left - cost }
    }

    /// The slot for a use. A subtransaction has one of its own, so that it gives back what it used if
    /// it alone is rolled back; but not where places are scarce, nor beyond the first few: there the
    /// use is the whole transaction's. `None` if all are others'.
    fn slot_of(&mut self, user: User) -> Option<&mut Reservation> {
        let place_of =
            |transaction| self.slots.iter().position(|slot| slot.transaction == transaction);
        let count =
            |is: fn(&Reservation) -> bool| self.slots.iter().filter(|slot| is(slot)).count();
        let (own, free) = (count(|slot| slot.is_own), count(|slot| slot.transaction == 0));
        let has_room = own < SLOTS_OF_ONE && free > SLOTS / 2;
        let holder = if has_room { user.innermost } else { user.top };
        let place = place_of(user.innermost).or_else(|| place_of(holder));
        // The last resort is a slot of its own subtransaction, which becomes the whole transaction's.
        let (place, is_taken) = match place.or_else(|| place_of(0)) {
            Some(place) => (place, false),
            None => (self.slots.iter().position(|slot| slot.is_own)?, true),
        };
        let slot = &mut self.slots[place];
        if is_taken {
            slot.transaction = user.top;
        } else if slot.transaction == 0 {
            *slot = Reservation { transaction: holder, cost: 0, is_own: true };
        }
        Some(slot)
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
