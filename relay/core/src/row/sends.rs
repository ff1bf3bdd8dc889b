//! How send numbers are stored: in parts, so that a command writes about 100 bytes and not all 64 outcomes.
//!
//! Numbers 1 to 8 are the first part, 9 to 16 the second, and so on. A part lies at one of nine places, which are used
//! in turn, and is written again until it is full. The nine hold between 65 and 72 outcomes once there are so many,
//! whatever was committed together: the bytes follow from the commands alone.

use quip_protocol::limit;

use super::{Recorded, SendsRow};

/// Outcomes in one part.
const PART: u64 = 8;
/// Places: all parts that the latest [`limit::UNANSWERED`] outcomes can lie in.
const PLACES: u64 = limit::UNANSWERED / PART + 1;

impl SendsRow {
    /// Records the outcome of the next number, and forgets the part whose place is used again.
    pub fn push(&mut self, recorded: Recorded) {
        self.last += 1;
        self.latest.push_back(recorded);
        let parts = self.last.div_ceil(PART);
        let kept = self.last - parts.saturating_sub(PLACES) * PART;
        while self.latest.len() as u64 > kept {
            self.latest.pop_front();
        }
    }

    /// The parts that hold what is newer than number `after`, each with its place.
    pub fn parts(&self, after: u64) -> impl Iterator<Item = (u8, SendsRow)> {
        let oldest = self.last - self.latest.len() as u64;
        (after.max(oldest) / PART..self.last.div_ceil(PART)).map(move |part| {
            let (from, to) = (oldest.max(part * PART), self.last.min((part + 1) * PART));
            let latest = self.latest.range((from - oldest) as usize..(to - oldest) as usize).copied().collect();
            ((part % PLACES) as u8, SendsRow { last: to, latest })
        })
    }

    /// Puts the stored parts together, in any order; `None` when they do not fit or there are none.
    pub fn from_parts(mut parts: Vec<SendsRow>) -> Option<SendsRow> {
        parts.sort_unstable_by_key(|part| part.last);
        parts
            .into_iter()
            .try_fold(SendsRow::default(), |mut row, part| {
                let before = part.last.checked_sub(part.latest.len() as u64)?;
                let fits = !part.latest.is_empty() && (row.latest.is_empty() || before == row.last);
                row.last = part.last;
                row.latest.extend(part.latest);
                fits.then_some(row)
            })
            .filter(|row| row.last > 0)
    }
}
