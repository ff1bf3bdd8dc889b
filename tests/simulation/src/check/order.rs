//! What was handed out as durable stays, at its place.

use std::time::Duration;

use quip_order::Ordered;

use super::{Promise, Violation};
use crate::{
    history::{Entry, History},
    truth::Truth,
};

/// What was decided, and where the log changed what it had handed out.
pub(super) fn replay(history: &History) -> (Truth, Vec<Violation>) {
    let (mut truth, mut log, mut found) = (Truth::default(), Vec::<Ordered>::new(), Vec::new());
    for (at, entry) in &history.entries {
        if let Entry::Ordered(ordered) = entry {
            match next(&log, ordered) {
                Place::New => {
                    truth.apply(ordered, *at);
                    log.push((**ordered).clone());
                }
                Place::Known => {}
                Place::Other => found.push(changed(*at, ordered)),
            }
        }
    }
    (truth, found)
}

enum Place {
    New,
    /// Handed out again, as a restart does.
    Known,
    /// Something else was handed out there before, or something is missing before it.
    Other,
}

fn next(log: &[Ordered], ordered: &Ordered) -> Place {
    let known = usize::try_from(ordered.position).ok().and_then(|position| log.get(position.checked_sub(1)?));
    match known {
        Some(known) if known == ordered => Place::Known,
        None if ordered.position == log.len() as u64 + 1 => Place::New,
        _ => Place::Other,
    }
}

fn changed(at: Duration, ordered: &Ordered) -> Violation {
    let what = format!("position {} of the log is not what was handed out before: {ordered:?}", ordered.position);
    Violation { at, promise: Promise::Durable, what }
}

#[cfg(test)]
mod tests {
    use quip_core::Command;
    use quip_protocol::UserId;

    use super::*;

    fn ordered(position: u64, at: u64) -> Entry {
        let command = Command::seen(UserId::parse("alice").unwrap(), at);
        Entry::Ordered(Box::new(Ordered { position, at, command }))
    }

    fn history(entries: Vec<Entry>) -> History {
        let entries = entries.into_iter().map(|entry| (Duration::ZERO, entry)).collect();
        History { users: Vec::new(), entries }
    }

    #[test]
    fn the_same_again_is_fine_and_another_is_not() {
        let check = |entries| replay(&history(entries)).1.len();
        assert_eq!(check(vec![ordered(1, 1), ordered(2, 2), ordered(1, 1), ordered(2, 2), ordered(3, 3)]), 0);
        assert_eq!(check(vec![ordered(1, 1), ordered(2, 2), ordered(2, 3)]), 1);
        assert_eq!(check(vec![ordered(1, 1), ordered(3, 3)]), 1);
    }
}
