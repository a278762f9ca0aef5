//! Who calls, and acting as the owner of a table for a moment.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The role that the session acts as (SET ROLE counts, SECURITY DEFINER does not): who did it,
/// for the event.
pub fn actor() -> String {
    // SAFETY: a name of the current role is always found; the copy is taken before anything can
    // free it. A role dropped meanwhile gives NULL with `noerr`.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetOuterUserId(), true);
        if name.is_null() {
            return "unknown".to_owned();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// The role whose rights are in force right here.
pub fn current() -> pg_sys::Oid {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::GetUserId() }
}

/// Runs `work` with the rights of the owner of this table, as SECURITY DEFINER would, for the
/// functions that must also know who called them.
pub fn as_owner_of<R>(schema: &CStr, table: &CStr, work: impl FnOnce() -> R) -> R {
    // SAFETY: opens and closes one relation; an ERROR releases it.
    let owner = unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), false);
        let table = pg_sys::get_relname_relid(table.as_ptr(), schema);
        let table = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let owner = (*(*table).rd_rel).relowner;
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
        owner
    };
    let _caller = Caller::replaced_by(owner);
    work()
}

/// Who to be again when it is dropped, also while an ERROR unwinds.
struct Caller {
    role: pg_sys::Oid,
    context: i32,
}

impl Caller {
    fn replaced_by(owner: pg_sys::Oid) -> Self {
        let mut caller = Self { role: pg_sys::InvalidOid, context: 0 };
        // SAFETY: reads, then sets two backend-local variables, as fmgr does for SECURITY DEFINER.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut caller.role, &mut caller.context);
            let changed = caller.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            pg_sys::SetUserIdAndSecContext(owner, changed);
        }
        caller
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // SAFETY: restores what `replaced_by` read; assigns two variables and cannot raise.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context) }
    }
}
