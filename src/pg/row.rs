//! A row under a scan, read column by column.

use super::datum;
use super::kept::KeptJsonb;
use super::touch::{self, FixedColumn, Patience, Touched};
use api_tokens_logic::array;
use api_tokens_logic::network::Network;
use api_tokens_logic::time::{Span, Timestamp};
use pgrx::pg_sys::{self, Datum};

/// A row under the scan; it lives as long as the closure it is given to.
pub struct Row<'a> {
    pub(super) table: pg_sys::Relation,
    pub(super) slot: *mut pg_sys::TupleTableSlot,
    pub(super) scan: std::marker::PhantomData<&'a ()>,
}

impl Row<'_> {
    /// The column as it lies there, for passing on; `None` is NULL. Valid inside the closure.
    pub fn datum(&self, column: i16) -> Option<Datum> {
        let at = usize::try_from(column - 1).expect("column numbers start at 1");
        // SAFETY: the slot is deformed up to `UniqueIndex::columns`, asserted to cover `column`.
        unsafe {
            assert!(column <= (*self.slot).tts_nvalid);
            (!*(*self.slot).tts_isnull.add(at)).then(|| *(*self.slot).tts_values.add(at))
        }
    }

    pub fn bool(&self, column: i16) -> bool {
        self.datum(column).is_some_and(|datum| datum.value() != 0)
    }

    pub fn int(&self, column: i16) -> i32 {
        self.datum(column).map_or(0, |datum| datum.value() as i32)
    }

    /// A bigint that may be NULL.
    pub fn bigint(&self, column: i16) -> Option<i64> {
        self.datum(column).map(|datum| datum.value() as i64)
    }

    /// An integer that may be NULL.
    pub fn integer(&self, column: i16) -> Option<i32> {
        self.datum(column).map(|datum| datum.value() as i32)
    }

    pub fn timestamp(&self, column: i16) -> Option<Timestamp> {
        self.datum(column).map(|datum| Timestamp(datum.value() as i64))
    }

    pub fn uuid(&self, column: i16) -> Option<pgrx::Uuid> {
        // SAFETY: callers name a uuid column; such a datum points to 16 bytes.
        self.datum(column)
            .map(|datum| unsafe { pgrx::Uuid::from_bytes(*datum.cast_mut_ptr::<[u8; 16]>()) })
    }

    pub fn interval(&self, column: i16) -> Option<Span> {
        // SAFETY: callers name an interval column.
        self.datum(column).map(|datum| unsafe { datum::interval(datum) })
    }

    pub fn text(&self, column: i16) -> Option<&str> {
        // SAFETY: callers name a text column; the tuple is pinned while `self` lives.
        self.datum(column).map(|datum| unsafe { datum::text(datum) })
    }

    /// The bytes of a column of variable length, fetched if they lie elsewhere.
    pub fn bytes(&self, column: i16) -> Option<&[u8]> {
        // SAFETY: callers name a bytea or array column; the tuple is pinned while `self` lives, and a copy
        // lives in the current memory context.
        self.datum(column).map(|datum| unsafe { datum::bytes(datum) })
    }

    pub fn jsonb(&self, column: i16) -> Option<KeptJsonb> {
        // SAFETY: callers name a jsonb column; the tuple is pinned while `self` lives.
        self.datum(column).map(|datum| unsafe { KeptJsonb::copy(datum) })
    }

    pub fn texts(&self, column: i16) -> Vec<&str> {
        let texts = self.elements(column).unwrap_or_default();
        texts.into_iter().flatten().map(datum::text_of).collect()
    }

    pub fn networks(&self, column: i16) -> Option<Vec<Network>> {
        let networks = self.elements(column)?;
        Some(networks.into_iter().flatten().map(datum::network_of).collect())
    }

    /// Of a text[] or cidr[] column.
    fn elements(&self, column: i16) -> Option<Vec<Option<&[u8]>>> {
        // Never taken for NULL, which in a list of addresses allows all.
        Some(array::elements(self.bytes(column)?, usize::MAX).expect("without a bound"))
    }

    /// Moves a timestamp column forward to `now`, in place and at once.
    pub fn touch(&self, column: FixedColumn, now: Timestamp, patience: Patience) -> Touched {
        // SAFETY: table and slot are those of the open scan this row belongs to.
        unsafe { touch::write(self.table, self.slot, column, now, patience) }
    }
}
