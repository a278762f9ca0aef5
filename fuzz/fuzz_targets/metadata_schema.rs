//! Whatever is given for a JSON Schema, and for metadata: the answer comes soon and quotes nothing.
#![no_main]

use api_tokens_fuzz::json;
use api_tokens_logic::metadata_schema::{Schema, check_pattern, most_specific};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "a secret";
const METADATA: [&str; 6] = ["a", "b", "ab", "", "type", SECRET];

const OF_ONE: [&str; 9] = [
    "additionalProperties",
    "propertyNames",
    "items",
    "contains",
    "not",
    "if",
    "then",
    "unevaluatedProperties",
    "unevaluatedItems",
];
const OF_SOME: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const OF_NAMED: [&str; 4] = ["properties", "patternProperties", "dependentSchemas", "$defs"];
const LEAVES: [&str; 26] = [
    r#""type":"object""#,
    r#""type":["array","null"]"#,
    r#""type":"string""#,
    r#""minimum":0"#,
    r#""multipleOf":0.1"#,
    r#""required":["a"]"#,
    r#""dependentRequired":{"a":["b"]}"#,
    r#""minProperties":2"#,
    r#""uniqueItems":true"#,
    r#""minContains":0"#,
    r#""maxItems":1"#,
    r#""enum":["a",null]"#,
    r#""const":{"a":1}"#,
    r#""pattern":"^(a|b+)*$""#,
    r#""minLength":1"#,
    r#""format":"date-time""#,
    r##""$ref":"#""##,
    r##""$ref":"#/$defs/a""##,
    r##""$ref":"#a""##,
    r##""$dynamicRef":"#a""##,
    r#""$dynamicAnchor":"a""#,
    r#""$anchor":"a""#,
    r#""$id":"a""#,
    r##""$recursiveRef":"#""##,
    r#""$schema":"http://json-schema.org/draft-07/schema#""#,
    r#""$schema":"https://json-schema.org/draft/2019-09/schema""#,
];

/// Bytes alone would hardly ever make one that is valid.
fn schema(input: &mut Unstructured, depth: u8) -> Result<String> {
    let mut members = Vec::new();
    for _ in 0..if depth == 0 { 0 } else { input.int_in_range(0..=4)? } {
        let kind: u8 = input.int_in_range(0..=7)?;
        let key =
            *input.choose([&OF_ONE[..], &OF_SOME, &OF_NAMED, &LEAVES][usize::from(kind % 4)])?;
        let mut below = || schema(input, depth - 1);
        members.push(match kind % 4 {
            0 if kind == 4 => format!("\"{key}\":{}", json(input, &METADATA[..5], 2)?),
            0 => format!("\"{key}\":{}", below()?),
            1 => format!("\"{key}\":[{},{}]", below()?, below()?),
            2 => format!("\"{key}\":{{\"a\":{},\"b\":{}}}", below()?, below()?),
            _ => key.to_owned(),
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
