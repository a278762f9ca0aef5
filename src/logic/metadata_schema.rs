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
use std::collections::{BTreeMap, BTreeSet};

mod bounds;
use bounds::{Bounds, Search};

pub const MAX_BYTES: usize = 64 * 1024;
/// Of the metadata to be checked, as text.
const MAX_METADATA_BYTES: usize = 64 * 1024;
const MAX_PATTERN: usize = 512;

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
    bounds: Bounds,
    /// As they stand in a JSON pointer: what the schema itself names is no secret.
    names: BTreeSet<String>,
}

impl Schema {
    /// Reads the text of a JSON Schema, of draft 2020-12 unless its `$schema` names another.
    pub fn compile(text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(Error::SchemaTooLong { max: MAX_BYTES, actual: text.len() });
        }
        let schema = read("schema", text)?;
        let bounds = Bounds::of(&schema)?;
        if let Some(path) = bounds::leads_out(&schema) {
            let path = shown(&path, &BTreeSet::new());
            return Err(Error::BadSchema { path, problem: SchemaProblem::Reference });
        }
        // The engine without backtracking: a pattern takes linear time, if not a short one.
        let patterns = PatternOptions::regex()
            .size_limit(bounds::MAX_REGEX_BYTES)
            .dfa_size_limit(bounds::MAX_REGEX_BYTES);
        // Offline: the server fetches nothing on behalf of a schema.
        let options = jsonschema::options().offline().with_pattern_options(patterns);
        let validator = options.build(&schema).map_err(|error| refusal(&schema, &error))?;
        let mut names = BTreeSet::new();
        bounds::names(&schema, &mut names);
        Ok(Self { validator, bounds, names })
    }

    /// Does the text of this JSON fit? None is checked as an empty object.
    pub fn check(&self, metadata: Option<&str>) -> Result<()> {
        let text = metadata.unwrap_or("{}");
        if text.len() > MAX_METADATA_BYTES {
            return Err(Error::MetadataTooLong { max: MAX_METADATA_BYTES, actual: text.len() });
        }
        let metadata = read("metadata", text)?;
        let search = self.bounds.allow(text.len(), &metadata)?;
        // This remembers what it has found out about a reference, so that references to references
        // do not multiply by the metadata too.
        if self.validator.is_valid(&metadata) {
            return Ok(());
        }
        let unplaced = Error::MetadataMismatch { path: String::new(), keyword: String::new() };
        Err(match search {
            Search::TooLong => unplaced,
            // There is a fault: if the two disagree, it does not fit.
            Search::Place => {
                let found = self.validator.validate(&metadata).err();
                found.map_or(unplaced, |error| self.mismatch(&error))
            }
        })
    }

    fn mismatch(&self, error: &ValidationError) -> Error {
        let mut path = shown(error.instance_path().as_str(), &self.names);
        // What is missing, or too much, is what the caller looks for.
        let member = match error.kind() {
            Kind::Required { property } => property.as_str(),
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => unexpected.first().map(String::as_str),
            _ => None,
        };
        if let Some(member) = member {
            path += "/";
            path += &shown(&bounds::escaped(member), &self.names);
        }
        Error::MetadataMismatch { path, keyword: error.kind().keyword().to_owned() }
    }
}

/// The metadata in the `changes` of `api_token_update`; null is none.
pub fn of_changes(changes: &str) -> Option<String> {
    let changes: BTreeMap<String, Box<RawValue>> = serde_json::from_str(changes).ok()?;
    changes.get("metadata").map(|json| json.get().to_owned()).filter(|json| json != "null")
}

/// JSON that Postgres takes may be such that a schema cannot be applied to it.
fn read(argument: &'static str, text: &str) -> Result<Value> {
    let expected = "JSON of moderate depth, with numbers in the range of a double";
    let unreadable = Error::Malformed { argument, expected };
    // As a key this makes the reader take the text behind it for JSON, so that one thing would be
    // checked and another stored. Postgres' own text of a jsonb spells it just so.
    if text.contains("$serde_json::private::") {
        return Err(unreadable);
    }
    serde_json::from_str(text).map_err(|_| unreadable)
}

fn refusal(schema: &Value, error: &ValidationError) -> Error {
    let path = shown(error.instance_path().as_str(), &BTreeSet::new());
    match error.kind() {
        Kind::Referencing(_) => {
            let own = schema.get("$schema").map(|_| "/$schema".to_owned());
            Error::BadSchema { path: own.unwrap_or(path), problem: SchemaProblem::Reference }
        }
        _ => Error::BadSchema { path, problem: SchemaProblem::Invalid },
    }
}

/// A JSON pointer with only plain names in it, and those that the schema has.
fn shown(pointer: &str, names: &BTreeSet<String>) -> String {
    let name = |name| if is_plain(name) || names.contains(name) { name } else { "?" };
    pointer.split('/').map(name).collect::<Vec<_>>().join("/")
}

fn is_plain(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-$".contains(&b);
    // A token or a hash is longer.
    name.len() <= 24 && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests;
