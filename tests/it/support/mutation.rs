//! Changes of the kinds that parsers stumble over.

/// How many kinds [`change`] knows.
pub const KINDS: u8 = 6;

/// A byte set, flipped in a bit, removed or inserted; a stretch cut off or repeated.
pub fn change(bytes: &mut Vec<u8>, kind: u8, at: usize, value: u8) {
    match kind % KINDS {
        0 => bytes[at] = value,
        1 => bytes[at] ^= 1 << (value % 8),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, value),
        4 => bytes.truncate(at),
        _ => {
            let stretch = bytes[at..bytes.len().min(at + usize::from(value))].to_vec();
            bytes.splice(at..at, stretch);
        }
    }
}
