//! One result row of a function with OUT columns, built by hand.
//!
//! The row type is made once per backend and blessed, so a call costs no catalog lookup; that is
//! 0.4 µs against 2.7 µs for pgrx' `TableIterator` (anchors, section 3).

use pgrx::PgMemoryContexts;
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::IntoDatum;
use pgrx::pg_sys::{self, Datum};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use std::cell::OnceCell;
use std::ffi::CStr;

pub type Column = (&'static CStr, pg_sys::Oid);

/// The columns of a result row; keep one in a `thread_local`.
pub struct Shape {
    columns: &'static [Column],
    descriptor: OnceCell<pg_sys::TupleDesc>,
}

/// A finished row, to be returned from a function.
pub struct Record(Datum);

impl Shape {
    pub const fn new(columns: &'static [Column]) -> Self {
        Self { columns, descriptor: OnceCell::new() }
    }

    /// Forms the row. `values` are datums of the columns' types, in order; those that are missing
    /// at the end are NULL. Toasted values are fetched here, while their snapshot is still held.
    pub fn form(&self, values: &[Option<Datum>]) -> Record {
        const MAX_COLUMNS: usize = 16;
        assert!(values.len() <= self.columns.len() && self.columns.len() <= MAX_COLUMNS);
        let mut datums = [Datum::null(); MAX_COLUMNS];
        let mut nulls = [true; MAX_COLUMNS];
        for (at, value) in values.iter().enumerate() {
            if let Some(value) = value {
                datums[at] = *value;
                nulls[at] = false;
            }
        }
        let descriptor = *self.descriptor.get_or_init(|| describe(self.columns));
        // SAFETY: the arrays hold at least as many entries as the descriptor has columns.
        let tuple =
            unsafe { pg_sys::heap_form_tuple(descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr()) };
        // SAFETY: a tuple just formed, its header stamped by heap_form_tuple with the row type.
        Record(unsafe { pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data) })
    }
}

fn describe(columns: &[Column]) -> pg_sys::TupleDesc {
    // SAFETY: allocates in a context that lives as long as the backend, as does the thread_local
    // that keeps the result; column numbers run from 1 to the length given.
    unsafe {
        PgMemoryContexts::TopMemoryContext.switch_to(|_| {
            let descriptor = pg_sys::CreateTemplateTupleDesc(columns.len() as i32);
            for (number, (name, oid)) in (1..).zip(columns) {
                pg_sys::TupleDescInitEntry(descriptor, number, name.as_ptr(), *oid, -1, 0);
            }
            pg_sys::BlessTupleDesc(descriptor)
        })
    }
}

/// A value as a datum of its own SQL type; `None` is NULL.
pub fn value<T: IntoDatum>(value: T) -> Option<Datum> {
    value.into_datum()
}

// SAFETY: the datum is a composite of the row type the install script declares.
unsafe impl BoxRet for Record {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: a non-null datum in the caller's memory context.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

// SAFETY: states the SQL name of the type; OUT columns are the install script's.
unsafe impl SqlTranslatable for Record {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Record);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("record"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("record")));
}
