//! Whatever lies where an array should: its elements lie in it, or there is a panic, which Postgres
//! reports as an error. Never is memory asked for that the bytes do not account for, which would be
//! the end of the server.
#![no_main]

use api_tokens_logic::array::elements;
use libfuzzer_sys::fuzz_target;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static MAY_PANIC: AtomicBool = AtomicBool::new(false);

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
    |input: &[u8]| {
        let Some((&[dimensions, nulls, one, other, max], data)) = input.split_first_chunk() else {
            return;
        };
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
                assert!(found.iter().all(Option::is_some) || found.len() <= 8 * array.len());
            }
            Ok(Err(count)) => assert!(count > max),
            Err(_) => {}
        }
    }
);
