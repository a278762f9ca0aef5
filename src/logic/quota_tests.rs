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

fn at(micros: i64) -> Timestamp {
    Timestamp(NOW.0 + micros)
}

fn words(account: &Account) -> Words {
    let mut words = [0; WORDS];
    account.write_to(&mut words);
    words
}

fn refilled(max_uses: i64, amount: i64, every: i64) -> Quota {
    Quota { max_uses, refill: Some(Refill { amount, every: Span(every) }) }
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
fn a_damaged_row_is_no_panic_and_no_more_than_the_most() {
    let quota = refilled(5, 2, 100);
    let mut account = Account::of_words(&[(-9_i64).cast_unsigned(); WORDS]);
    account.settle(account.cluster, |_| Outcome::UnderWay);
    assert_eq!(account.look(&quota, 0, NOW), Charged::Accepted { left: 5 });
    account.refill(&quota, at(1_000));
    assert_eq!(account.spent, 0);
}

#[test]
fn refills_are_whole_and_end_at_the_most() {
    let quota = refilled(5, 2, 100);
    let mut account = account();
    account.spent = 5;
    account.refill(&quota, at(99));
    let later = |left, micros| Charged::Exceeded { left, retry_after: Some(Span(micros)) };
    assert_eq!(account.look(&quota, 1, at(99)), later(0, 1));
    assert_eq!(account.look(&quota, 3, at(99)), later(0, 101));
    assert_eq!(account.look(&quota, 6, at(99)), Charged::Exceeded { left: 0, retry_after: None });
    account.refill(&quota, at(250));
    assert_eq!((account.spent, account.refilled_at), (1, at(200)));
    account.refill(&quota, at(1_000_000));
    assert_eq!(
        (account.spent, account.look(&quota, 0, at(1_000_000))),
        (0, Charged::Accepted { left: 5 })
    );
    account.refill(&quota, at(0));
    assert_eq!(account.refilled_at, at(1_000_000), "a clock that steps back gives nothing");
}

#[test]
fn a_refill_is_of_uses_under_way_too() {
    let quota = refilled(10, 10, 100);
    let mut account = account();
    account.charge(&quota, by(1), 10, NOW);
    account.refill(&quota, at(100));
    assert_eq!(account.charge(&quota, by(2), 4, at(100)), Charged::Accepted { left: 6 });
    account
        .settle(HERE, |number| if number == 1 { Outcome::RolledBack } else { Outcome::UnderWay });
    assert_eq!(
        account.look(&quota, 0, at(100)),
        Charged::Accepted { left: 6 },
        "what came by the refill does not come again by the rollback"
    );
}

#[test]
fn a_lowered_most_takes_as_long_to_refill_as_it_does() {
    let quota = refilled(10, 1, 100);
    let mut account = account();
    account.spent = 100;
    let refused = Charged::Exceeded { left: 0, retry_after: Some(Span(9_100)) };
    assert_eq!(account.look(&quota, 1, NOW), refused);
}

#[test]
fn subtransactions_share_a_slot_where_places_are_scarce() {
    let quota = Quota { max_uses: 1000, refill: None };
    let mut account = account();
    for innermost in 100..120 {
        account.settle(HERE, |_| Outcome::Own);
        account.charge(&quota, User { innermost, top: 99 }, 1, NOW);
    }
    assert_eq!(account.transactions().count(), SLOTS_OF_ONE + 1, "the rest is the transaction's");
    let mut account = Account::of_words(&words(&account));
    for transaction in 200..200 + (SLOTS - SLOTS_OF_ONE - 1) as u64 {
        let user = User { innermost: transaction + 100, top: transaction };
        assert!(matches!(account.charge(&quota, user, 1, NOW), Charged::Accepted { .. }));
    }
    let account = Account::of_words(&words(&account));
    let crowded = account.clone().charge(&quota, by(999), 1, NOW);
    assert_eq!(crowded, Charged::Crowded);
    // Who has a place does not wait, whichever of its subtransactions asks.
    for (own, top) in [(100, 99), (300, 200), (220, 220)] {
        let mut account = Account::of_words(&words(&account));
        let before = account.spent;
        account.settle(HERE, |number| if number == own { Outcome::Own } else { Outcome::UnderWay });
        let charged = account.charge(&quota, User { innermost: 900, top }, 1, NOW);
        assert!(matches!(charged, Charged::Accepted { .. }), "{own}");
        assert_eq!(account.spent, before + 1);
    }
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
    /// Transactions use it and end, in any order: never more is accepted than there is, and in the
    /// end exactly what was committed is spent. The row goes through its words each time.
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
            let outcome = |number| match ended.get(&number) {
                Some(outcome) => *outcome,
                None if number == transaction => Outcome::Own,
                None => Outcome::UnderWay,
            };
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
                Charged::Crowded => prop_assert!(running.len() >= SLOTS),
            }
            account.write_to(&mut row);
            if cost == 3 {
                let took = running.remove(&transaction).unwrap_or_default();
                committed += if commits { took } else { 0 };
                let outcome = if commits { Outcome::Committed } else { Outcome::RolledBack };
                ended.insert(transaction, outcome);
            }
        }
        let mut account = Account::of_words(&row);
        let dead = |number| ended.get(&number).copied().unwrap_or(Outcome::RolledBack);
        account.settle(HERE, dead);
        prop_assert_eq!((account.spent, account.transactions().count()), (committed, 0));
    }
}
