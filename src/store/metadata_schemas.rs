//! JSON Schemas of the metadata of namespaces, compiled once per session.

use super::statement::statement;
use crate::error::Result;
use crate::pg::argument::Jsonb;
use crate::pg::latest;
use crate::pg::scan::{self, UniqueIndex};
use api_tokens_logic::Error;
use api_tokens_logic::metadata_schema::{self, Schema};
use serde_json::value::RawValue;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

thread_local! {
    static BY_PATTERN: UniqueIndex = const {
        UniqueIndex::new(c"api_tokens", c"metadata_schemas", c"metadata_schemas_pkey", 1)
    };
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { generation: None, schemas: BTreeMap::new() }) };
}

/// All schemas as they were committed at a generation of the catalog.
struct Kept {
    generation: Option<u64>,
    schemas: BTreeMap<String, Entry>,
}

struct Entry {
    text: Box<RawValue>,
    compiled: OnceCell<Rc<Schema>>,
}

/// The schema that applies to a namespace; costs nothing while there is none at all.
pub fn of(namespace: &str) -> Result<Option<Rc<Schema>>> {
    scan::hear_of_changes();
    if BY_PATTERN.with(UniqueIndex::is_unused) {
        return Ok(None);
    }
    KEPT.with_borrow_mut(|kept| {
        // Asked before reading: a change meanwhile makes the next call read again.
        let generation = scan::catalog_generation();
        if kept.generation != Some(generation) {
            kept.read_again();
            kept.generation = Some(generation);
        }
        kept.of(namespace)
    })
}

const ALL: &str = "
    SELECT pg_catalog.jsonb_object_agg(namespace_pattern, schema)::pg_catalog.text
    FROM api_tokens.metadata_schemas";

impl Kept {
    /// The catalog changes for many reasons: a schema that is still the same stays compiled.
    fn read_again(&mut self) {
        self.generation = None;
        let text = latest::first_text(ALL).unwrap_or_else(|| "{}".to_owned());
        let now: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(&text).expect("is JSON that Postgres wrote");
        let mut before = std::mem::take(&mut self.schemas);
        let entry = |(pattern, text): (String, Box<RawValue>)| {
            let same = before.remove(&pattern).filter(|entry| entry.text.get() == text.get());
            let entry = same.unwrap_or_else(|| Entry { text, compiled: OnceCell::new() });
            (pattern, entry)
        };
        self.schemas = now.into_iter().map(entry).collect();
    }

    fn of(&self, namespace: &str) -> Result<Option<Rc<Schema>>> {
        let patterns = self.schemas.keys().map(String::as_str);
        let Some(pattern) = metadata_schema::most_specific(patterns, namespace) else {
            return Ok(None);
        };
        let Entry { text, compiled } = &self.schemas[pattern];
        if let Some(schema) = compiled.get() {
            return Ok(Some(Rc::clone(schema)));
        }
        let schema = Rc::new(Schema::compile(text.get())?);
        Ok(Some(Rc::clone(compiled.get_or_init(|| schema))))
    }
}

statement!(
    SET = "
    INSERT INTO api_tokens.metadata_schemas (namespace_pattern, schema) VALUES ($1, $2)
    ON CONFLICT (namespace_pattern) DO UPDATE SET schema = EXCLUDED.schema"
);
statement!(
    CLEAR = "
    DELETE FROM api_tokens.metadata_schemas
    WHERE namespace_pattern OPERATOR(pg_catalog.=) $1"
);

/// Sessions read all of them again whenever something in the catalog changes.
const MAX_SCHEMAS: usize = 256;
const ONE: &str =
    "SELECT FROM api_tokens.metadata_schemas WHERE namespace_pattern OPERATOR(pg_catalog.=) $1";
const OTHERS: &str = "
    SELECT FROM api_tokens.metadata_schemas
    WHERE namespace_pattern OPERATOR(pg_catalog.<>) $1 OFFSET $2";

/// Sets the schema, or takes it away; false if there was none.
pub fn set(pattern: &str, schema: Option<Jsonb>) -> Result<bool> {
    let changed = match schema {
        Some(schema) => {
            let others = [pattern.into(), (MAX_SCHEMAS as i64 - 1).into()];
            if latest::finds_a_row(OTHERS, &others) {
                let (argument, max) = ("namespace_pattern", MAX_SCHEMAS);
                return Err(Error::TooMany { argument, max, actual: max + 1 }.into());
            }
            SET.with(|set| set.execute(&[pattern.into(), schema.into()]))?
        }
        None => CLEAR.with(|clear| clear.execute_seeing_all(&[pattern.into()], ONE))?,
    };
    BY_PATTERN.with(UniqueIndex::tell_all_that_changed);
    Ok(changed > 0)
}
