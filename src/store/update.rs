//! Changing chosen columns of a token.

use super::statement::{ids, statement};
use super::token::HeldToken;
use super::tokens::changed_one;
use crate::error::Result;
use crate::pg::argument::Jsonb;
use pgrx::datum::DatumWithOid;
use pgrx::{Spi, Uuid};

/// A column of `api_tokens.tokens` and its new value. The column is a name of ours, never input.
pub struct Assignment<'a> {
    column: &'static str,
    value: DatumWithOid<'a>,
    form: Form,
}

impl<'a> Assignment<'a> {
    pub fn plain(column: &'static str, value: impl Into<DatumWithOid<'a>>) -> Self {
        Self { column, value: value.into(), form: Form::Plain }
    }

    pub fn json_member(column: &'static str, of: Jsonb) -> Self {
        Self { column, value: of.into(), form: Form::JsonMember }
    }
}

/// How the value is given.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    /// As the member of that name in a JSON object, so that it never leaves Postgres' own jsonb
    /// and its numbers keep every digit. JSON null is NULL.
    JsonMember,
}

/// Writes the assignments to a token that is held.
pub fn assign(held: &HeldToken, assignments: Vec<Assignment>) -> Result<()> {
    if assignments.is_empty() {
        return Ok(());
    }
    let mut arguments = vec![DatumWithOid::from(held.token_id)];
    let mut columns = Vec::new();
    for assignment in assignments {
        arguments.push(assignment.value);
        let (column, number) = (assignment.column, arguments.len());
        columns.push(match assignment.form {
            Form::Plain => format!("{column} = ${number}"),
            Form::JsonMember => {
                format!("{column} = NULLIF(${number} OPERATOR(pg_catalog.->) '{column}', 'null')")
            }
        });
    }
    let sql = format!(
        "UPDATE api_tokens.tokens SET {} WHERE token_id OPERATOR(pg_catalog.=) $1",
        columns.join(", ")
    );
    let changed = Spi::connect_mut(|client| {
        client.update(sql.as_str(), None, &arguments).map(|rows| rows.len())
    })?;
    changed_one(changed)
}

statement!(
    LIMIT_PARENT = "
    UPDATE api_tokens.tokens parent
    SET max_uses = heir.max_uses, refill_amount = heir.refill_amount, refill_every = heir.refill_every,
        rate_limit = heir.rate_limit, rate_window = heir.rate_window, max_expires_at = heir.max_expires_at,
        expires_at = LEAST(parent.expires_at, heir.max_expires_at)
    FROM api_tokens.tokens heir
    WHERE parent.in_grace AND parent.replaced_by OPERATOR(pg_catalog.=) $1
        AND heir.token_id OPERATOR(pg_catalog.=) $1
    RETURNING parent.token_id"
);

/// Gives the token that this one replaced, if it is still in grace, the limits of its heir; tells which
/// that is.
pub fn limit_parent_in_grace(heir: Uuid) -> Result<Vec<Uuid>> {
    LIMIT_PARENT.with(|limit| limit.run(&[heir.into()], ids))
}

/// The text of a jsonb value.
pub fn json_text(json: Jsonb) -> Result<String> {
    let text = Spi::connect(|client| {
        client.select("SELECT $1::pg_catalog.text", Some(1), &[json.into()])?.first().get_one()
    })?;
    Ok(text.unwrap_or_default())
}
