//! Whatever lies in a column of sealed values opens to what was sealed, or not at all.
#![no_main]

use api_tokens_logic::vault::seal::{self, Context, SALT_BYTES};
use api_tokens_logic::vault::secret::{Key, KeyId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let key = Key::filled(|bytes| bytes.fill(9));
    let context = Context::Value { namespace: "acme", key_name: "stripe", version: 3 };
    // Nobody seals by guessing.
    assert!(seal::open(&key, &context, input).is_err());

    // A box changed at one place does not open; unchanged it does.
    let Some((at, plaintext)) = input.split_first() else { return };
    let mut sealed = seal::seal(&key, &KeyId([7; 16]), &context, &[5; SALT_BYTES], plaintext);
    assert!(seal::open(&key, &context, &sealed).is_ok_and(|opened| *opened == plaintext));
    let at = usize::from(*at) % sealed.len();
    sealed[at] ^= 0x10;
    assert!(seal::open(&key, &context, &sealed).is_err());
});
