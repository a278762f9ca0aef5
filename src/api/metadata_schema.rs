//! JSON Schemas that the metadata of tokens must fit from now on.

use super::Answer;
use crate::error::Result;
use crate::pg::argument::Jsonb;
use crate::pg::transaction;
use crate::store::events::{self, Event};
use crate::store::{metadata_schemas, update};
use api_tokens_logic::event::Method;
use api_tokens_logic::metadata_schema::{Schema, check_pattern};
use pgrx::pg_extern;

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_set_metadata_schema(
    namespace_pattern: Option<&str>,
    schema: Option<Jsonb>,
) -> Answer<()> {
    transaction::require_writable(c"api_token_set_metadata_schema()");
    Ok(set(namespace_pattern, schema)?)
}

/// Without a schema: from now on there is none. Tokens that are there are not looked at.
fn set(pattern: Option<&str>, schema: Option<Jsonb>) -> Result<()> {
    let pattern = check_pattern(pattern)?;
    if let Some(schema) = schema {
        Schema::compile(&update::json_text(schema)?)?;
    }
    if !metadata_schemas::set(pattern, schema)? {
        return Ok(());
    }
    // A pattern with `*` is no namespace, so that it is not told as one.
    let namespace = Some(pattern).filter(|pattern| !pattern.ends_with('*'));
    let mut event = Event { namespace, ..Event::default() };
    event.detail.insert("namespace_pattern".to_owned(), pattern.into());
    events::record(Method::SetMetadataSchema, event)
}

/// Refuses metadata that does not fit the schema of its namespace; `text` is asked for only if
/// there is one.
pub(super) fn check(namespace: &str, text: impl FnOnce() -> Result<Option<String>>) -> Result<()> {
    if let Some(schema) = metadata_schemas::of(namespace)? {
        schema.check(text()?.as_deref())?;
    }
    Ok(())
}
