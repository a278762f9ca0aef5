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
    /// `None` unless the call is for each row of an UPDATE or a DELETE.
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
            let has_old = [pg_sys::TRIGGER_EVENT_UPDATE, pg_sys::TRIGGER_EVENT_DELETE];
            (is_for_each_row && has_old.contains(&what)).then_some(Self { data })
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

    /// The number of a column of the table.
    pub fn column(&self, name: &CStr) -> Option<i32> {
        // SAFETY: the relation is open during the call.
        let number = unsafe { pg_sys::SPI_fnumber((*self.data.tg_relation).rd_att, name.as_ptr()) };
        (number > 0).then_some(number)
    }

    /// A column before the change, as its type writes it.
    pub fn before(&self, column: i32) -> Option<String> {
        self.text(self.data.tg_trigtuple, column)
    }

    /// A column after the change; `None` too if the row is deleted.
    pub fn after(&self, column: i32) -> Option<String> {
        let is_deleted = self.data.tg_newtuple.is_null();
        (!is_deleted).then(|| self.text(self.data.tg_newtuple, column)).flatten()
    }

    fn text(&self, row: pg_sys::HeapTuple, column: i32) -> Option<String> {
        // SAFETY: a row of the open relation, and one of its columns; the text is copied and freed.
        unsafe {
            let value = pg_sys::SPI_getvalue(row, (*self.data.tg_relation).rd_att, column);
            if value.is_null() {
                return None;
            }
            let text = CString::from(CStr::from_ptr(value));
            pg_sys::pfree(value.cast());
            Some(text.into_string().expect("CREATE EXTENSION made sure of UTF8"))
        }
    }

    /// Lets the change happen as it would.
    pub fn proceed(&self) -> ChangedRow {
        let is_deleted = self.data.tg_newtuple.is_null();
        let row = if is_deleted { self.data.tg_trigtuple } else { self.data.tg_newtuple };
        ChangedRow(Datum::from(row))
    }
}

/// What a row trigger returns: the row as it is to become.
pub struct ChangedRow(Datum);

// SAFETY: a trigger returns a pointer to a row, here one that Postgres passed in.
unsafe impl BoxRet for ChangedRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

// SAFETY: states the SQL name of the type.
unsafe impl SqlTranslatable for ChangedRow {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(ChangedRow);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Err(ArgumentError::NotValidAsArgument("ChangedRow"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("trigger")));
}
