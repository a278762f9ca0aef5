//! Revoking: one token, a selection, a family.
//!
//! Over many tokens a plain UPDATE is not enough. A refresh under way holds the lock on a token
//! that the UPDATE waits for; when it commits, the token is gone and its heir, invisible to the
//! UPDATE's snapshot, lives on. So these statements are repeated until a fresh snapshot shows
//! nothing left: while a refresh is under way its old token is still seen alive.

use super::statement::{self, Statement, statement};
use super::token::HeldToken;
use super::tokens::changed_one;
use crate::error::Result;
use crate::pg::datum::timestamptz;
use crate::pg::{latest, transaction};
use api_tokens_logic::Error;
use api_tokens_logic::time::Timestamp;
use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use std::thread::LocalKey;

statement!(
    REVOKE = "
    UPDATE api_tokens.tokens SET revoked_at = $2, in_grace = false
    WHERE token_id OPERATOR(pg_catalog.=) $1"
);

/// Revokes a token that is held, for good.
pub fn revoke(held: &HeldToken, now: Timestamp) -> Result<()> {
    let arguments = [held.token_id.into(), timestamptz(now).into()];
    changed_one(REVOKE.with(|revoke| revoke.execute(&arguments))?)
}

/// Which tokens are meant; the bounds on `created_at` are exclusive.
pub struct Selection<'a> {
    pub namespace: Option<&'a str>,
    pub before: Option<Timestamp>,
    pub after: Option<Timestamp>,
}

macro_rules! live {
    ($matches:literal) => {
        concat!(
            " FROM api_tokens.tokens
            WHERE (revoked_at IS NULL OR (in_grace AND revoked_at OPERATOR(pg_catalog.>) $1))
                AND ",
            $matches
        )
    };
}

/// A pair of statements over the tokens that match: is one alive at $1, and revoke them. They are
/// locked in order of id, which is the order of creation: an ancestor before its heir.
macro_rules! revocation {
    ($look:ident, $revoke:ident, $matches:literal) => {
        statement!($look = concat!("SELECT", live!($matches), " LIMIT 1"));
        statement!(
            $revoke = concat!(
                "WITH live AS MATERIALIZED (
                SELECT token_id",
                live!($matches),
                " ORDER BY token_id FOR NO KEY UPDATE)
            UPDATE api_tokens.tokens t SET revoked_at = $1, in_grace = false
            FROM live WHERE t.token_id OPERATOR(pg_catalog.=) live.token_id
            RETURNING t.token_id"
            )
        );
    };
}

revocation!(
    LIVE_IN_NAMESPACE,
    REVOKE_IN_NAMESPACE,
    "namespace OPERATOR(pg_catalog.=) $2
    AND ($3 IS NULL OR created_at OPERATOR(pg_catalog.<) $3)
    AND ($4 IS NULL OR created_at OPERATOR(pg_catalog.>) $4)"
);
revocation!(
    LIVE_EVERYWHERE,
    REVOKE_EVERYWHERE,
    "($2 IS NULL OR created_at OPERATOR(pg_catalog.<) $2)
    AND ($3 IS NULL OR created_at OPERATOR(pg_catalog.>) $3)"
);
revocation!(
    LIVE_IN_FAMILY,
    REVOKE_FAMILY,
    "(token_id OPERATOR(pg_catalog.=) $2
    OR (family_id OPERATOR(pg_catalog.=) $2 AND generation OPERATOR(pg_catalog.>) 0))"
);

/// Revokes all that are selected, heirs of a rotation under way included, and returns their ids.
pub fn revoke_all(selection: &Selection, now: Timestamp) -> Result<Vec<Uuid>> {
    let now = timestamptz(now);
    let before = selection.before.map(timestamptz);
    let after = selection.after.map(timestamptz);
    match selection.namespace {
        Some(namespace) => until_none_is_left(
            &LIVE_IN_NAMESPACE,
            &REVOKE_IN_NAMESPACE,
            &[now.into(), namespace.into(), before.into(), after.into()],
        ),
        None => until_none_is_left(
            &LIVE_EVERYWHERE,
            &REVOKE_EVERYWHERE,
            &[now.into(), before.into(), after.into()],
        ),
    }
}

/// Revokes every token that descends from the same first one, and returns their ids.
pub fn revoke_family(family_id: Uuid, now: Timestamp) -> Result<Vec<Uuid>> {
    let arguments = [timestamptz(now).into(), family_id.into()];
    until_none_is_left(&LIVE_IN_FAMILY, &REVOKE_FAMILY, &arguments)
}

fn until_none_is_left(
    look: &'static LocalKey<Statement>,
    revoke: &'static LocalKey<Statement>,
    arguments: &[DatumWithOid],
) -> Result<Vec<Uuid>> {
    let mut revoked = Vec::new();
    while look.with(|look| look.execute(arguments))? > 0 {
        pgrx::check_for_interrupts!();
        revoked.extend(revoke.with(|revoke| revoke.run(arguments, statement::ids))?);
    }
    // No statement of such a transaction gets a fresh snapshot: what was committed since can only
    // be found, not revoked.
    if transaction::keeps_its_snapshot()
        && latest::finds_a_row(look.with(Statement::sql), arguments)
    {
        return Err(Error::Conflict.into());
    }
    Ok(revoked)
}
