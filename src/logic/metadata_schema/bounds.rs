//! How much work a schema may make. Compiling and checking cannot be interrupted, their memory is
//! not Postgres', and they go down by recursion: so it is reckoned beforehand.

use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Values in a schema, its objects and lists among them, that other values can lie in.
pub(super) const MAX_PARTS: usize = 1000;
/// References to references multiply, in compiling as in checking.
const MAX_REFERENCES: usize = 24;
/// Each of these checks again what lies in it, so that one within another doubles the time and more.
const MAX_UNEVALUATED: usize = 4;
const MAX_PATTERNS: usize = 32;
/// Of one compiled regular expression.
pub(super) const MAX_REGEX_BYTES: usize = 64 * 1024;
/// Bytes of metadata times regular expressions.
const MAX_MATCHING: usize = 128 * 1024;
/// Values in the metadata times values in the schema.
const MAX_CHECKS: usize = 4_000_000;
/// As above, with what is referred to counted as often, up to which the place of a failure is looked
/// for. That search remembers nothing, and an alternative keeps all its errors in memory.
const MAX_SEARCH: usize = 100_000;
/// The same where a schema refers to itself: references times levels of the metadata.
const MAX_CIRCULAR_SEARCH: usize = 40;
/// Parts of a schema that refers to itself times levels of the metadata: what two megabytes of stack
/// take.
pub(super) const MAX_VISITS: usize = 2000;

/// Is there time to look for the place of a failure?
pub(super) enum Search {
    Place,
    TooLong,
}

/// What there is of each in a schema.
#[derive(Default)]
pub(super) struct Bounds {
    values: usize,
    pub parts: usize,
    references: usize,
    unevaluated: usize,
    patterns: usize,
    /// Values, with what is referred to counted as often; `None` for one that refers to itself, or in
    /// a way that is not looked into.
    expanded: Option<usize>,
}

impl Bounds {
    /// An error if there is too much of anything.
    pub fn of(schema: &Value) -> Result<Self> {
        let mut bounds = Self::default();
        bounds.count(schema);
        for (what, actual, max) in [
            ("objects", bounds.parts, MAX_PARTS),
            ("references", bounds.references, MAX_REFERENCES),
            ("regular expressions", bounds.patterns, MAX_PATTERNS),
            (
                "\"unevaluatedProperties\" and \"unevaluatedItems\"",
                bounds.unevaluated,
                MAX_UNEVALUATED,
            ),
        ] {
            if actual > max {
                return Err(Error::SchemaTooComplex { what, max, actual });
            }
        }
        bounds.expanded =
            Expansion { root: schema, known: BTreeMap::new() }.of(schema, &mut vec![""]);
        Ok(bounds)
    }

    fn count(&mut self, at: &Value) {
        self.values += 1;
        match at {
            Value::Object(members) => {
                self.parts += 1;
                for (key, value) in members {
                    match (key.as_str(), value) {
                        ("$ref" | "$dynamicRef" | "$recursiveRef", _) => self.references += 1,
                        ("unevaluatedProperties" | "unevaluatedItems", _) => self.unevaluated += 1,
                        ("pattern", Value::String(_)) => self.patterns += 1,
                        ("patternProperties", Value::Object(names)) => self.patterns += names.len(),
                        _ => {}
                    }
                    self.count(value);
                }
            }
            Value::Array(elements) => elements.iter().for_each(|element| self.count(element)),
            _ => {}
        }
    }

    /// May metadata of so many bytes be checked, and if it does not fit, may the place be looked for?
    pub fn allow(&self, bytes: usize, metadata: &Value) -> Result<Search> {
        let Measure { values, depth } = Measure::of(metadata);
        let circular = self.expanded.is_none();
        if bytes * self.patterns > MAX_MATCHING
            || values * self.values > MAX_CHECKS
            || circular && self.parts * depth > MAX_VISITS
        {
            return Err(Error::MetadataTooComplex);
        }
        let times = self.expanded.unwrap_or(self.values);
        let soon = values.saturating_mul(times) <= MAX_SEARCH
            && !(circular && self.references * depth > MAX_CIRCULAR_SEARCH);
        Ok(if soon { Search::Place } else { Search::TooLong })
    }
}

struct Measure {
    values: usize,
    depth: usize,
}

impl Measure {
    fn of(json: &Value) -> Self {
        let all = |below: &mut dyn Iterator<Item = &Value>| {
            below.map(Self::of).fold(Self { values: 1, depth: 0 }, |all, one| Self {
                values: all.values + one.values,
                depth: all.depth.max(one.depth),
            })
        };
        let Self { values, depth } = match json {
            Value::Object(members) => all(&mut members.values()),
            Value::Array(elements) => all(&mut elements.iter()),
            _ => Self { values: 1, depth: 0 },
        };
        Self { values, depth: depth + 1 }
    }
}

struct Expansion<'a> {
    root: &'a Value,
    /// By the pointer that leads there.
    known: BTreeMap<&'a str, Option<usize>>,
}

impl<'a> Expansion<'a> {
    /// Of what lies at a place, reached through the references `under` way.
    fn of(&mut self, at: &'a Value, under: &mut Vec<&'a str>) -> Option<usize> {
        let mut sum = 1_usize;
        match at {
            Value::Object(members) => {
                for (key, value) in members {
                    let below = match (key.as_str(), value) {
                        ("$ref", Value::String(target)) => self.of_target(target, under)?,
                        ("$dynamicRef" | "$recursiveRef" | "$id", _) => return None,
                        _ => self.of(value, under)?,
                    };
                    sum = sum.saturating_add(below);
                }
            }
            Value::Array(elements) => {
                for element in elements {
                    sum = sum.saturating_add(self.of(element, under)?);
                }
            }
            _ => {}
        }
        Some(sum)
    }

    fn of_target(&mut self, target: &'a str, under: &mut Vec<&'a str>) -> Option<usize> {
        let pointer = target.strip_prefix('#')?;
        if let Some(known) = self.known.get(pointer) {
            return *known;
        }
        if under.contains(&pointer) {
            return None;
        }
        let at = self.root.pointer(pointer)?;
        under.push(pointer);
        let expanded = self.of(at, under);
        under.pop();
        self.known.insert(pointer, expanded);
        expanded
    }
}

/// The place of the first reference that leads out of the schema, or nowhere in it.
pub(super) fn leads_out(schema: &Value) -> Option<String> {
    References { root: schema, by_name: !embeds(schema) }.dangling(schema, "")
}

/// Does a schema lie in it that has an address of its own? Where two have the same, the crate looks
/// for a name in the one and finds it in the other, and panics.
fn embeds(at: &Value) -> bool {
    let has_address = |below: &Value| {
        let address = below.get("$id").or_else(|| below.get("id")).and_then(Value::as_str);
        address.is_some_and(|address| !address.starts_with('#'))
    };
    let embeds = |below: &Value| has_address(below) || embeds(below);
    match at {
        Value::Object(members) => members.values().any(embeds),
        Value::Array(elements) => elements.iter().any(embeds),
        _ => false,
    }
}

struct References<'a> {
    root: &'a Value,
    /// May they lead to a name, as `#name`?
    by_name: bool,
}

impl References<'_> {
    fn dangling(&self, at: &Value, path: &str) -> Option<String> {
        let below = |key: &str, value: &Value| {
            let path = format!("{path}/{}", escaped(key));
            let refers = matches!(key, "$ref" | "$dynamicRef" | "$recursiveRef");
            let leads = value.as_str().is_none_or(|target| match target.strip_prefix('#') {
                // One that is percent-encoded is followed by the crate.
                Some(pointer) if pointer.starts_with('/') && !pointer.contains('%') => {
                    self.root.pointer(pointer).is_some()
                }
                Some(name) => self.by_name || name.is_empty() || name.starts_with('/'),
                None => false,
            });
            if refers && !leads { Some(path) } else { self.dangling(value, &path) }
        };
        match at {
            Value::Object(members) => members.iter().find_map(|(key, value)| below(key, value)),
            Value::Array(elements) => {
                elements.iter().enumerate().find_map(|(at, value)| below(&at.to_string(), value))
            }
            _ => None,
        }
    }
}

/// All keys of a schema, as they stand in a JSON pointer.
pub(super) fn names(at: &Value, into: &mut BTreeSet<String>) {
    match at {
        Value::Object(members) => {
            for (key, value) in members {
                into.insert(escaped(key));
                names(value, into);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| names(element, into)),
        _ => {}
    }
}

/// A name as it stands in a JSON pointer (RFC 6901).
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
