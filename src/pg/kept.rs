//! A value kept beyond the call it came with.

use super::datum;
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys::{self, Datum};

/// The bytes of a `jsonb`, in plain form.
pub struct KeptJsonb(Box<[u8]>);

impl KeptJsonb {
    /// Fetches it, if it is compressed or elsewhere.
    ///
    /// # Safety
    /// `value` must be a non-null `jsonb`.
    pub(super) unsafe fn copy(value: Datum) -> Self {
        // SAFETY: a varlena, as promised by the caller.
        Self(unsafe { datum::bytes(value) }.into())
    }

    /// A new copy, for the caller's memory context.
    pub fn give(&self) -> Jsonb {
        const HEADER: usize = size_of::<i32>();
        let length = HEADER + self.0.len();
        // SAFETY: as many bytes as are allocated, of which the header says how many there are.
        unsafe {
            let value = pg_sys::palloc(length).cast::<u8>();
            pgrx::set_varsize_4b(value.cast(), length as i32);
            value.add(HEADER).copy_from_nonoverlapping(self.0.as_ptr(), self.0.len());
            Jsonb(Datum::from(value))
        }
    }
}

/// A `jsonb` to be returned.
pub struct Jsonb(Datum);

// SAFETY: the datum is a jsonb in the caller's memory context.
unsafe impl BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: a non-null datum of the type that is declared.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

pgrx::impl_sql_translatable!(Jsonb, "jsonb");
