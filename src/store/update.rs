//! Changing chosen columns of a token.

use super::token::HeldToken;
use super::tokens::changed_one;
use crate::error::Result;
use crate::pg::argument::Jsonb;
use pgrx::Spi;
use pgrx::datum::DatumWithOid;

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

/// The text of a jsonb value.
pub fn json_text(json: Jsonb) -> Result<String> {
    let text = Spi::connect(|client| {
        client.select("SELECT $1::pg_catalog.text", Some(1), &[json.into()])?.first().get_one()
    })?;
    Ok(text.unwrap_or_default())
}
