//! Secrets in texts that are about to be logged.
//!
//! A token of ours is known by its checksum, wherever it stands, and is replaced by its display text.
//! A value for the vault looks like anything; so does a token of another system. A text that calls a
//! function which takes one is hidden whole. All is done in place, as what it becomes is never longer:
//! nothing is allocated while an error is written.

use crate::token;

/// Functions that take a secret, or give one.
const CALLS: [&[u8]; 14] = [
    b"api_token_validate",
    b"api_token_validate_many",
    b"api_token_authenticate",
    b"api_token_require",
    b"api_token_touch",
    b"api_token_refresh",
    b"api_token_invalidate",
    b"api_token_from_header",
    b"api_token_looks_valid",
    b"api_vault_store",
    b"api_vault_get",
    b"api_vault_encrypt_value",
    b"api_vault_decrypt_value",
    b"request.headers",
];

const HIDDEN: &[u8] = b"(hidden)";

/// Does a text call such a function, or set the headers that PostgREST passes on? Matched in any
/// case, as SQL does.
pub fn names_a_secret(text: &[u8]) -> bool {
    let first = |at: &usize| matches!(text[*at] | 0x20, b'a' | b'r');
    (0..text.len()).filter(first).any(|at| {
        CALLS.iter().any(|call| {
            let there = text.get(at..at + call.len());
            let next = text.get(at + call.len());
            let goes_on = next.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
            !goes_on && there.is_some_and(|there| there.eq_ignore_ascii_case(call))
        })
    })
}

/// Is there a token of ours in it?
pub fn holds_a_token(text: &[u8]) -> bool {
    token::find(text).is_some()
}

/// Replaces each token by its display text; returns how long the text is now.
pub fn shorten_tokens(text: &mut [u8]) -> usize {
    const DOTS: &[u8] = b"...";
    let (mut length, mut done) = (text.len(), 0);
    while let Some(found) = token::find(&text[done..length]) {
        let found = found.start + done..found.end + done;
        let hidden = token::hidden_part(&found);
        text[hidden.start..][..DOTS.len()].copy_from_slice(DOTS);
        let shown = hidden.start + DOTS.len();
        text.copy_within(hidden.end..length, shown);
        length -= hidden.end - shown;
        done = shown;
    }
    length
}

/// Hides the statement in an entry of the log and keeps what stands before it, which is how long it
/// took and what was done: `duration: 1.2 ms  statement: `. Returns how long the text is now.
pub fn hide_statement(text: &mut [u8]) -> usize {
    let kept = before_statement(text);
    let length = HIDDEN.len().min(text.len() - kept);
    text[kept..kept + length].copy_from_slice(&HIDDEN[..length]);
    kept + length
}

/// Where the statement begins: behind the second colon if a duration is told, or else the first.
/// What is not such a plain head is taken for a statement itself.
fn before_statement(text: &[u8]) -> usize {
    let head = |from: usize| {
        let colon = text[from..].windows(2).position(|two| two == b": ")?;
        let head = &text[from..from + colon];
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b" .<>_/".contains(b);
        let is_head = head.len() <= 100 && head.iter().all(is_plain) && !names_a_secret(head);
        is_head.then_some(from + colon + 2)
    };
    let first = head(0).unwrap_or(0);
    if text[..first].starts_with(b"duration") { head(first).unwrap_or(first) } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "acme_live_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ0itk4T";
    const SHOWN: &str = "acme_live_ZZZZ...tk4T";

    fn shortened(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let length = shorten_tokens(&mut bytes);
        String::from_utf8(bytes[..length].to_vec()).expect("cut at characters")
    }

    #[test]
    fn tokens_are_shortened_wherever_they_stand() {
        for around in
            ["{}", "x '{}' y", "{}{}", "ä{}ä", "Bearer%20{}", "{}xyz", "a {} b {} c", "\"{}\\n"]
        {
            let text = around.replace("{}", TOKEN);
            assert_eq!(shortened(&text), around.replace("{}", SHOWN), "{around}");
        }
        let typo = TOKEN.replace("0itk4T", "0itk4U");
        assert_eq!(shortened(&typo), typo, "it opens nothing");
    }

    #[test]
    fn calls_are_noticed_in_any_case_and_form() {
        for call in [
            "SELECT api_vault_store('a', 'b', 'secret')",
            "select * from public.API_TOKEN_VALIDATE_MANY ($1)",
            "SELECT \"api_token_require\"('x')",
            "SELECT set_config('request.headers', $1, true)",
        ] {
            assert!(names_a_secret(call.as_bytes()), "{call}");
        }
        for plain in [
            "SELECT 1",
            "",
            "api_",
            "api_token_list('acme')",
            "api_token_require_current()",
            "SELECT api_tokens_doctor()",
        ] {
            assert!(!names_a_secret(plain.as_bytes()), "{plain}");
        }
    }

    #[test]
    fn what_stands_before_a_statement_is_kept() {
        for (text, hidden) in [
            ("statement: SELECT api_vault_store('a')", "statement: (hidden)"),
            ("duration: 1.25 ms  statement: SELECT x: y", "duration: 1.25 ms  statement: (hidden)"),
            (
                "duration: 0.1 ms  parse <unnamed>: SELECT 1",
                "duration: 0.1 ms  parse <unnamed>: (hidden)",
            ),
            ("execute s1: SELECT 1 -- long", "execute s1: (hidden)"),
            ("could not do api_vault_store('it: now')", "(hidden)"),
            ("api_token_touch of old_key_1 failed: no such key", "(hidden)"),
            ("duration: 1 ms  api_token_touch of old_key_1: no", "duration: (hidden)"),
            ("abc", "(hi"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            let length = hide_statement(&mut bytes);
            assert_eq!(&bytes[..length], hidden.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_none_grows(text in ".{0,200}", at in 0_usize..200) {
            let mut text: Vec<char> = text.chars().collect();
            text.splice(at.min(text.len())..at.min(text.len()), TOKEN.chars());
            let text: String = text.into_iter().collect();
            prop_assert!(!holds_a_token(shortened(&text).as_bytes()));
            let mut bytes = text.clone().into_bytes();
            prop_assert!(hide_statement(&mut bytes) <= text.len());
            let _ = names_a_secret(text.as_bytes());
        }
    }
}
