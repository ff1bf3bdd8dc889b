//! Pages of events that are being read, and the followers that wait for each. Pure.

use std::collections::{BTreeMap, HashMap};

use quip_protocol::ConversationId;

use crate::hub::{keys::StreamKey, reads::PageOf};

/// Reads of pages that are under way. Followers of a conversation that stand at one cursor wait for one read.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// By the stream that began the read, which may be gone by now.
    waiting: HashMap<StreamKey, Vec<StreamKey>>,
    /// Those that others may wait for too, by conversation and first event: who began it, and the last event.
    shared: BTreeMap<(ConversationId, u64), (StreamKey, u64)>,
}

impl Pages {
    /// Has a stream wait for a page that is being read. False when there is none that it may have.
    pub(super) fn share(&mut self, stream: StreamKey, page: PageOf) -> bool {
        let Some((reader, last)) = self.shared.get(&(page.id, page.first)) else { return false };
        let Some(waiting) = self.waiting.get_mut(reader).filter(|_| *last <= page.last) else { return false };
        waiting.push(stream);
        true
    }

    /// A page is being read for a stream.
    pub(super) fn begin(&mut self, stream: StreamKey, page: PageOf) {
        self.waiting.insert(stream, vec![stream]);
        self.shared.insert((page.id, page.first), (stream, page.last));
    }

    /// An event has other bytes from now on. Nobody else gets what was begun before.
    pub(super) fn rewritten(&mut self, id: ConversationId, seq: u64) {
        self.shared.extract_if((id, 0)..=(id, seq), |_, _| true).for_each(drop);
    }

    /// The page that a stream began to read is here. Gives those that wait for it.
    pub(super) fn end(&mut self, stream: StreamKey, page: PageOf) -> Vec<StreamKey> {
        let key = (page.id, page.first);
        if self.shared.get(&key).is_some_and(|(reader, _)| *reader == stream) {
            self.shared.remove(&key);
        }
        self.waiting.remove(&stream).unwrap_or_default()
    }

    /// Nothing is being read.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.shared.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    fn streams() -> [StreamKey; 4] {
        let mut keys = SlotMap::<StreamKey, ()>::with_key();
        [(); 4].map(|()| keys.insert(()))
    }

    fn page(first: u64, last: u64) -> PageOf {
        PageOf { id: ConversationId::group([7; 15]), first, last }
    }

    #[test]
    fn those_at_one_cursor_wait_for_one_read() {
        let ([a, b, c, d], mut pages) = (streams(), Pages::default());
        assert!(!pages.share(a, page(5, 9)));
        pages.begin(a, page(5, 9));
        assert!(pages.share(b, page(5, 9)));
        assert!(pages.share(c, page(5, 12)), "it goes on from there");
        assert!(!pages.share(d, page(6, 9)), "another cursor");
        let other = PageOf { id: ConversationId::group([8; 15]), ..page(5, 9) };
        assert!(!pages.share(d, other), "another conversation");
        assert!(!pages.share(d, page(5, 8)), "it may not see event 9");
        assert_eq!(pages.end(a, page(5, 9)), [a, b, c]);
        assert!(pages.is_empty() && !pages.share(d, page(5, 9)));
    }

    #[test]
    fn what_was_begun_before_a_deletion_is_for_nobody_else() {
        let ([a, b, c, d], mut pages) = (streams(), Pages::default());
        pages.begin(a, page(5, 9));
        pages.begin(b, page(20, 29));
        pages.rewritten(page(0, 0).id, 6);
        assert!(!pages.share(c, page(5, 9)));
        assert!(pages.share(d, page(20, 29)), "it is of later events");
        pages.begin(c, page(5, 9));
        assert_eq!(pages.end(a, page(5, 9)), [a]);
        assert!(pages.share(d, page(5, 9)), "the newer read has the newer bytes");
        assert_eq!((pages.end(b, page(20, 29)), pages.end(c, page(5, 9))), (vec![b, d], vec![c, d]));
        assert!(pages.is_empty());
    }
}
