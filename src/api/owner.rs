//! A trigger for the table of those who own tokens: when one goes, so do their tokens.

use super::Answer;
use super::invalidate::invalidate_all;
use crate::error::Result;
use crate::pg::trigger::{Done, RowTrigger};
use crate::store::revocation::Selection;
use api_tokens_logic::{Error, input};
use pgrx::{pg_extern, pg_sys};

#[pg_extern(volatile, parallel_unsafe)]
fn api_token_invalidate_owner(call: pg_sys::FunctionCallInfo) -> Answer<Done> {
    Ok(invalidate_owner(RowTrigger::of_call(call))?)
}

/// Revokes all tokens of the namespace that the row named before. A value that can be no
/// namespace has no tokens; it must not keep anybody from deleting the row.
fn invalidate_owner(trigger: Option<RowTrigger>) -> Result<Done> {
    let trigger = trigger.ok_or(Error::NotRowTrigger)?;
    let column = trigger.argument().and_then(|name| trigger.name_column(name));
    let column = column.ok_or(Error::NoOwnerColumn)?;
    let old = trigger.before(&column);
    if let Some(namespace) = old.as_deref().filter(|_| old != trigger.after(&column))
        && input::namespace(Some(namespace)).is_ok()
    {
        invalidate_all(&Selection { namespace: Some(namespace), before: None, after: None })?;
    }
    Ok(Done)
}
