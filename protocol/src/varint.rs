//! Unsigned LEB128 as in postcard: seven bits a byte, least significant first, the top bit set on every byte but the last, at
//! most ten bytes. Writers use the shortest form.

/// A varint has more than 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The varint at the beginning of `bytes` and its length, or `None` while it is incomplete.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(u64, usize)>, TooLong> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate() {
        if i == 9 && *byte > 1 {
            return Err(TooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    Ok(None)
}

/// Appends a varint.
pub(crate) fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
