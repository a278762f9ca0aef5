//! A function that is called as a row trigger.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys::{self, Datum};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use std::ffi::{CStr, CString};

/// The row that is changed or deleted, and the arguments that CREATE TRIGGER was given.
pub struct RowTrigger<'a> {
    data: &'a pg_sys::TriggerData,
}

impl RowTrigger<'_> {
    /// `None` unless the call is after the change of each row by an UPDATE or a DELETE. Before it, the
    /// row is not yet what it will be.
    pub fn of_call(call: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: pgrx hands such an argument to the function that is called; its context is
        // trigger data if Postgres says so.
        unsafe {
            if !pgrx::trigger_support::called_as_trigger(call) {
                return None;
            }
            let data = &*(*call).context.cast::<pg_sys::TriggerData>();
            let is_for_each_row = data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
            let what = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
            let is_after =
                data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER;
            let has_old = [pg_sys::TRIGGER_EVENT_UPDATE, pg_sys::TRIGGER_EVENT_DELETE];
            (is_for_each_row && is_after && has_old.contains(&what)).then_some(Self { data })
        }
    }

    /// The only argument.
    pub fn argument(&self) -> Option<&CStr> {
        // SAFETY: the trigger lives as long as the call; it has as many arguments as it says.
        unsafe {
            let trigger = &*self.data.tg_trigger;
            (trigger.tgnargs == 1).then(|| CStr::from_ptr(*trigger.tgargs))
        }
    }

    /// A column of the table whose values are written the same whatever the session's settings are: of
    /// a string type, an enum, a uuid or a whole number.
    pub fn name_column(&self, name: &CStr) -> Option<NameColumn> {
        // SAFETY: the relation is open during the call; the number is one of its columns.
        unsafe {
            let columns = (*self.data.tg_relation).rd_att;
            let number = pg_sys::SPI_fnumber(columns, name.as_ptr());
            if number <= 0 {
                return None;
            }
            let of = pg_sys::getBaseType(pg_sys::SPI_gettypeid(columns, number));
            let (mut category, mut preferred) = (0, false);
            pg_sys::get_type_category_preferred(of, &mut category, &mut preferred);
            let plain = [pg_sys::UUIDOID, pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID];
            let is_name = plain.contains(&of)
                || [pg_sys::TYPCATEGORY_STRING, pg_sys::TYPCATEGORY_ENUM]
                    .contains(&(category as u8));
            is_name.then_some(NameColumn { number, is_padded: of == pg_sys::BPCHAROID })
        }
    }

    /// A column before the change.
    pub fn before(&self, column: &NameColumn) -> Option<String> {
        self.text(self.data.tg_trigtuple, column)
    }

    /// A column after the change; `None` too if the row is deleted.
    pub fn after(&self, column: &NameColumn) -> Option<String> {
        let is_deleted = self.data.tg_newtuple.is_null();
        (!is_deleted).then(|| self.text(self.data.tg_newtuple, column)).flatten()
    }

    fn text(&self, row: pg_sys::HeapTuple, column: &NameColumn) -> Option<String> {
        // SAFETY: a row of the open relation, and one of its columns; the text is copied and freed.
        unsafe {
            let value = pg_sys::SPI_getvalue(row, (*self.data.tg_relation).rd_att, column.number);
            if value.is_null() {
                return None;
            }
            let text = CString::from(CStr::from_ptr(value));
            pg_sys::pfree(value.cast());
            let mut text = text.into_string().expect("CREATE EXTENSION made sure of UTF8");
            if column.is_padded {
                text.truncate(text.trim_end_matches(' ').len());
            }
            Some(text)
        }
    }
}

/// A column that can hold a name, by its number. The blanks at the end of a `char(n)` mean nothing.
pub struct NameColumn {
    number: i32,
    is_padded: bool,
}

/// What a trigger returns after a change: nothing that anybody looks at.
pub struct Done;

// SAFETY: a trigger returns a pointer to a row, which may be null, and never an SQL NULL.
unsafe impl BoxRet for Done {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(Datum::null()) }
    }
}

// SAFETY: states the SQL name of the type.
unsafe impl SqlTranslatable for Done {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Done);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Err(ArgumentError::NotValidAsArgument("Done"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("trigger")));
}
