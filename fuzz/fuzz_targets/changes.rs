//! The changes of an update are read as they are written, or refused without a word of them.
#![no_main]

use api_tokens_fuzz::object;
use api_tokens_logic::change::{self, Change, KEYS};
use api_tokens_logic::metadata_schema::of_changes;
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const SECRET: &str = "S3CRET";
const OTHERS: [&str; 9] =
    ["a:*", "10.0.0.0/8", "1 day", "", "namespace", "sk_1", SECRET, "a\u{0}\"\\", "é"];

fn written(change: &Change) -> Value {
    match change {
        Change::Metadata => Value::Null,
        Change::Scopes(scopes) => json!(scopes),
        Change::AllowedIps(networks) => json!(networks),
        Change::Enabled(enabled) => json!(enabled),
        Change::MaxUses(number) | Change::RefillAmount(number) => json!(number),
        Change::RateLimit(number) => json!(number),
        Change::Name(text)
        | Change::ExpiresAt(text)
        | Change::MaxIdle(text)
        | Change::MaxExpiresAt(text)
        | Change::RefillEvery(text)
        | Change::RateWindow(text) => json!(text),
    }
}

fuzz_target!(|input: &[u8]| {
    let _ = str::from_utf8(input).map(change::parse);
    let words = [&KEYS[..], &OTHERS].concat();
    let Ok(mut given) = object(&mut Unstructured::new(input), &words, 4) else { return };
    let text = Value::from(given.clone()).to_string();
    let metadata = given.get("metadata").filter(|metadata| !metadata.is_null());
    assert_eq!(of_changes(&text), metadata.map(Value::to_string));
    match change::parse(&text) {
        Ok(changes) => {
            let read: Map<String, Value> =
                changes.iter().map(|change| (change.key().to_owned(), written(change))).collect();
            // Whose null is the same as an empty one, and what is not looked at.
            given.entry("scopes").and_modify(|scopes| {
                if scopes.is_null() {
                    *scopes = json!([])
                }
            });
            given.entry("metadata").and_modify(|metadata| *metadata = Value::Null);
            assert_eq!(read, given);
        }
        Err(refusal) => {
            let said = [Some(refusal.message()), refusal.detail(), refusal.hint()];
            assert!(!said.into_iter().flatten().any(|said| said.contains(SECRET)));
        }
    }
});
