//! A question asked of the latest committed state, whatever the transaction's own snapshot shows.

use pgrx::datum::{DatumWithOid, FromDatum};
use pgrx::pg_sys;
use std::ffi::CString;

/// Does this query find a row? pgrx' SPI cannot ask it: once a transaction has written, it runs
/// every statement with the transaction's snapshot.
pub fn finds_a_row(query: &str, arguments: &[DatumWithOid]) -> bool {
    let query = CString::new(query).expect("a query of ours has no NUL byte");
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(DatumWithOid::oid).collect();
    let given = arguments.iter().map(|argument| argument.datum());
    let (mut values, nulls): (Vec<pg_sys::Datum>, Vec<std::ffi::c_char>) = given
        .map(|datum| match datum {
            Some(datum) => (datum.sans_lifetime(), b' ' as std::ffi::c_char),
            None => (pg_sys::Datum::null(), b'n' as std::ffi::c_char),
        })
        .unzip();
    // SAFETY: the arrays have as many entries as are told of; a read-only statement uses the
    // active snapshot, which is pushed and popped here. An ERROR aborts both with the transaction.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        pg_sys::SPI_connect();
        pg_sys::SPI_execute_with_args(
            query.as_ptr(),
            types.len() as i32,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr(),
            true,
            1,
        );
        let found = pg_sys::SPI_processed > 0;
        pg_sys::SPI_finish();
        pg_sys::PopActiveSnapshot();
        found
    }
}

/// The text in the first column of the query's first row.
pub fn first_text(query: &str) -> Option<String> {
    let query = CString::new(query).expect("a query of ours has no NUL byte");
    // SAFETY: as above. The value is copied before the memory of SPI goes.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        pg_sys::SPI_connect();
        pg_sys::SPI_execute(query.as_ptr(), true, 1);
        let text = (pg_sys::SPI_processed > 0).then(|| {
            let table = pg_sys::SPI_tuptable;
            let mut is_null = false;
            let row = *(*table).vals;
            let datum = pg_sys::SPI_getbinval(row, (*table).tupdesc, 1, &mut is_null);
            String::from_polymorphic_datum(datum, is_null, pg_sys::TEXTOID)
        });
        pg_sys::SPI_finish();
        pg_sys::PopActiveSnapshot();
        text.flatten()
    }
}
