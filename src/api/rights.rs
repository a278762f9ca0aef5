//! Levels of rights, handed to roles.

use super::Answer;
use crate::error::Result;
use crate::pg::argument::RegRole;
use crate::pg::transaction;
use crate::store::rights::{self, Change};
use api_tokens_logic::input;
use api_tokens_logic::rights::Level;
use pgrx::pg_extern;

#[pg_extern(volatile, parallel_unsafe)]
fn api_tokens_grant(role: Option<RegRole>, level: Option<&str>) -> Answer<()> {
    transaction::require_writable(c"api_tokens_grant()");
    Ok(change(Change::Grant, role, level)?)
}

#[pg_extern(volatile, parallel_unsafe)]
fn api_tokens_revoke(role: Option<RegRole>, level: Option<&str>) -> Answer<()> {
    transaction::require_writable(c"api_tokens_revoke()");
    Ok(change(Change::Revoke, role, level)?)
}

fn change(change: Change, role: Option<RegRole>, level: Option<&str>) -> Result<()> {
    let role = input::required("role", role)?;
    let level = Level::parse(input::required("level", level)?)?;
    rights::change(change, role, level.functions())
}
