//! JSON Schemas of metadata: which one applies to a namespace, whether it is one, and whether
//! metadata fits it.
//!
//! Errors name places and keywords. They never show a value, and of keys only plain names: both
//! may be a secret put in the wrong place.

use crate::error::{Error, Result, SchemaProblem};
use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

pub const MAX_BYTES: usize = 64 * 1024;
/// Compiling and checking go down by recursion through each part of a schema, at worst once per
/// level of the metadata, and the server's stack is finite: [`MAX_VISITS`] is what two megabytes
/// of it take.
pub const MAX_PARTS: usize = 1000;
/// References to references multiply, in compiling as in checking, and neither can be interrupted.
pub const MAX_REFERENCES: usize = 24;
const MAX_VISITS: usize = 2000;
/// References times levels of the metadata up to which the place of a failure is looked for: that
/// search keeps nothing in mind, and references to references multiply.
const MAX_SEARCH: usize = 40;
const MAX_PATTERN: usize = 512;
/// Of one compiled regular expression.
const MAX_REGEX_BYTES: usize = 128 * 1024;
/// Regular expressions in a schema.
const MAX_PATTERNS: usize = 32;
/// Metadata to be checked, as text: it takes many times that in memory, and cannot be interrupted.
const MAX_METADATA_BYTES: usize = 1024 * 1024;

/// A namespace, or the beginning of one followed by `*`.
pub fn check_pattern(pattern: Option<&str>) -> Result<&str> {
    let argument = "namespace_pattern";
    let pattern = crate::input::required(argument, pattern)?;
    let actual = pattern.len();
    if actual == 0 || actual > MAX_PATTERN {
        return Err(Error::Length { argument, min: 1, max: MAX_PATTERN, actual });
    }
    Ok(pattern)
}

/// The pattern that applies: the namespace itself, else the longest beginning of it.
pub fn most_specific<'a>(
    patterns: impl Iterator<Item = &'a str>,
    namespace: &str,
) -> Option<&'a str> {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(beginning) => namespace.starts_with(beginning),
        None => *pattern == namespace,
    };
    patterns.filter(fits).max_by_key(|pattern| (!pattern.ends_with('*'), pattern.len()))
}

/// A schema that is ready to check.
pub struct Schema {
    validator: Validator,
    parts: usize,
    references: usize,
}

impl Schema {
    /// Reads the text of a JSON Schema, of draft 2020-12 unless its `$schema` names another.
    pub fn compile(text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(Error::SchemaTooLong { max: MAX_BYTES, actual: text.len() });
        }
        let schema: Value = serde_json::from_str(text).map_err(|_| unreadable("schema"))?;
        let parts = parts(&schema);
        if parts > MAX_PARTS {
            return Err(Error::TooMany { argument: "schema", max: MAX_PARTS, actual: parts });
        }
        let patterns = patterns(&schema);
        if patterns > MAX_PATTERNS {
            return Err(Error::TooMany { argument: "schema", max: MAX_PATTERNS, actual: patterns });
        }
        let references = references(&schema);
        if references > MAX_REFERENCES {
            return Err(Error::TooMany {
                argument: "schema",
                max: MAX_REFERENCES,
                actual: references,
            });
        }
        // The engine without backtracking: no pattern can take more than linear time.
        let patterns =
            PatternOptions::regex().size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES);
        // Offline: the server fetches nothing on behalf of a schema.
        let options = jsonschema::options().offline().with_pattern_options(patterns);
        let built = options.build(&schema);
        let validator = built.map_err(|error| refusal(&schema, &error))?;
        Ok(Self { validator, parts, references })
    }

    /// Does the text of this JSON fit? None is checked as an empty object.
    pub fn check(&self, metadata: Option<&str>) -> Result<()> {
        let text = metadata.unwrap_or("{}");
        if text.len() > MAX_METADATA_BYTES {
            return Err(Error::MetadataTooLong { max: MAX_METADATA_BYTES, actual: text.len() });
        }
        let metadata: Value = serde_json::from_str(text).map_err(|_| unreadable("metadata"))?;
        let depth = depth(&metadata);
        if self.references > 0 && self.parts * depth > MAX_VISITS {
            return Err(unreadable("metadata"));
        }
        // This remembers what it has found out about a reference, so that only the schema makes it
        // slow, not the metadata too: a fifth of a second at worst under MAX_REFERENCES.
        if self.validator.is_valid(&metadata) {
            return Ok(());
        }
        if self.references * depth > MAX_SEARCH {
            return Err(Error::MetadataMismatch { path: String::new(), keyword: "$ref".into() });
        }
        match self.validator.validate(&metadata) {
            Err(error) => Err(mismatch(&error)),
            // It found a fault above: if the two disagree, it does not fit.
            Ok(()) => Err(Error::MetadataMismatch { path: String::new(), keyword: "$ref".into() }),
        }
    }
}

/// The metadata in the `changes` of `api_token_update`; null is none.
pub fn of_changes(changes: &str) -> Option<String> {
    let changes: BTreeMap<String, Box<RawValue>> = serde_json::from_str(changes).ok()?;
    changes.get("metadata").map(|json| json.get().to_owned()).filter(|json| json != "null")
}

/// JSON that Postgres takes and a schema cannot be applied to.
fn unreadable(argument: &'static str) -> Error {
    let expected = "JSON of moderate depth, with numbers in the range of a double";
    Error::Malformed { argument, expected }
}

/// Objects in a schema: at least as many as it has schemas that others can lie in or refer to.
fn parts(schema: &Value) -> usize {
    match schema {
        Value::Object(members) => 1 + members.values().map(parts).sum::<usize>(),
        Value::Array(elements) => elements.iter().map(parts).sum(),
        _ => 0,
    }
}

/// Regular expressions: the values of `pattern`, and the names in `patternProperties`.
fn patterns(schema: &Value) -> usize {
    let own = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        ("pattern", Value::String(_)) => 1,
        ("patternProperties", Value::Object(names)) => names.len() + patterns(value),
        _ => patterns(value),
    };
    match schema {
        Value::Object(members) => members.iter().map(own).sum(),
        Value::Array(elements) => elements.iter().map(patterns).sum(),
        _ => 0,
    }
}

fn references(schema: &Value) -> usize {
    let refers = |key: &str| matches!(key, "$ref" | "$dynamicRef" | "$recursiveRef");
    match schema {
        Value::Object(members) => {
            members.iter().map(|(key, value)| usize::from(refers(key)) + references(value)).sum()
        }
        Value::Array(elements) => elements.iter().map(references).sum(),
        _ => 0,
    }
}

fn depth(json: &Value) -> usize {
    let below = match json {
        Value::Object(members) => members.values().map(depth).max(),
        Value::Array(elements) => elements.iter().map(depth).max(),
        _ => None,
    };
    1 + below.unwrap_or(0)
}

fn mismatch(error: &ValidationError) -> Error {
    let mut path = shown(error.instance_path().as_str());
    // What is missing, or too much, is what the caller looks for.
    let member = match error.kind() {
        Kind::Required { property } => property.as_str(),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            unexpected.first().map(String::as_str)
        }
        _ => None,
    };
    if let Some(member) = member {
        path += "/";
        path += plain(member);
    }
    Error::MetadataMismatch { path, keyword: error.kind().keyword().to_owned() }
}

fn refusal(schema: &Value, error: &ValidationError) -> Error {
    match error.kind() {
        Kind::Referencing(_) => {
            let path = dangling(schema, schema, "").unwrap_or_default();
            Error::BadSchema { path: shown(&path), problem: SchemaProblem::Reference }
        }
        _ => {
            let path = shown(error.instance_path().as_str());
            Error::BadSchema { path, problem: SchemaProblem::Invalid }
        }
    }
}

/// The place of the first reference that leads out of the schema, or nowhere in it.
fn dangling(schema: &Value, at: &Value, path: &str) -> Option<String> {
    let below = |key: &str, value: &Value| {
        let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        let leads = value.as_str().is_none_or(|target| match target.strip_prefix('#') {
            Some(pointer) if pointer.starts_with('/') => schema.pointer(pointer).is_some(),
            Some(_) => true,
            None => false,
        });
        let refers = matches!(key, "$ref" | "$dynamicRef" | "$schema");
        if refers && !leads { Some(path) } else { dangling(schema, value, &path) }
    };
    match at {
        Value::Object(members) => members.iter().find_map(|(key, value)| below(key, value)),
        Value::Array(elements) => {
            elements.iter().enumerate().find_map(|(at, value)| below(&at.to_string(), value))
        }
        _ => None,
    }
}

/// A JSON pointer with only plain names in it.
fn shown(pointer: &str) -> String {
    pointer.split('/').map(plain).collect::<Vec<_>>().join("/")
}

fn plain(name: &str) -> &str {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-$".contains(&b);
    // A token or a hash is longer.
    if name.len() <= 24 && name.bytes().all(is_plain) { name } else { "?" }
}

#[cfg(test)]
mod tests {
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
        assert!(matches!(Schema::compile(&many), Err(Error::TooMany { .. })));
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
    fn no_pattern_takes_more_than_linear_time() {
        let slow = r#"{"properties": {"a": {"pattern": "^(a+)+$"}}}"#;
        let long = format!(r#"{{"a": "{}!"}}"#, "a".repeat(100_000));
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
        format!(
            r##"{{"$ref": "#/$defs/d1", "$defs": {{{}, "d{length}": {last}}}}}"##,
            links.join(",")
        )
    }

    #[test]
    fn the_deepest_recursion_fits_a_small_stack() {
        // Less is enough for a release build.
        let run = || {
            let schema = compiled(&chain(23, 1));
            let levels = MAX_VISITS / schema.parts - 1;
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
        assert!(matches!(many, Err(Error::TooMany { .. })));
        // As many as may be. What fits ends, and what does not fit ends without its place, whose
        // search would not.
        let last = r#"{"type": "object", "additionalProperties""#;
        let most = chain(12, 2).replace(r#"{"additionalProperties""#, last);
        assert_eq!(compiled(&most.replace("\"type\": \"object\",", "")).check(Some("{}")), Ok(()));
        let most = most.replace("allOf", "anyOf");
        assert_eq!(fails(&most, r#"{"a": {"a": {"a": 1}}}"#), " $ref");
        // With few, the place is found.
        assert_eq!(
            fails(&chain(3, 1).replace(r#"{"additionalProperties""#, last), r#"{"a": 1}"#),
            "/a type"
        );
    }
}
