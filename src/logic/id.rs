//! Identifiers: UUID v7 (RFC 9562), so that ids sort by creation time.

use crate::time::{POSTGRES_EPOCH_UNIX_SECONDS, Timestamp};
use uuid::Uuid;

/// A fresh id for something created at `created_at`.
///
/// The 12 bits after the milliseconds hold the fraction of the millisecond (RFC 9562, 6.2,
/// method 3), so ids order as `created_at` does, to a quarter of a microsecond. That is what lets
/// listings page by id alone.
pub fn new_id(created_at: Timestamp, random: [u8; 8]) -> Uuid {
    let unix_micros =
        created_at.0.saturating_add(POSTGRES_EPOCH_UNIX_SECONDS * 1_000_000).max(0) as u64;
    let fraction = ((unix_micros % 1000) * 4096 / 1000) as u16;
    let mut tail = [0; 10];
    tail[..2].copy_from_slice(&fraction.to_be_bytes());
    tail[2..].copy_from_slice(&random);
    uuid::Builder::from_unix_timestamp_millis(unix_micros / 1000, &tail).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_version_7_of_the_right_time() {
        // RFC 9562, A.6: 2022-02-22 19:22:22 UTC is 0x017F22E279B0 ms.
        let at = Timestamp((0x017F_22E2_79B0 - POSTGRES_EPOCH_UNIX_SECONDS * 1000) * 1000);
        let id = new_id(at, [0xff; 8]);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        assert!(id.to_string().starts_with("017f22e2-79b0-7000-"), "{id}");
    }

    #[test]
    fn sorts_by_microsecond() {
        let base = 800_000_000_000_000;
        for step in 0..3000 {
            let earlier = new_id(Timestamp(base + step), [0xff; 8]);
            let later = new_id(Timestamp(base + step + 1), [0; 8]);
            assert!(earlier < later);
        }
    }
}
