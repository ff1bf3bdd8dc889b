//! What was handed out as durable stays, at its place.

use super::{Promise, Violation};
use crate::{
    history::{Entry, History},
    logs::{Logs, Place},
};

/// What was decided, and where a log changed what it had handed out.
pub(super) fn replay(history: &History) -> (Logs, Vec<Violation>) {
    let (mut logs, mut found) = (Logs::default(), Vec::new());
    for (at, entry) in &history.entries {
        match entry {
            Entry::Log { generation, kept } => _ = logs.begin(*generation, *kept, *at),
            Entry::Ordered(ordered) if logs.follow(ordered, *at) == Place::Other => {
                let position = ordered.position;
                let what = format!("position {position} of the log is not what was handed out before: {ordered:?}");
                found.push(Violation { at: *at, promise: Promise::Durable, what });
            }
            _ => {}
        }
    }
    (logs, found)
}
