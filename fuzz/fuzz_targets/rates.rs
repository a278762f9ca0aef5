//! Rate limits of many keys in a map that has room for some: against the algorithm as the textbook
//! has it, a theoretical arrival time for each.
#![no_main]

use api_tokens_logic::rate::{MAX_WINDOW, Passed, Rate};
use api_tokens_logic::rate_map::{Bucket, ENTRIES_PER_BUCKET, Key, RateMap};
use api_tokens_logic::time::Span;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i32, i64, u32, Vec<(u8, u32, u8)>)| {
    let (calls, window, scale, steps) = input;
    let window = window.rem_euclid(MAX_WINDOW.0) + 1;
    let calls = if calls % 2 == 0 { calls % 7 } else { calls }.saturating_abs().max(1);
    let rate = Rate::check(Some(calls), Some(Span(window))).expect("good").expect("given");
    let (calls, window) = (i128::from(calls), i128::from(window));

    let buckets = [Bucket::default()];
    let map = RateMap::new(&buckets);
    let mut arrivals = [0_i128; 16];
    let mut now = 1_i64;
    for (key, wait, cost) in steps {
        now += i64::from(wait) * i64::from(scale % 1000);
        let (subject, gives_back) = (usize::from(key % 16), key >= 0xc0);
        let key = Key { database: 5, subject: [subject as u8; 16] };
        let cost = if cost == u8::MAX { i32::MAX } else { i32::from(cost % 4) };
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
