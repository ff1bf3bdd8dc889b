//! Which devices' send numbers are to be forgotten, since they were not used for long. Pure.
//!
//! A pass looks at all of them, a page a second, and the next one begins an hour after it. The first begins an hour after the
//! start, so that a wrong clock has been corrected by then.

use std::{collections::VecDeque, time::Duration};

use quip_core::{Command, Timestamp, record::SendsKey};
use quip_store::{Expired, ReadError};
use tokio::time::Instant;

/// Where a pass has come to.
#[derive(Debug)]
pub(super) struct Forgetting {
    /// How long numbers are kept that are not used.
    kept: Duration,
    /// When the next page is read.
    due: Instant,
    /// Behind which device; `None` = a pass begins.
    after: Option<SendsKey>,
    /// A page is being read.
    asked: bool,
    /// What was not used since this time is forgotten.
    before: Timestamp,
    /// Devices of the page that are still to be forgotten.
    found: VecDeque<SendsKey>,
}

/// A page to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExpiredPage {
    /// Behind which device; `None` = from the first one on.
    pub(super) after: Option<SendsKey>,
    /// Devices that were not used since.
    pub(super) before: Timestamp,
}

/// Records that one page looks at.
pub(super) const LOOKS: usize = 256;
/// Time between two pages.
const PAGE_EVERY: Duration = Duration::from_secs(1);
/// Time from the start, or the end of a pass, to the next one.
const PASS_EVERY: Duration = Duration::from_secs(3600);
/// Devices forgotten in one tick, so that they do not fill the order's queue.
const FORGOTTEN_PER_TICK: usize = 32;

impl Forgetting {
    /// Begins at `now` to count the time to the first pass.
    pub(super) fn new(kept: Duration, now: Instant) -> Self {
        Self { kept, due: now + PASS_EVERY, after: None, asked: false, before: 0, found: VecDeque::new() }
    }

    /// The page to read now, for [`Self::read`] or [`Self::put_off`]. `time` is now on the wall clock.
    pub(super) fn next(&mut self, now: Instant, time: Timestamp) -> Option<ExpiredPage> {
        if self.asked || now < self.due || !self.found.is_empty() {
            return None;
        }
        self.asked = true;
        self.before = time.saturating_sub(self.kept.as_millis() as u64);
        Some(ExpiredPage { after: self.after.clone(), before: self.before })
    }

    /// The readers are busy: a little later.
    pub(super) fn put_off(&mut self, now: Instant) {
        (self.asked, self.due) = (false, now + PAGE_EVERY);
    }

    /// A page was read.
    pub(super) fn read(&mut self, page: Result<Expired, ReadError>, now: Instant) {
        let page = page.unwrap_or_else(|error| {
            tracing::error!(%error, "could not look for send numbers that are not used");
            Expired::default()
        });
        let pause = if page.next.is_some() { PAGE_EVERY } else { PASS_EVERY };
        (self.asked, self.due, self.after) = (false, now + pause, page.next);
        self.found.extend(page.devices);
    }

    /// Has some devices forgotten, until `submit` is false: the rest is for another tick.
    pub(super) fn submit(&mut self, mut submit: impl FnMut(Command) -> bool) {
        for _ in 0..FORGOTTEN_PER_TICK {
            let Some(key) = self.found.front() else { return };
            if !submit(Command::forget(key.clone(), self.before)) {
                return;
            }
            self.found.pop_front();
        }
    }
}
