//! JSON made of a target's own words: from bytes alone a fuzzer would take hours to find them.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use serde_json::{Map, Value};

/// Objects have words for keys; so are all strings, and an object may lie so deep.
pub fn json(input: &mut Unstructured, words: &[&str], depth: u8) -> Result<Value> {
    let kinds = if depth == 0 { 3 } else { 7 };
    Ok(match input.int_in_range(0..=kinds)? {
        0 => Value::Null,
        1 => input.arbitrary::<bool>()?.into(),
        2 => input.arbitrary::<i64>()?.into(),
        3 => (*input.choose(words)?).into(),
        4 => {
            let length = input.int_in_range(0..=4)?;
            (0..length).map(|_| json(input, words, depth - 1)).collect::<Result<Vec<_>>>()?.into()
        }
        _ => object(input, words, depth)?.into(),
    })
}

pub fn object(input: &mut Unstructured, words: &[&str], depth: u8) -> Result<Map<String, Value>> {
    let mut members = Map::new();
    for _ in 0..input.int_in_range(0..=4)? {
        let key = (*input.choose(words)?).to_owned();
        members.insert(key, json(input, words, depth - 1)?);
    }
    Ok(members)
}
