//! Whom this transaction acts as: what policies and triggers ask. No table is read.

use super::Answer;
use crate::error::Result;
use crate::identity;
use crate::pg::kept::{Jsonb, KeptJsonb};
use crate::pg::record::Text;
use api_tokens_logic::scope;
use pgrx::{Uuid, pg_extern};

#[pg_extern(volatile, parallel_restricted)]
fn api_token_deauthenticate() {
    identity::set(None);
}

#[pg_extern(stable, parallel_restricted)]
fn api_token_current_id() -> Option<Uuid> {
    identity::read(|holder| holder.token_id)
}

#[pg_extern(stable, parallel_restricted)]
fn api_token_current_namespace() -> Option<Text> {
    identity::read(|holder| Text::copy(&holder.namespace))
}

#[pg_extern(stable, parallel_restricted)]
fn api_token_current_name() -> Option<Text> {
    identity::read(|holder| holder.name.as_deref().map(Text::copy)).flatten()
}

#[pg_extern(stable, parallel_restricted)]
fn api_token_current_metadata() -> Option<Jsonb> {
    identity::read(|holder| holder.metadata.as_ref().map(KeptJsonb::give)).flatten()
}

#[pg_extern(stable, parallel_restricted)]
fn api_token_current_scopes() -> Option<Vec<String>> {
    identity::read(|holder| holder.scopes.clone())
}

#[pg_extern(stable, parallel_restricted)]
fn api_token_has_scope(scope: Option<&str>) -> Answer<bool> {
    Ok(has_scope(scope)?)
}

/// Nobody has any scope, and no scope at all is held by nobody.
fn has_scope(needed: Option<&str>) -> Result<bool> {
    let Some(needed) = needed else {
        return Ok(false);
    };
    scope::check("scope", [Some(needed)])?;
    let is_held =
        identity::read(|holder| holder.scopes.iter().any(|held| scope::covers(held, needed)));
    Ok(is_held.unwrap_or(false))
}
