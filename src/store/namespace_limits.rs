//! Rate limits of whole namespaces.

use super::statement::statement;
use crate::error::Result;
use crate::pg::argument::IntervalValue;
use crate::pg::row::Row;
use crate::pg::scan::{Key, Lock, UniqueIndex};
use api_tokens_logic::limits::Settings;
use api_tokens_logic::rate::Rate;

const RATE_LIMIT: i16 = 2;
const RATE_WINDOW: i16 = 3;

thread_local! {
    static BY_NAMESPACE: UniqueIndex = const {
        UniqueIndex::new(c"api_tokens", c"namespace_limits", c"namespace_limits_pkey", RATE_WINDOW as i32)
    };
}

/// The limit of a namespace; costs nothing while no namespace has one.
pub fn of(namespace: &str) -> Result<Option<Rate>> {
    let read = |row: Option<Row>| {
        row.map(|row| Settings {
            rate_limit: row.integer(RATE_LIMIT),
            rate_window: row.interval(RATE_WINDOW),
            ..Settings::default()
        })
    };
    let found = BY_NAMESPACE.with(|index| {
        if index.is_unused() {
            return None;
        }
        index.find(&[Key::Text(namespace)], Lock::None, read)
    });
    Ok(found.map(|settings| settings.check()).transpose()?.and_then(|limits| limits.rate))
}

statement!(
    SET = "
    INSERT INTO api_tokens.namespace_limits (namespace, rate_limit, rate_window) VALUES ($1, $2, $3)
    ON CONFLICT (namespace) DO UPDATE SET rate_limit = EXCLUDED.rate_limit, rate_window = EXCLUDED.rate_window"
);
statement!(
    CLEAR = "
    DELETE FROM api_tokens.namespace_limits WHERE namespace OPERATOR(pg_catalog.=) $1"
);

const ONE: &str =
    "SELECT FROM api_tokens.namespace_limits WHERE namespace OPERATOR(pg_catalog.=) $1";

/// Sets the limit, or takes it away; false if there was none.
pub fn set(namespace: &str, limit: Option<(i32, IntervalValue)>) -> Result<bool> {
    let changed = match limit {
        Some((calls, window)) => {
            let arguments = [namespace.into(), calls.into(), window.into()];
            SET.with(|set| set.execute(&arguments))?
        }
        None => CLEAR.with(|clear| clear.execute_seeing_all(&[namespace.into()], ONE))?,
    };
    BY_NAMESPACE.with(UniqueIndex::tell_all_that_changed);
    Ok(changed > 0)
}
