//! The elements of a Postgres array of a type of variable length, as text and cidr are, found in the
//! bytes that it is stored as.
//!
//! Asking Postgres for them costs a check of a token more than comparing them does: it copies the
//! array, and allocates twice. The layout is that of Postgres' `utils/array.h`, in the byte order
//! of the machine.

/// Before the bytes that are given lies the array's own header, from whose start places are counted.
const HEADER: usize = 4;
/// Number of dimensions, place of the data, type of the elements; then come the dimensions.
const DIMENSIONS: usize = 12;
/// The data begins at a multiple of this, and each element at one of 4.
const DATA_ALIGNMENT: usize = 8;

/// The elements, whatever the dimensions; `None` for a NULL. The error is their number, if there are
/// more than `max`.
///
/// # Panics
/// If this is no such array.
pub fn elements(array: &[u8], max: usize) -> Result<Vec<Option<&[u8]>>, usize> {
    let word = |at: usize| {
        let bytes = array.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_ne_bytes(bytes.expect("an array is as long as it says"))
    };
    let dimensions = word(0) as usize;
    if dimensions == 0 {
        return Ok(Vec::new());
    }
    let lengths = (0..dimensions).map(|dimension| word(DIMENSIONS + 4 * dimension) as usize);
    let count = lengths.fold(1, usize::saturating_mul);
    if count > max {
        return Err(count);
    }
    // The NULLs alone take a bit each. A number that is damaged must not become memory that Rust
    // cannot have.
    assert!(count / 8 <= array.len(), "an array is as long as it says");
    let after_dimensions = DIMENSIONS + 8 * dimensions;
    let (nulls, mut at) = match word(4) as usize {
        0 => (None, (HEADER + after_dimensions).next_multiple_of(DATA_ALIGNMENT) - HEADER),
        data => (Some(&array[after_dimensions..]), data - HEADER),
    };
    let is_null =
        |element: usize| nulls.is_some_and(|bits| bits[element / 8] & 1 << (element % 8) == 0);
    let mut element = |index: usize| {
        if is_null(index) {
            return None;
        }
        let start = (HEADER + at).next_multiple_of(4) - HEADER;
        let end = start + length(word(start));
        at = end;
        Some(&array[start + HEADER..end])
    };
    Ok((0..count).map(&mut element).collect())
}

/// What the header of an element says: in an array none is compressed, short or elsewhere.
fn length(header: u32) -> usize {
    let (flags, length) = if cfg!(target_endian = "big") {
        (header >> 30, header & (u32::MAX >> 2))
    } else {
        (header & 3, header >> 2)
    };
    assert!(flags == 0, "an element of an array is stored as it is");
    length as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(length: usize) -> [u8; 4] {
        let length = length as u32;
        if cfg!(target_endian = "big") { length } else { length << 2 }.to_ne_bytes()
    }

    /// As Postgres writes it, without its own header.
    fn stored(elements: &[Option<Vec<u8>>], dimensions: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut push = |word: u32| bytes.extend(word.to_ne_bytes());
        let has_nulls = elements.contains(&None);
        let bitmap = if has_nulls { elements.len().div_ceil(8) } else { 0 };
        let data = (16 + 8 * dimensions.len() + bitmap).next_multiple_of(8);
        push(dimensions.len() as u32);
        push(if has_nulls { data as u32 } else { 0 });
        push(25);
        dimensions.iter().for_each(|&length| push(length));
        dimensions.iter().for_each(|_| push(1));
        if dimensions.is_empty() {
            return bytes;
        }
        for eight in elements.chunks(8).take(bitmap) {
            let bits = eight.iter().enumerate().map(|(at, one)| u8::from(one.is_some()) << at);
            bytes.push(bits.sum());
        }
        bytes.resize(data - HEADER, 0);
        for element in elements.iter().flatten() {
            bytes.resize((HEADER + bytes.len()).next_multiple_of(4) - HEADER, 0);
            bytes.extend(header(HEADER + element.len()));
            bytes.extend(element);
        }
        bytes
    }

    #[test]
    fn an_empty_array_has_no_dimensions() {
        assert_eq!(elements(&stored(&[], &[]), 0), Ok(vec![]));
    }

    #[test]
    fn too_many_are_counted_and_not_looked_at() {
        let mut array = stored(&[], &[70_000, 30_000]);
        array.truncate(DIMENSIONS + 16);
        assert_eq!(elements(&array, 10), Err(2_100_000_000));
    }

    #[test]
    #[should_panic(expected = "an array is as long as it says")]
    fn no_memory_is_asked_for_what_is_not_there() {
        let array = stored(&[Some(vec![1])], &[u32::MAX, u32::MAX, u32::MAX]);
        let _ = elements(&array, usize::MAX);
    }

    proptest! {
        #[test]
        fn all_elements_come_back(
            all in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 1..40),
            twice in any::<bool>(),
        ) {
            let (all, dimensions) = match twice {
                true => ([all.clone(), all.clone()].concat(), vec![2, all.len() as u32]),
                false => (all.clone(), vec![all.len() as u32]),
            };
            let array = stored(&all, &dimensions);
            let expected: Vec<_> = all.iter().map(Option::as_deref).collect();
            prop_assert_eq!(elements(&array, all.len()), Ok(expected));
            prop_assert_eq!(elements(&array, all.len() - 1), Err(all.len()));
        }
    }
}
