//! Whatever lies where an array or an account of a quota should, in a row that is damaged: there is an
//! end, which may be a panic, as Postgres reports that as an error. Never is memory asked for that the
//! bytes do not account for, which would be the end of the server, and no use is given away.
#![no_main]

use api_tokens_logic::array::elements;
use api_tokens_logic::quota::{Account, Charged, Outcome, Quota, Refill, User};
use api_tokens_logic::time::{Span, Timestamp};
use libfuzzer_sys::fuzz_target;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static MAY_PANIC: AtomicBool = AtomicBool::new(false);

fn array(header: [u8; 5], data: &[u8]) {
    let [dimensions, nulls, one, other, max] = header;
    // Headers of bytes alone are hardly ever near to true ones.
    let word = |byte: u8, plain: u8| match byte {
        0..0x80 => u32::from(byte % plain),
        _ => u32::from_ne_bytes([byte, one, other, byte]),
    };
    let header = [word(dimensions, 4), word(nulls, 48), 25, word(one, 9), 1, word(other, 9), 1];
    let mut array: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
    array.extend(data);
    let max = if max == u8::MAX { usize::MAX } else { max.into() };
    MAY_PANIC.store(true, Relaxed);
    let found = std::panic::catch_unwind(|| elements(&array, max));
    MAY_PANIC.store(false, Relaxed);
    match found {
        Ok(Ok(found)) => {
            let bytes: usize = found.iter().flatten().map(|element| 4 + element.len()).sum();
            assert!(found.len() <= max && bytes <= array.len());
        }
        Ok(Err(count)) => assert!(count > max),
        Err(_) => {}
    }
}

fn account(words: [u64; 4]) {
    let mut account = Account::of_words(&std::array::from_fn(|at| words[at % 4] >> (at / 2)));
    let refill =
        Refill { amount: (words[0] >> 40) as i64 + 1, every: Span(words[1] as u8 as i64 + 1) };
    let quota = Quota { max_uses: (words[2] >> 33) as i64 + 1, refill: Some(refill) };
    let known = [Outcome::UnderWay, Outcome::Own, Outcome::RolledBack, Outcome::Committed];
    account.settle(account.cluster, |id| known[id as usize % 4]);
    let now = Timestamp(words[3].cast_signed());
    account.refill(&quota, now);
    let charged = account.charge(&quota, User { innermost: 1, top: 1 }, 1, now);
    if let Charged::Accepted { left } | Charged::Exceeded { left, .. } = charged {
        assert!((0..=quota.max_uses).contains(&left));
    }
}

fuzz_target!(
    // Else the first panic would be the end.
    init: {
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !MAY_PANIC.load(Relaxed) {
                abort(info);
            }
        }));
    },
    |input: ([u8; 5], [u64; 4], &[u8])| {
        let (header, words, data) = input;
        array(header, data);
        account(words);
    }
);
