//! Whatever is given for a JSON Schema, and for metadata: the answer comes soon and quotes nothing. Not
//! for hours: of a schema that refers to itself where it stands the crate never frees some kilobytes.
#![no_main]

use api_tokens_fuzz::json;
use api_tokens_logic::metadata_schema::{Schema, check_pattern, most_specific};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "a secret";
const METADATA: [&str; 6] = ["a", "b", "ab", "", "type", SECRET];

/// What has a schema for its value, some, or one for each of some names; and whole members.
const KEYS: [&str; 4] = [
    "additionalProperties propertyNames items contains not if then unevaluatedProperties unevaluatedItems",
    "allOf anyOf oneOf prefixItems",
    "properties patternProperties dependentSchemas $defs",
    r##""type":"object" "type":["array","null"] "type":"string" "required":["a"] "const":{"a":1}
    "dependentRequired":{"a":["b"]} "minProperties":2 "uniqueItems":true "minContains":0 "maxItems":1
    "enum":["a",null] "minimum":0 "multipleOf":0.1 "minLength":1 "pattern":"^(a|b+)*$" "format":"date-time"
    "$ref":"#" "$ref":"#/$defs/a" "$ref":"#a" "$anchor":"a" "$id":"a" "$id":"./a" "$id":"" "$id":"#a"
    "id":"a" "id":"#a" "$dynamicRef":"#a" "$ref":"#/%61" "$schema":"http://json-schema.org/draft-04/schema#"
    "$dynamicAnchor":"a" "$recursiveRef":"#" "$schema":"http://json-schema.org/draft-07/schema#"
    "$schema":"https://json-schema.org/draft/2019-09/schema""##,
];

/// Bytes alone would hardly ever make one that is valid.
fn schema(input: &mut Unstructured, depth: u8) -> Result<String> {
    let mut members = Vec::new();
    for _ in 0..if depth == 0 { 0 } else { input.int_in_range(0..=4)? } {
        let kind: u8 = input.int_in_range(0..=7)?;
        let keys: Vec<&str> = KEYS[usize::from(kind % 4)].split_whitespace().collect();
        let key = input.choose(&keys)?;
        let mut below = || schema(input, depth - 1);
        members.push(match kind % 4 {
            0 if kind == 4 => format!("\"{key}\":{}", json(input, &METADATA[..5], 2)?),
            0 => format!("\"{key}\":{}", below()?),
            1 => format!("\"{key}\":[{},{}]", below()?, below()?),
            2 => format!("\"{key}\":{{\"a\":{},\"b\":{}}}", below()?, below()?),
            _ => (*key).to_owned(),
        });
    }
    Ok(format!("{{{}}}", members.join(",")))
}

fn check(input: &mut Unstructured) -> Result<()> {
    let schema = schema(input, 4)?;
    let metadata = json(input, &METADATA, 4)?.to_string();
    let refused = match Schema::compile(&schema) {
        Ok(schema) => schema.check(Some(&metadata)),
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = refused {
        let said = [Some(refusal.message()), refusal.detail(), refusal.hint()];
        assert!(!said.into_iter().flatten().any(|said| said.contains(SECRET)));
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let _ = check(&mut Unstructured::new(input));
    let Ok(text) = str::from_utf8(input) else { return };
    let _ = Schema::compile(text).map(|schema| schema.check(Some(text)));
    let mut patterns = text.split('\n').filter(|pattern| check_pattern(Some(pattern)).is_ok());
    let Some(namespace) = patterns.next().filter(|name| !name.ends_with('*')) else { return };
    let found = most_specific(patterns.clone(), namespace);
    assert!(found == Some(namespace) || patterns.all(|pattern| pattern != namespace));
});
