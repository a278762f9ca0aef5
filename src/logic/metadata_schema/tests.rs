use super::bounds::{MAX_PARTS, MAX_VISITS};
use super::*;

fn compiled(text: &str) -> Schema {
    Schema::compile(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// The path and the keyword that the metadata fails at.
fn fails(schema: &str, metadata: &str) -> String {
    match compiled(schema).check(Some(metadata)) {
        Err(Error::MetadataMismatch { path, keyword }) => format!("{path} {keyword}"),
        other => panic!("{schema} {metadata}: {other:?}"),
    }
}

fn refused(schema: &str) -> (String, SchemaProblem) {
    match Schema::compile(schema) {
        Err(Error::BadSchema { path, problem }) => (path, problem),
        Err(other) => panic!("{schema}: {other:?}"),
        Ok(_) => panic!("{schema}: accepted"),
    }
}

#[test]
fn the_most_specific_pattern_applies() {
    let of = |namespace| most_specific(["*", "a*", "ab", "ab*", "x"].into_iter(), namespace);
    assert_eq!(of("ab"), Some("ab"), "the namespace itself, before any beginning");
    assert_eq!(of("abc"), Some("ab*"));
    assert_eq!(of("ac"), Some("a*"));
    assert_eq!(of("xy"), Some("*"));
    assert_eq!(most_specific(["b*", "ab"].into_iter(), "abc"), None);
    assert_eq!(most_specific([].into_iter(), "abc"), None);
    assert!(check_pattern(Some("")).is_err());
    assert!(check_pattern(Some(&"x".repeat(513))).is_err());
    assert_eq!(check_pattern(Some("*")), Ok("*"));
}

#[test]
fn an_error_names_the_path_and_the_keyword() {
    let seats = r#"{"type": "object", "required": ["seats"], "additionalProperties": false,
        "properties": {"seats": {"type": "integer", "maximum": 9},
        "list": {"items": {"enum": ["a"]}}}}"#;
    assert_eq!(fails(seats, r#"{"seats": "x"}"#), "/seats type");
    assert_eq!(fails(seats, r#"{"seats": 10}"#), "/seats maximum");
    assert_eq!(fails(seats, "{}"), "/seats required");
    assert_eq!(fails(seats, "[]"), " type");
    assert_eq!(fails(seats, r#"{"seats": 1, "list": ["a", "b"]}"#), "/list/1 enum");
    assert_eq!(fails(seats, r#"{"seats": 1, "extra": 1}"#), "/extra additionalProperties");
    assert_eq!(fails(seats, r#"{"seats": 1, "a secret": 1}"#), "/? additionalProperties");
    assert_eq!(compiled(seats).check(Some(r#"{"seats": 3}"#)), Ok(()));
}

#[test]
fn no_metadata_is_an_empty_object() {
    assert_eq!(compiled(r#"{"type": "object"}"#).check(None), Ok(()));
    assert!(compiled(r#"{"required": ["a"]}"#).check(None).is_err());
    assert_eq!(of_changes(r#"{"metadata": null}"#), None);
    assert_eq!(of_changes(r#"{"metadata": {"a": 1}}"#).as_deref(), Some(r#"{"a": 1}"#));
}

#[test]
fn what_is_no_schema_is_refused_with_its_path() {
    let bad = r#"{"properties": {"seats": {"type": "no such type"}}}"#;
    assert_eq!(refused(bad), ("/properties/seats/type".into(), SchemaProblem::Invalid));
    let bad = r#"{"properties": {"a secret": {"maximum": "x"}}}"#;
    assert_eq!(refused(bad), ("/properties/?/maximum".into(), SchemaProblem::Invalid));
    assert_eq!(refused("5").1, SchemaProblem::Invalid);
    let bad = r#"{"properties": {"a": {"pattern": "("}}}"#;
    assert_eq!(refused(bad), ("/properties/a/pattern".into(), SchemaProblem::Invalid));
    let long = format!(r#"{{"title": "{}"}}"#, "x".repeat(MAX_BYTES));
    assert!(matches!(Schema::compile(&long), Err(Error::SchemaTooLong { .. })));
    let many = format!("{{\"allOf\": [{}{{}}]}}", "{},".repeat(MAX_PARTS));
    assert!(matches!(Schema::compile(&many), Err(Error::SchemaTooComplex { .. })));
    let deep = format!("{}{{}}{}", r#"{"not":"#.repeat(200), "}".repeat(200));
    assert!(matches!(Schema::compile(&deep), Err(Error::Malformed { .. })));
}

#[test]
fn a_reference_out_of_the_schema_is_refused() {
    for target in ["https://example.com/s.json", "file:///etc/passwd", "other.json"] {
        let remote = format!(r#"{{"properties": {{"a": {{"$ref": "{target}"}}}}}}"#);
        let place = "/properties/a/$ref".into();
        assert_eq!(refused(&remote), (place, SchemaProblem::Reference), "{target}");
    }
    let nowhere = r##"{"properties": {"a": {"$ref": "#/$defs/b"}}}"##;
    assert_eq!(refused(nowhere).0, "/properties/a/$ref");
    assert_eq!(refused(r#"{"$schema": "https://example.com/own"}"#).0, "/$schema");
    let inside = r##"{"$ref": "#/$defs/n", "$defs": {"n": {"type": "object"}}}"##;
    assert_eq!(fails(inside, "1"), " type");
    compiled(r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}"#);
}

#[test]
fn a_name_is_looked_for_in_one_schema_only() {
    let of = |id: &str| {
        let named =
            format!(r#"{{{id} "properties": {{"b": {{"$anchor": "a", "type": "null"}}}}}}"#);
        format!(r##"{{"allOf": [{named}, {{{id} "$dynamicRef": "#a"}}]}}"##)
    };
    assert_eq!(fails(&of(""), "1"), " type");
    // The same address twice; the crate would panic.
    let place = "/allOf/1/$dynamicRef".into();
    assert_eq!(refused(&of(r#""$id": "a","#)), (place, SchemaProblem::Reference));
    let top = r##"{"$id": "https://example.com/a", "$ref": "#a", "$defs": {"x": {"$anchor": "a", "type": "null"}}}"##;
    assert_eq!(fails(top, "1"), " type");
    let older = r##"{"$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"a": {"$ref": "#a"}}, "definitions": {"x": {"$id": "#a", "type": "null"}}}"##;
    assert_eq!(fails(older, r#"{"a": 1}"#), "/a type");
}

#[test]
fn no_pattern_takes_more_than_linear_time() {
    let slow = r#"{"properties": {"a": {"pattern": "^(a+)+$"}}}"#;
    let long = format!(r#"{{"a": "{}!"}}"#, "a".repeat(50_000));
    assert_eq!(fails(slow, &long), "/a pattern");
    // What only a backtracking engine can do, and an expression that grows, are refused.
    for pattern in [r"(a)\\1", "(?=a)b", "(((a{99}){99}){99}){99}"] {
        let schema = format!(r#"{{"properties": {{"a": {{"pattern": "{pattern}"}}}}}}"#);
        assert_eq!(refused(&schema).0, "/properties/a/pattern", "{pattern}");
    }
}

#[test]
fn a_schema_that_turns_in_circles_ends() {
    for circle in [
        r##"{"$ref": "#"}"##,
        r##"{"allOf": [{"$ref": "#"}]}"##,
        r##"{"not": {"$ref": "#"}}"##,
        r##"{"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}"##,
    ] {
        let _ = compiled(circle).check(Some(r#"{"a": 1}"#));
    }
}

/// A chain of schemas, each `refers` times to the next, and the last again to the first for each member.
fn chain(length: usize, refers: usize) -> String {
    let link = |to: usize| vec![format!(r##"{{"$ref": "#/$defs/d{to}"}}"##); refers].join(",");
    let links: Vec<String> =
        (1..length).map(|at| format!(r#""d{at}": {{"allOf": [{}]}}"#, link(at + 1))).collect();
    let last = r##"{"additionalProperties": {"$ref": "#/$defs/d1"}}"##;
    format!(r##"{{"$ref": "#/$defs/d1", "$defs": {{{}, "d{length}": {last}}}}}"##, links.join(","))
}

#[test]
fn the_deepest_recursion_fits_a_small_stack() {
    // Less is enough for a release build.
    let run = || {
        let schema = compiled(&chain(23, 1));
        let levels = MAX_VISITS / schema.bounds.parts - 1;
        let nested = |n: usize| format!("{}1{}", r#"{"a":"#.repeat(n), "}".repeat(n));
        assert_eq!(schema.check(Some(&nested(levels))), Ok(()));
        assert!(schema.check(Some(&nested(levels + 1))).is_err());
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    thread.expect("a thread").join().expect("it fits");
}

#[test]
fn references_multiply_only_so_far() {
    let many = Schema::compile(&chain(60, 2));
    assert!(matches!(many, Err(Error::SchemaTooComplex { .. })));
    // As many as may be. What fits ends, and what does not fit ends without its place, whose
    // search would not.
    let last = r#"{"type": "object", "additionalProperties""#;
    let most = chain(12, 2).replace(r#"{"additionalProperties""#, last);
    assert_eq!(compiled(&most.replace("\"type\": \"object\",", "")).check(Some("{}")), Ok(()));
    let most = most.replace("allOf", "anyOf");
    assert_eq!(fails(&most, r#"{"a": {"a": {"a": 1}}}"#), " ");
    // With few, the place is found.
    assert_eq!(
        fails(&chain(3, 1).replace(r#"{"additionalProperties""#, last), r#"{"a": 1}"#),
        "/a type"
    );
    // And with many that lead to no circle.
    let all: Vec<String> =
        (0..20).map(|at| format!(r##""a{at}": {{"$ref": "#/$defs/n"}}"##)).collect();
    let flat = format!(
        r#"{{"properties": {{{}}}, "$defs": {{"n": {{"properties": {{"b": {{"type": "null"}}}}}}}}}}"#,
        all.join(",")
    );
    assert_eq!(fails(&flat, r#"{"a7": {"b": 1}}"#), "/a7/b type");
}

/// What makes `serde_json` read a text as JSON: so that one thing would be checked and another stored.
#[test]
fn no_key_is_magic() {
    let key = r#"{"$serde_json::private::RawValue": "{\"seats\": 3}"}"#;
    let schema = r#"{"required": ["seats"]}"#;
    assert!(matches!(compiled(schema).check(Some(key)), Err(Error::Malformed { .. })));
    assert!(matches!(Schema::compile(key), Err(Error::Malformed { .. })));
}

#[test]
fn what_could_take_long_is_not_begun() {
    let nested = |levels: usize| {
        let open = r#"{"oneOf":["#.repeat(levels);
        format!("{open}true{}", r#"],"unevaluatedProperties":false}"#.repeat(levels))
    };
    assert!(matches!(Schema::compile(&nested(5)), Err(Error::SchemaTooComplex { .. })));
    assert_eq!(compiled(&nested(4)).check(None), Ok(()));

    let too_complex = |schema: &str, metadata: &str| {
        assert_eq!(compiled(schema).check(Some(metadata)), Err(Error::MetadataTooComplex));
    };
    let patterns = [r#"{"pattern": "[ab]*a[ab]{100}c"}"#; 3].join(",");
    let long = format!(r#"{{"k": "{}"}}"#, "ab".repeat(25_000));
    too_complex(&format!(r#"{{"properties": {{"k": {{"anyOf": [{patterns}]}}}}}}"#), &long);
    let members: Vec<String> = (10_000..18_900).map(|n| n.to_string()).collect();
    let nines = format!("[{}9]", "9,".repeat(30_000));
    too_complex(&format!(r#"{{"items": {{"enum": [{}]}}}}"#, members.join(",")), &nines);

    // Each alternative would keep an error for each element: only that it does not fit is told.
    let lists = [r#"{"items": {"type": "string"}}"#; 20].join(",");
    assert_eq!(fails(&format!(r#"{{"anyOf": [{{"allOf": [{lists}]}}]}}"#), &nines), " ");
}

#[test]
fn names_that_the_schema_has_are_shown() {
    let schema = r#"{"properties": {"é": {"type": "null"}, "a/b": {"type": "null"}}}"#;
    assert_eq!(fails(schema, r#"{"é": 1}"#), "/é type");
    assert_eq!(fails(schema, r#"{"a/b": 1}"#), "/a~1b type");
    let others = r#"{"additionalProperties": {"type": "null"}}"#;
    assert_eq!(fails(others, r#"{"a/b": 1}"#), "/? type");
}

#[test]
fn common_patterns_are_small_enough() {
    for pattern in
        [r"^\\w+$", r"^\\d{4}-\\d{2}-\\d{2}$", "^[a-z0-9-]{1,63}$", r"^[^@\\s]+@[^@\\s]+$"]
    {
        compiled(&format!(r#"{{"properties": {{"a": {{"pattern": "{pattern}"}}}}}}"#));
    }
}
