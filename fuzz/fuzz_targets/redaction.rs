//! Each token in a text becomes its display text and nothing else changes, no entry of the log shows a
//! statement that is to be hidden, and no token can be imported as its own display text.
#![no_main]

use api_tokens_logic::digest::Digest;
use api_tokens_logic::input::display_prefix;
use api_tokens_logic::redact::{hide_statement, holds_a_token, names_a_secret, shorten_tokens};
use api_tokens_logic::token::{Prefix, Token, looks_valid};
use libfuzzer_sys::fuzz_target;

const PREFIXES: [&str; 4] = ["sk", "a", "acme_live", "abcdefghij_123456789"];
const WORDS: [&str; 4] =
    ["api_token_touch", "API_Vault_store", "duration: 1.5 ms  statement: ", "execute s1: "];

fn token(prefix: &Prefix, seed: u8) -> Token {
    let mut next = seed;
    Token::generate(prefix, |bytes| {
        bytes.fill_with(|| {
            next = next.wrapping_add(37);
            next
        })
    })
}

fuzz_target!(|input: &[u8]| {
    let (mut text, mut expected) = (Vec::new(), Vec::new());
    for &byte in input.iter().take(500) {
        let choice = usize::from(byte % 4);
        if byte < 0xf0 {
            let word = if byte < 0xe0 { &[byte] } else { WORDS[choice].as_bytes() };
            text.extend(word);
            expected.extend(word);
            continue;
        }
        let prefix = Prefix::parse(PREFIXES[choice]).expect("a prefix");
        let token = token(&prefix, byte);
        assert!(looks_valid(token.expose().as_bytes()));
        assert_eq!(Prefix::of_display(&token.display_prefix()), prefix);
        text.extend(token.expose().bytes());
        expected.extend(token.display_prefix().bytes());
    }
    let mut short = text.clone();
    let length = shorten_tokens(&mut short);
    assert_eq!(short[..length], expected);
    assert!(!holds_a_token(&expected));
    assert_eq!(holds_a_token(&text), text != expected);

    let shown = str::from_utf8(&text);
    let is_taken = display_prefix(shown.ok(), &Digest([7; 32])).is_ok();
    assert!(!is_taken || !holds_a_token(&text));

    assert_eq!(names_a_secret(&text), names_a_secret(&text.to_ascii_uppercase()));
    let is_utf8 = shown.is_ok();
    let length = hide_statement(&mut text);
    assert!(!names_a_secret(&text[..length]), "what is kept before the statement is none itself");
    assert!(!is_utf8 || str::from_utf8(&text[..length]).is_ok());
});
