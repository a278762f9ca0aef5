//! What follows transactions, while several of them begin, nest and end in any order: a quota, which
//! is never overdrawn, and a value, which is what copying it at every savepoint would make it.
#![no_main]

use api_tokens_logic::nested::Nested;
use api_tokens_logic::quota::{Account, Charged, Outcome, Quota, Refill, User, WORDS};
use api_tokens_logic::time::{Span, Timestamp};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

/// A subtransaction and those released into it, and the value in it.
type Level = (Vec<u64>, Option<u8>);

#[derive(Default)]
struct Transaction {
    levels: Vec<Level>,
    value: Nested<u8>,
}

const HERE: i64 = 7;

fuzz_target!(|input: (u8, u8, u8, Vec<(u8, u8, u8)>)| {
    let (max_uses, amount, every, steps) = input;
    let max_uses = i64::from(max_uses) + 1;
    let settings = (amount > 0).then(|| (amount.into(), Span(i64::from(every) + 1)));
    let (amount, every) = settings.unzip();
    let quota = Quota::check(Some(max_uses), amount, every).expect("good").expect("given");

    let mut row = [0; WORDS];
    Account::new(HERE, Timestamp(0)).write_to(&mut row);
    let mut open: [Transaction; 40] = std::array::from_fn(|_| Transaction::default());
    let mut ended: BTreeMap<u64, Outcome> = BTreeMap::new();
    let mut uses: Vec<(i64, u64, i64)> = Vec::new();
    let (mut next, mut now, mut is_scarce) = (1, 0, false);
    for (who, what, cost) in steps {
        let who = usize::from(who) % open.len();
        let Transaction { levels, value } = &mut open[who];
        if levels.is_empty() {
            levels.push((vec![next], None));
            next += 1;
        }
        let (top, depth) = (levels[0].0[0], levels.len() - 1);
        let innermost = levels[depth].0[0];
        match what % 8 {
            0 => now += i64::from(cost),
            1 => {
                levels[depth].1 = Some(cost);
                value.set(innermost as u32, Some(cost));
            }
            2 => {
                levels.push((vec![next], levels[depth].1));
                next += 1;
            }
            3 if depth > 0 => {
                let (ids, current) = levels.pop().expect("open");
                let parent = &mut levels[depth - 1];
                *parent = ([&parent.0[..], &ids].concat(), current);
                value.release(innermost as u32, parent.0[0] as u32);
            }
            4 if depth > 0 => {
                let (ids, _) = levels.pop().expect("open");
                ended.extend(ids.into_iter().map(|id| (id, Outcome::RolledBack)));
                value.roll_back(innermost as u32);
            }
            5 => {
                let outcome = if cost % 2 == 0 { Outcome::Committed } else { Outcome::RolledBack };
                let ids = levels.drain(..).flat_map(|(ids, _)| ids);
                ended.extend(ids.map(|id| (id, outcome)));
                value.end();
            }
            _ => {
                let mut account = Account::of_words(&row);
                account.settle(HERE, |id| match ended.get(&id) {
                    Some(outcome) => *outcome,
                    None if levels.iter().any(|level| level.0.contains(&id)) => Outcome::Own,
                    None => Outcome::UnderWay,
                });
                account.refill(&quota, Timestamp(now));
                let user = User { innermost, top };
                let cost = i32::from(cost % 16);
                let charged = account.charge(&quota, user, cost, Timestamp(now));
                if let Charged::Accepted { left } = charged {
                    assert!((0..=max_uses).contains(&left));
                    uses.push((now, innermost, cost.into()));
                }
                is_scarce |= account.transactions().count() >= 8;
                account.write_to(&mut row);
                // Since whenever: no more than there was at the most, and what has come since.
                let mut sum = 0;
                let stays = |id| ended.get(id) != Some(&Outcome::RolledBack);
                for (at, _, cost) in uses.iter().rev().filter(|(_, id, _)| stays(id)) {
                    sum += cost;
                    let times = |refill: Refill| now / refill.every.0 - at / refill.every.0;
                    let refilled = quota.refill.map_or(0, |refill| times(refill) * refill.amount);
                    assert!(sum <= max_uses + refilled, "{sum} in {at}..{now}");
                }
            }
        }
        let Transaction { levels, value } = &open[who];
        assert_eq!(value.current().copied(), levels.last().and_then(|level| level.1));
    }
    let mut account = Account::of_words(&row);
    account.settle(HERE, |id| ended.get(&id).copied().unwrap_or(Outcome::RolledBack));
    let is_committed = |id| ended.get(id) == Some(&Outcome::Committed);
    let committed = uses.iter().filter(|(_, id, _)| is_committed(id)).map(|(.., cost)| cost).sum();
    assert!(account.spent >= committed || quota.refill.is_some());
    assert!(account.spent == committed || quota.refill.is_some() || is_scarce);
});
