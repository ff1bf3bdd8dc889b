//! The read mark of one stream, on its way to the order. Pure.

use quip_protocol::conversation::Mark;

/// The newest read mark that is not submitted yet.
#[derive(Debug, Default)]
pub(super) struct Marks {
    newest: Option<Mark>,
    /// A reader has it, or an earlier one.
    with_reader: bool,
}

impl Marks {
    /// A mark arrived: the highest one counts. True when it is the first one since the last was submitted.
    pub(super) fn put(&mut self, mark: Mark) -> bool {
        let first = self.newest.is_none();
        if self.newest.is_none_or(|waiting| waiting.seq < mark.seq) {
            self.newest = Some(mark);
        }
        first
    }

    /// The mark to submit; none while a reader has one, for which a stream that is `leaving` does not wait.
    pub(super) fn next(&self, leaving: bool) -> Option<Mark> {
        self.newest.filter(|_| leaving || !self.with_reader)
    }

    /// A reader has the mark from now on.
    pub(super) fn lend(&mut self) {
        self.with_reader = true;
    }

    /// The mark up to `seq` was submitted.
    pub(super) fn submitted(&mut self, seq: u64) {
        self.newest.take_if(|mark| mark.seq <= seq);
    }

    /// No reader has the mark any longer. True when there is one to submit.
    pub(super) fn is_back(&mut self) -> bool {
        self.with_reader = false;
        self.newest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark { seq, number: seq }
    }

    #[test]
    fn the_highest_mark_goes_and_what_comes_meanwhile_goes_next() {
        let mut marks = Marks::default();
        assert!(marks.put(mark(3)) && !marks.put(mark(5)) && !marks.put(mark(4)));
        assert_eq!(marks.next(false), Some(mark(5)));
        marks.lend();
        assert_eq!((marks.next(false), marks.next(true)), (None, Some(mark(5))));
        assert!(!marks.put(mark(9)));
        marks.submitted(5);
        assert!(marks.is_back());
        assert_eq!(marks.next(false), Some(mark(9)));
        marks.submitted(9);
        assert!(!marks.is_back() && marks.put(mark(10)));
    }
}
