//! Any text is a key ring or refused, and a refusal quotes nothing of it.
#![no_main]

use api_tokens_logic::vault::keyring::Ring;
use api_tokens_logic::vault::passphrase;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match Ring::parse(input) {
        Ok(ring) => assert!(ring.find(&ring.primary().id).is_some()),
        Err(malformed) => assert!(malformed.to_string().len() < 80),
    }
    if let Ok(text) = str::from_utf8(input) {
        let (value, iv) = text.split_at(text.floor_char_boundary(text.len() / 2));
        let _ = passphrase::check(value, iv);
    }
});
