//! Arguments that are taken as they are: looked at only when needed, passed on unchanged.

use super::datum;
use api_tokens_logic::Error;
use api_tokens_logic::array;
use api_tokens_logic::network::Network;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::pg_sys::{self, Datum};

/// A non-null argument of the SQL type it is declared for.
macro_rules! raw_argument {
    ($(#[$doc:meta])* $name:ident, $sql:literal, $oid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name(pub(super) Datum);

        impl FromDatum for $name {
            unsafe fn from_polymorphic_datum(
                datum: Datum,
                is_null: bool,
                _: pg_sys::Oid,
            ) -> Option<Self> {
                (!is_null).then_some(Self(datum))
            }
        }

        impl IntoDatum for $name {
            fn into_datum(self) -> Option<Datum> {
                Some(self.0)
            }

            fn type_oid() -> pg_sys::Oid {
                $oid
            }
        }

        // SAFETY: the install script declares such an argument with the SQL type named here
        // (checked by `make schema-check`), and a NULL never reaches `Self`.
        unsafe impl<'fcx> ArgAbi<'fcx> for $name {
            unsafe fn unbox_arg_unchecked(argument: Arg<'_, 'fcx>) -> Self {
                // SAFETY: any datum of the declared type is accepted as it is.
                let value = unsafe { argument.unbox_arg_using_from_datum() };
                value.expect("a strict argument is not null")
            }
        }

        pgrx::impl_sql_translatable!($name, $sql);
    };
}

raw_argument!(
    /// Perhaps a token, perhaps a gigabyte of garbage: detoasted only if it is short enough.
    TokenText, "text", pg_sys::TEXTOID
);
raw_argument!(HashBytes, "bytea", pg_sys::BYTEAOID);
raw_argument!(TextArray, "text[]", pg_sys::TEXTARRAYOID);
raw_argument!(CidrArray, "cidr[]", pg_sys::CIDRARRAYOID);
raw_argument!(InetAddress, "inet", pg_sys::INETOID);
raw_argument!(
    /// Kept as a datum, so that numbers keep every digit.
    Jsonb, "jsonb", pg_sys::JSONBOID
);
raw_argument!(RegRole, "regrole", pg_sys::REGROLEOID);
raw_argument!(
    /// Passed through to a column; its length is `span()`.
    IntervalValue, "interval", pg_sys::INTERVALOID
);

/// The bytes of a varlena if there are at most `max` of them; the size is read from its header.
fn bounded<'a>(value: Datum, max: usize) -> Option<&'a [u8]> {
    // SAFETY: the argument types that call this are varlenas.
    unsafe {
        if !datum::is_plain(value.cast_mut_ptr()) {
            let size = pg_sys::toast_raw_datum_size(value) - size_of::<i32>();
            if size > max {
                return None;
            }
        }
        Some(datum::bytes(value)).filter(|bytes| bytes.len() <= max)
    }
}

impl TokenText {
    pub fn bytes_up_to(&self, max: usize) -> Option<&[u8]> {
        bounded(self.0, max)
    }
}

impl HashBytes {
    pub fn bytes_up_to(&self, max: usize) -> Option<&[u8]> {
        bounded(self.0, max)
    }
}

/// An array's elements, refused before any is looked at if there are too many: an array of a
/// gigabyte may be a few bytes of NULLs, and memory that Rust cannot have is the end of the server.
#[derive(Clone, Copy)]
pub struct Bound {
    pub argument: &'static str,
    pub max: usize,
}

impl Bound {
    /// # Safety
    /// `array` must be a text[] or cidr[] that lives for `'a`.
    unsafe fn elements<'a>(self, array: Datum) -> Result<Vec<Option<&'a [u8]>>, Error> {
        let Self { argument, max } = self;
        // SAFETY: as promised by the caller.
        let elements = array::elements(unsafe { datum::bytes(array) }, max);
        elements.map_err(|actual| Error::TooMany { argument, max, actual })
    }
}

impl TextArray {
    pub fn elements(&self, bound: Bound) -> Result<Vec<Option<&str>>, Error> {
        let elements = self.raw_elements(bound)?;
        Ok(elements.into_iter().map(|element| element.map(datum::text_of)).collect())
    }

    pub fn raw_elements(&self, bound: Bound) -> Result<Vec<Option<&[u8]>>, Error> {
        // SAFETY: declared text[].
        unsafe { bound.elements(self.0) }
    }
}

impl CidrArray {
    pub fn networks(&self, bound: Bound) -> Result<Vec<Option<Network>>, Error> {
        // SAFETY: declared cidr[].
        let elements = unsafe { bound.elements(self.0) }?;
        Ok(elements.into_iter().map(|element| element.map(datum::network_of)).collect())
    }
}

impl InetAddress {
    pub fn network(&self) -> Network {
        // SAFETY: declared inet.
        unsafe { datum::network(self.0) }
    }
}

impl IntervalValue {
    pub fn span(&self) -> api_tokens_logic::time::Span {
        // SAFETY: declared interval.
        unsafe { datum::interval(self.0) }
    }
}

impl RegRole {
    pub fn oid(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.0.value() as u32)
    }
}
