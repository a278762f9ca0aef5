//! A quota: so many uses, perhaps refilled from time to time, counted exactly while many
//! transactions use it at once, and none waits for another.
//!
//! A counter in a row that each use updates would be locked until its transaction ends; whoever
//! authenticates and then works for a second keeps everybody else with this token waiting. So a use
//! is a *reservation*: the number of the transaction and what it costs, written beside the counter
//! at once, outside of any transaction. Whoever comes next settles what has ended meanwhile: of a
//! transaction that committed the cost is spent, of one that was rolled back, or died with the
//! server, the reservation is dropped. Those under way count as spent.

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
    pub spent: i64,
    pub refilled_at: Timestamp,
    /// Which cluster's transactions the reservations name.
    pub cluster: i64,
    slots: [Reservation; SLOTS],
}

/// The account as words of a row: spent, refilled_at, cluster, one that is not ours, the slots.
pub const WORDS: usize = 4 + 2 * SLOTS;
pub type Words = [u64; WORDS];

/// The word that says up to when was refilled.
pub const REFILLED_AT: usize = 1;

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
    /// No place for another reservation before this transaction has ended.
    Crowded { wait_for: u64 },
}

impl Account {
    pub fn new(cluster: i64, now: Timestamp) -> Self {
        let slots = [Reservation::default(); SLOTS];
        Self { spent: 0, refilled_at: now, cluster, slots }
    }

    pub fn of_words(words: &Words) -> Self {
        let mut slots = [Reservation::default(); SLOTS];
        for (slot, words) in slots.iter_mut().zip(words[4..].chunks_exact(2)) {
            let [transaction, cost] = [words[0], words[1]];
            *slot = Reservation { transaction, cost: cost.cast_signed(), is_own: false };
        }
        let [spent, refilled_at, cluster] = [0, 1, 2].map(|at| words[at].cast_signed());
        Self { spent, refilled_at: Timestamp(refilled_at), cluster, slots }
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
    /// here, are taken for spent: nothing is known of their transactions.
    pub fn settle(&mut self, cluster: i64, outcome: impl Fn(u64) -> Outcome) {
        let is_foreign = self.cluster != cluster;
        self.cluster = cluster;
        for slot in self.slots.iter_mut().filter(|slot| slot.transaction != 0) {
            let outcome = if is_foreign { Outcome::Committed } else { outcome(slot.transaction) };
            match outcome {
                Outcome::UnderWay => {}
                Outcome::Own => slot.is_own = true,
                Outcome::RolledBack => *slot = Reservation::default(),
                Outcome::Committed => {
                    self.spent = self.spent.saturating_add(slot.cost);
                    *slot = Reservation::default();
                }
            }
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
        }
    }

    fn left(&self, quota: &Quota) -> i64 {
        let reserved = self.slots.iter().fold(0, |sum: i64, slot| sum.saturating_add(slot.cost));
        quota.max_uses.saturating_sub(self.spent).saturating_sub(reserved).max(0)
    }

    /// Does it fit? For one that is settled and refilled. Nothing is reserved.
    pub fn look(&self, quota: &Quota, cost: i32, now: Timestamp) -> Charged {
        let left = self.left(quota);
        let cost = i64::from(cost);
        if cost <= left {
            return Charged::Accepted { left };
        }
        let refill = quota.refill.filter(|_| cost <= quota.max_uses);
        let retry_after = refill.map(|refill| {
            let missing = cost - left;
            let times = missing.div_euclid(refill.amount) + i64::from(missing % refill.amount > 0);
            self.refilled_at.plus(Span(refill.every.0.saturating_mul(times))).since(now)
        });
        Charged::Exceeded { left, retry_after }
    }

    /// Reserves what it costs, if that fits, for this transaction. A subtransaction that is rolled
    /// back gives its own back; beyond the first few its cost is the whole transaction's.
    pub fn charge(&mut self, quota: &Quota, user: User, cost: i32, now: Timestamp) -> Charged {
        let fits = self.look(quota, cost, now);
        let Charged::Accepted { left } = fits else { return fits };
        if cost == 0 {
            return fits;
        }
        let Some(slot) = self.slot_of(user) else {
            let others = self.slots.iter().filter(|slot| !slot.is_own);
            let wait_for = others.map(|slot| slot.transaction).min().unwrap_or_default();
            return Charged::Crowded { wait_for };
        };
        slot.cost = slot.cost.saturating_add(i64::from(cost));
        Charged::Accepted { left: left - i64::from(cost) }
    }

    fn slot_of(&mut self, user: User) -> Option<&mut Reservation> {
        let place_of =
            |transaction| self.slots.iter().position(|slot| slot.transaction == transaction);
        let own = self.slots.iter().filter(|slot| slot.is_own).count();
        let holder = if own < SLOTS_OF_ONE { user.innermost } else { user.top };
        let place = place_of(user.innermost).or_else(|| place_of(holder));
        let place = place.or_else(|| place_of(0))?;
        let slot = &mut self.slots[place];
        if slot.transaction == 0 {
            *slot = Reservation { transaction: holder, cost: 0, is_own: true };
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NOW: Timestamp = Timestamp(1_000);
    const PLAIN: Quota = Quota { max_uses: 3, refill: None };
    const HERE: i64 = 7;

    fn account() -> Account {
        Account::new(HERE, NOW)
    }

    fn by(transaction: u64) -> User {
        User { innermost: transaction, top: transaction }
    }

    #[test]
    fn a_use_counts_at_once_and_is_given_back_by_a_rollback() {
        let mut account = account();
        assert_eq!(account.charge(&PLAIN, by(1), 2, NOW), Charged::Accepted { left: 1 });
        let refused = Charged::Exceeded { left: 1, retry_after: None };
        assert_eq!(account.charge(&PLAIN, by(2), 2, NOW), refused, "refused whole");
        assert_eq!(account.look(&PLAIN, 0, NOW), Charged::Accepted { left: 1 });
        account.settle(HERE, |_| Outcome::RolledBack);
        assert_eq!(account.charge(&PLAIN, by(2), 3, NOW), Charged::Accepted { left: 0 });
        account.settle(HERE, |_| Outcome::Committed);
        assert_eq!((account.spent, account.transactions().count()), (3, 0));
    }

    #[test]
    fn what_another_cluster_reserved_is_spent() {
        let mut account = account();
        account.charge(&PLAIN, by(1), 2, NOW);
        account.settle(HERE + 1, |_| panic!("its transactions are not asked about"));
        assert_eq!((account.spent, account.cluster), (2, HERE + 1));
    }

    #[test]
    fn refills_are_whole_and_end_at_the_most() {
        let refill = Some(Refill { amount: 2, every: Span(100) });
        let quota = Quota { max_uses: 5, refill };
        let mut account = account();
        account.spent = 5;
        let at = |micros| Timestamp(NOW.0 + micros);
        account.refill(&quota, at(99));
        let later = |left, micros| Charged::Exceeded { left, retry_after: Some(Span(micros)) };
        assert_eq!(account.look(&quota, 1, at(99)), later(0, 1));
        assert_eq!(account.look(&quota, 3, at(99)), later(0, 101));
        assert_eq!(
            account.look(&quota, 6, at(99)),
            Charged::Exceeded { left: 0, retry_after: None }
        );
        account.refill(&quota, at(250));
        assert_eq!((account.spent, account.refilled_at), (1, at(200)));
        account.refill(&quota, at(1_000_000));
        assert_eq!((account.spent, account.left(&quota)), (0, 5));
        account.refill(&quota, at(0));
        assert_eq!(account.refilled_at, at(1_000_000), "a clock that steps back gives nothing");
    }

    #[test]
    fn a_full_account_waits_for_somebody_else() {
        let quota = Quota { max_uses: 1000, refill: None };
        let mut account = account();
        for innermost in 100..120 {
            account.settle(HERE, |_| Outcome::Own);
            account.charge(&quota, User { innermost, top: 99 }, 1, NOW);
        }
        let own = SLOTS_OF_ONE + 1;
        assert_eq!(account.transactions().count(), own, "the rest is the transaction's");
        for transaction in 200..200 + (SLOTS - own) as u64 {
            let used = account.charge(&quota, by(transaction), 1, NOW);
            assert!(matches!(used, Charged::Accepted { .. }), "{used:?}");
        }
        // The first of them asks again, in another subtransaction, and does not wait for itself.
        let mut account = Account::of_words(&words(&account));
        account.settle(HERE, |number| if number == 200 { Outcome::Own } else { Outcome::UnderWay });
        let crowded = account.charge(&quota, User { innermost: 300, top: 199 }, 1, NOW);
        assert_eq!(crowded, Charged::Crowded { wait_for: 99 });
    }

    fn words(account: &Account) -> Words {
        let mut words = [0; WORDS];
        account.write_to(&mut words);
        words
    }

    #[test]
    fn settings_belong_together() {
        let check = Quota::check;
        assert_eq!(check(None, None, None), Ok(None));
        assert_eq!(check(Some(3), None, None), Ok(Some(PLAIN)));
        assert!(check(Some(3), Some(1), Some(Span(1))).is_ok());
        for bad in [
            check(Some(0), None, None),
            check(Some(3), Some(0), Some(Span(1))),
            check(Some(3), Some(1), Some(Span(0))),
            check(Some(3), Some(1), None),
            check(Some(3), None, Some(Span(1))),
            check(None, Some(1), Some(Span(1))),
        ] {
            assert!(bad.is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// Transactions use it and end, in any order: never more is accepted than there is, and in
        /// the end exactly what was committed is spent. The row goes through its words each time.
        #[test]
        fn exactly_what_was_committed_is_spent(
            steps in prop::collection::vec((1_u64..50, 0_i32..4, prop::bool::ANY), 0..200),
            max_uses in 1_i64..60,
        ) {
            let quota = Quota { max_uses, refill: None };
            let mut row = words(&account());
            let mut running: BTreeMap<u64, i64> = BTreeMap::new();
            let mut ended: BTreeMap<u64, Outcome> = BTreeMap::new();
            let mut committed = 0;
            for (transaction, cost, commits) in steps {
                if ended.contains_key(&transaction) {
                    continue;
                }
                let outcome = |transaction| ended.get(&transaction).copied().unwrap_or(Outcome::UnderWay);
                let mut account = Account::of_words(&row);
                account.settle(HERE, outcome);
                let used: i64 = committed + running.values().sum::<i64>();
                match account.charge(&quota, by(transaction), cost, NOW) {
                    Charged::Accepted { left } => {
                        *running.entry(transaction).or_default() += i64::from(cost);
                        prop_assert_eq!(left, max_uses - used - i64::from(cost));
                    }
                    Charged::Exceeded { left, .. } => {
                        prop_assert!(i64::from(cost) > left && left == max_uses - used);
                    }
                    Charged::Crowded { wait_for } => prop_assert!(running.contains_key(&wait_for)),
                }
                account.write_to(&mut row);
                if cost == 3 {
                    let took = running.remove(&transaction).unwrap_or_default();
                    committed += if commits { took } else { 0 };
                    ended.insert(transaction, if commits { Outcome::Committed } else { Outcome::RolledBack });
                }
            }
            let mut account = Account::of_words(&row);
            account.settle(HERE, |transaction| ended.get(&transaction).copied().unwrap_or(Outcome::RolledBack));
            prop_assert_eq!((account.spent, account.transactions().count()), (committed, 0));
        }
    }
}
