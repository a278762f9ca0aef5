//! The algebra of scopes, for policies and for those who decide outside of a check.

use super::Answer;
use super::create::checked_scopes;
use crate::error::Result;
use crate::pg::argument::TextArray;
use api_tokens_logic::scope;
use pgrx::pg_extern;

#[pg_extern(immutable, parallel_safe)]
fn api_token_scope_covers(held: Option<TextArray>, needed: Option<&str>) -> Answer<bool> {
    Ok(covers(held, needed)?)
}

/// Nothing held covers nothing; and no scope at all is covered by nothing.
fn covers(held: Option<TextArray>, needed: Option<&str>) -> Result<bool> {
    let Some(needed) = needed else {
        return Ok(false);
    };
    scope::check("needed", [Some(needed)])?;
    Ok(scope::covers_all(&checked_scopes("held", held.as_ref())?, [needed]))
}
