//! A statement that is planned once per backend.
//!
//! The plan is kept for the backend's life and never freed: Postgres replans it by itself when a
//! table changes, also after DROP and CREATE EXTENSION.

use crate::error::Result;
use crate::pg::{latest, result};
use api_tokens_logic::Error;
use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, SpiResult, SpiTupleTable};
use pgrx::{Spi, Uuid, pg_sys::PgOid};
use std::cell::OnceCell;

/// Keep it in a `thread_local`; see [`statement!`].
pub struct Statement {
    sql: &'static str,
    plan: OnceCell<&'static OwnedPreparedStatement>,
}

/// Declares a kept statement: `statement!(NAME = "SQL with $1, $2");`
macro_rules! statement {
    ($(#[$doc:meta])* $name:ident = $sql:expr) => {
        thread_local! {
            $(#[$doc])*
            static $name: $crate::store::statement::Statement =
                const { $crate::store::statement::Statement::new($sql) };
        }
    };
}
pub(super) use statement;

impl Statement {
    pub const fn new(sql: &'static str) -> Self {
        Self { sql, plan: OnceCell::new() }
    }

    pub fn sql(&self) -> &'static str {
        self.sql
    }

    /// Runs it and gives `read` the result. The arguments' types are those of the first call.
    pub fn run<R: 'static>(
        &self,
        arguments: &[DatumWithOid],
        read: impl FnOnce(SpiTupleTable) -> SpiResult<R>,
    ) -> Result<R> {
        let result = Spi::connect_mut(|client| {
            let plan =
                self.plan(arguments, |types| Ok(client.prepare_mut(self.sql, types)?.keep()))?;
            let rows = client.update(plan, None, arguments)?;
            result::read(|| read(rows))
        })?;
        Ok(result)
    }

    /// Runs it as a query that changes nothing, so that it works where nothing can be changed.
    pub fn query<R: 'static>(
        &self,
        arguments: &[DatumWithOid],
        read: impl FnOnce(SpiTupleTable) -> SpiResult<R>,
    ) -> Result<R> {
        let result = Spi::connect(|client| {
            let plan = self.plan(arguments, |types| Ok(client.prepare(self.sql, types)?.keep()))?;
            let rows = client.select(plan, None, arguments)?;
            result::read(|| read(rows))
        })?;
        Ok(result)
    }

    /// The kept plan, made the first time.
    fn plan(
        &self,
        arguments: &[DatumWithOid],
        prepare: impl FnOnce(&[PgOid]) -> SpiResult<OwnedPreparedStatement>,
    ) -> SpiResult<&'static OwnedPreparedStatement> {
        if let Some(plan) = self.plan.get() {
            return Ok(*plan);
        }
        let types: Vec<PgOid> = arguments.iter().map(|argument| argument.oid().into()).collect();
        let plan = prepare(&types)?;
        Ok(*self.plan.get_or_init(|| Box::leak(Box::new(plan))))
    }

    /// Runs it for its effect; says how many rows it changed.
    pub fn execute(&self, arguments: &[DatumWithOid]) -> Result<usize> {
        self.run(arguments, |rows| Ok(rows.len()))
    }

    /// As [`Self::execute`], for a statement that changes the row that `one` finds. A transaction that
    /// keeps its snapshot may not see it: that is an error (40001), not success.
    pub fn execute_seeing_all(&self, arguments: &[DatumWithOid], one: &str) -> Result<usize> {
        let changed = self.execute(arguments)?;
        if changed == 0 && latest::finds_a_row(one, arguments) {
            return Err(Error::Conflict.into());
        }
        Ok(changed)
    }
}

/// The ids in the first column.
pub fn ids(rows: SpiTupleTable) -> SpiResult<Vec<Uuid>> {
    rows.map(|row| row.get(1)).filter_map(SpiResult::transpose).collect()
}
