//! Datums of the types our tables and arguments use, decoded without a copy where that is possible.

use api_tokens_logic::network::Network;
use api_tokens_logic::time::{Span, Timestamp};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::{self, Datum};
use pgrx::varlena::{varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, varlena_to_byte_slice};

/// As pgrx passes it to SQL. What lies beyond the calendar of Postgres becomes `infinity`.
pub fn timestamptz(at: Timestamp) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(at.0)
        .unwrap_or_else(|_| TimestampWithTimeZone::positive_infinity())
}

pub fn timestamp(at: TimestampWithTimeZone) -> Timestamp {
    Timestamp(at.into())
}

pub fn is_utf8_database() -> bool {
    // SAFETY: reads a setting fixed at the start of the session.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

/// The bytes of a text or bytea, detoasted if need be.
///
/// # Safety
/// `datum` must be a non-null varlena that lives for `'a`.
pub(super) unsafe fn bytes<'a>(datum: Datum) -> &'a [u8] {
    // SAFETY: a varlena as promised; a detoasted copy lives in the current memory context, which
    // outlasts the call this datum came from.
    unsafe {
        let value = datum.cast_mut_ptr::<pg_sys::varlena>();
        let value = if is_plain(value) { value } else { pg_sys::pg_detoast_datum_packed(value) };
        varlena_to_byte_slice(value)
    }
}

/// Does the value lie there as it is, neither compressed nor elsewhere? Most do, and then Postgres
/// need not be asked.
///
/// # Safety
/// `value` must point to a varlena.
pub(super) unsafe fn is_plain(value: *const pg_sys::varlena) -> bool {
    // SAFETY: reads the first byte of the header.
    unsafe { varatt_is_4b_u(value) || (varatt_is_1b(value) && !varatt_is_1b_e(value)) }
}

/// # Safety
/// As [`bytes`].
pub(super) unsafe fn text<'a>(datum: Datum) -> &'a str {
    // SAFETY: as promised by the caller.
    text_of(unsafe { bytes(datum) })
}

pub(super) fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("CREATE EXTENSION made sure of UTF8")
}

/// # Safety
/// `datum` must be a non-null `interval`.
pub(super) unsafe fn interval(datum: Datum) -> Span {
    // SAFETY: an interval datum points to a pg_sys::Interval.
    let interval = unsafe { &*datum.cast_mut_ptr::<pg_sys::Interval>() };
    Span::from_interval(interval.month, interval.day, interval.time)
}

/// A length of time as an `interval` of microseconds alone.
pub fn interval_of(span: Span) -> Interval {
    // As many microseconds as make an interval, which a sum that was saturated is beyond.
    const MOST: i64 = 9_000_000_000_000_000_000;
    Interval::from_micros(span.0.min(MOST))
}

/// An `inet` or `cidr`: family, mask bits, then 4 or 16 bytes of address, network byte order.
///
/// # Safety
/// `datum` must be a non-null `inet` or `cidr`.
pub(super) unsafe fn network(datum: Datum) -> Network {
    // SAFETY: as promised by the caller; both types are varlenas.
    network_of(unsafe { bytes(datum) })
}

pub(super) fn network_of(bytes: &[u8]) -> Network {
    const PGSQL_AF_INET: u8 = 2;
    let (head, address) = bytes.split_at(2);
    let (family, bits) = (head[0], head[1]);
    let mut octets = [0; 16];
    if family == PGSQL_AF_INET {
        octets[..4].copy_from_slice(&address[..4]);
        return Network::v4([octets[0], octets[1], octets[2], octets[3]], bits);
    }
    octets.copy_from_slice(&address[..16]);
    Network::v6(octets, bits)
}
