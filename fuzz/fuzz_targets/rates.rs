//! Rate limits of many keys in a map that has room for some: against the algorithm as the textbook
//! has it, a theoretical arrival time for each. And one limit that is changed all the time.
#![no_main]

use api_tokens_logic::rate::{Level, MAX_WINDOW, Passed, Rate};
use api_tokens_logic::rate_map::{Bucket, ENTRIES_PER_BUCKET, Key, RateMap};
use api_tokens_logic::time::Span;
use libfuzzer_sys::fuzz_target;

/// Small numbers or any.
fn settings(calls: i32, window: i64) -> (i32, i64, Rate) {
    let calls = if calls % 2 == 0 { calls % 7 } else { calls }.saturating_abs().max(1);
    let window = window.rem_euclid(MAX_WINDOW.0) + 1;
    let rate = Rate::check(Some(calls), Some(Span(window))).expect("good").expect("given");
    (calls, window, rate)
}

/// Whose, how long after the last, and what it costs.
type Call = (u8, u32, u8);

fuzz_target!(|input: ([(i32, i64); 2], u32, Vec<Call>)| {
    let (all, scale, steps) = input;
    let all = all.map(|(calls, window)| settings(calls, window));
    let (calls, window, rate) = all[0];
    let (calls, window) = (i128::from(calls), i128::from(window));
    let mut level = Level::EMPTY;

    let buckets = [Bucket::default()];
    let map = RateMap::new(&buckets);
    let mut arrivals = [0_i128; 16];
    let mut now = 1_i64;
    for (key, wait, cost) in steps {
        now += i64::from(wait) * i64::from(scale % 1000);
        let (subject, gives_back) = (usize::from(key % 16), key >= 0xc0);
        let key = Key { database: 5, subject: [subject as u8; 16] };
        let cost = if cost == u8::MAX { i32::MAX } else { i32::from(cost % 4) };

        // A limit that is changed again and again.
        let (limit, _, changed) = all[subject % 2];
        let passed = level.charge(&changed, cost, now);
        let (Passed::Yes { left } | Passed::No { left, .. }) = passed;
        assert!((0..=i64::from(limit)).contains(&left));
        assert_eq!(Level::of_words(level.to_words()), level);
        if let Passed::No { retry_after: Some(Span(wait)), .. } = passed {
            assert!(matches!(level.look(&changed, cost, now + wait), Passed::Yes { .. }));
        }

        let begun = i128::from(now) * calls;
        let arrival = arrivals[subject].max(begun);
        let level = arrival - begun + i128::from(cost) * window;
        let has_room = arrival > begun || map.used(now) < ENTRIES_PER_BUCKET;
        match map.charge(&key, &rate, cost, now) {
            Passed::Yes { left } if has_room => {
                assert!(level <= calls * window);
                assert_eq!(i128::from(left), (calls * window - level) / window);
                arrivals[subject] = arrival + i128::from(cost) * window;
            }
            Passed::Yes { left } => assert!(cost == 0 && i128::from(left) <= calls),
            Passed::No { left, retry_after } => {
                assert!(level > calls * window || !has_room);
                assert!(left >= 0 && i128::from(left) <= calls);
                assert_eq!(retry_after.is_none(), i128::from(cost) > calls);
                let passes_at = |at| matches!(map.look(&key, &rate, cost, at), Passed::Yes { .. });
                if let Some(Span(wait)) = retry_after.filter(|_| has_room) {
                    assert!(passes_at(now + wait) && !passes_at(now + wait - 1));
                }
                continue;
            }
        }
        if gives_back {
            map.refund(&key, &rate, cost, now);
            arrivals[subject] = arrival;
        }
    }
});
