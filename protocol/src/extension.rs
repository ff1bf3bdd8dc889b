//! Extensions: room to grow at the end of a message.
//!
//! The bytes after the last field of a body are a list of extensions until the body ends. A field that is added to a message
//! is an extension. An odd id may be skipped; an even one must be understood.

use crate::varint;

/// One extension. On the wire: varint id, varint length, that many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// What it is, numbered for each message type on its own.
    pub id: u64,
    /// Its content.
    pub content: &'a [u8],
}

impl Extension<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        varint::write(self.id, out);
        varint::write(self.content.len() as u64, out);
        out.extend_from_slice(self.content);
    }
}

/// Reads a list of extensions. The last item is `None` if the list is malformed.
pub(crate) fn read(mut rest: &[u8]) -> impl Iterator<Item = Option<Extension<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let extension = split(rest);
        rest = extension.map_or(&[], |(_, rest)| rest);
        Some(extension.map(|(extension, _)| extension))
    })
}

fn split(bytes: &[u8]) -> Option<(Extension<'_>, &[u8])> {
    let (id, at) = varint::read(bytes).ok()??;
    let (length, head) = varint::read(&bytes[at..]).ok()??;
    let (content, rest) = bytes[at + head..].split_at_checked(usize::try_from(length).ok()?)?;
    Some((Extension { id, content }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let all = [Extension { id: 61, content: b"abc" }, Extension { id: 300, content: b"" }];
        let mut bytes = Vec::new();
        all.iter().for_each(|extension| extension.write(&mut bytes));
        assert_eq!(bytes, b"\x3d\x03abc\xac\x02\0");
        assert!(read(&bytes).eq(all.map(Some)));
        assert_eq!(read(&bytes[..4]).collect::<Vec<_>>(), [None], "cut within the content");
        assert_eq!(read(b"\x03").collect::<Vec<_>>(), [None], "no length");
        assert_eq!(read(b"").count(), 0);
    }
}
