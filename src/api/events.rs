//! Catching up: what a cache missed while it was not listening.

use crate::error;
use crate::pg::role;
use crate::store::events::{self, Filter, Read};
use crate::store::rights;
use api_tokens_logic::cursor::Cursor;
use api_tokens_logic::event::Method;
use api_tokens_logic::{Error, input};
use pgrx::datum::{JsonB, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Uuid, name, pg_extern};

/// Not SECURITY DEFINER: how much is shown depends on who asks.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns off the signature")]
fn api_token_events(
    after_cursor: Option<&str>,
    namespace: Option<&str>,
    max_rows: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(cursor, String),
            name!(event_id, i64),
            name!(at, Option<TimestampWithTimeZone>),
            name!(method, Option<String>),
            name!(namespace, Option<String>),
            name!(token_id, Option<Uuid>),
            name!(count, Option<i64>),
            name!(actor, Option<String>),
            name!(detail, Option<JsonB>),
        ),
    >,
    ErrorReport,
> {
    let found = read(after_cursor, namespace, max_rows)?;
    let rows = TableIterator::new(found.into_iter().map(|event| {
        let Read { cursor, event_id, at, method, namespace, token_id, count, actor, detail } =
            event;
        (cursor.to_string(), event_id, at, method, namespace, token_id, count, actor, detail)
    }));
    Ok(rows)
}

/// For who begins with nothing to forget, and wants only what comes.
#[pg_extern(volatile, parallel_unsafe)]
fn api_token_events_end() -> Result<String, ErrorReport> {
    Ok(events::end()?.to_string())
}

fn read(
    after: Option<&str>,
    namespace: Option<&str>,
    max_rows: Option<i32>,
) -> error::Result<Vec<Read>> {
    let after = after.map(Cursor::parse).transpose()?;
    if namespace.is_some() {
        input::namespace(namespace)?;
    }
    let max_rows = input::row_limit("max_rows", max_rows.map(i64::from))?;
    let max_rows = max_rows.ok_or(Error::Missing { argument: "max_rows" })?;
    let caller = role::current();
    role::as_owner_of(c"api_tokens", c"events", || {
        let methods = (!rights::may_manage(caller)?).then(Method::invalidating);
        events::read(after.as_ref(), &Filter { namespace, methods, max_rows })
    })
}
