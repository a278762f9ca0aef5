//! Handing out EXECUTE on our functions.

use super::membership::members;
use crate::error::Result;
use crate::pg::argument::RegRole;
use api_tokens_logic::Error;
use pgrx::{Spi, pg_sys};

/// What to do with the rights.
#[derive(Clone, Copy)]
pub enum Change {
    Grant,
    Revoke,
}

/// Composes the statement with every name quoted by Postgres itself. No row if there is no such
/// role; fewer functions than asked for if the installed SQL is older than the library.
const COMPOSE: &str = concat!(
    "
    SELECT pg_catalog.format($3, pg_catalog.string_agg(
        p.oid::pg_catalog.regprocedure::pg_catalog.text, ', '), r.rolname)
    FROM pg_catalog.pg_roles r, pg_catalog.pg_proc p
    WHERE r.oid OPERATOR(pg_catalog.=) $1 AND p.oid OPERATOR(pg_catalog.=) ANY (ARRAY(",
    members!("pg_proc"),
    "))
        AND p.proname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($2)
    GROUP BY r.rolname"
);

pub fn change(change: Change, role: RegRole, functions: Vec<&str>) -> Result<()> {
    let template = match change {
        Change::Grant => "GRANT EXECUTE ON ROUTINE %s TO %I",
        Change::Revoke => "REVOKE EXECUTE ON ROUTINE %s FROM %I",
    };
    let arguments = [role.oid().into(), functions.into(), template.into()];
    let statement: Option<String> = Spi::connect(|client| {
        let rows = client.select(COMPOSE, Some(1), &arguments)?;
        if rows.is_empty() { Ok(None) } else { rows.first().get_one() }
    })?;
    let unknown_role =
        Error::Malformed { argument: "role", expected: "the name of an existing role" };
    let statement = statement.ok_or(unknown_role)?;
    Spi::connect_mut(|client| client.update(statement.as_str(), None, &[]).map(|_| ()))?;
    Ok(())
}

/// May this role read all events, or only those that tell caches what to drop?
pub fn may_manage(role: pg_sys::Oid) -> Result<bool> {
    const SQL: &str = concat!(
        "
        SELECT pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE')
        FROM pg_catalog.pg_proc p
        WHERE p.oid OPERATOR(pg_catalog.=) ANY (ARRAY(",
        members!("pg_proc"),
        "))
            AND p.proname OPERATOR(pg_catalog.=) 'api_token_list'"
    );
    let may: Option<bool> =
        Spi::connect(|client| client.select(SQL, Some(1), &[role.into()])?.first().get_one())?;
    Ok(may == Some(true))
}
