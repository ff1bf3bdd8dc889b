//! Send numbers. Only `last + 1` is decided, and an outcome never changes.

use quip_protocol::{Code, conversation::Outcome, limit};

use crate::{Recorded, SendsRecord};

/// The state of a send number.
pub(super) enum Numbered {
    /// It is the next one.
    Next,
    /// It was decided before, for the same content.
    Decided(Recorded),
    /// It is refused with this code and its info.
    Refused(Code, u64),
}

/// Looks up `n`, sent with content of this hash.
pub(super) fn look_up(sends: Option<&SendsRecord>, n: u64, hash: u64) -> Numbered {
    let last = sends.map_or(0, |sends| sends.last);
    if n > last {
        return if n - last == 1 { Numbered::Next } else { Numbered::Refused(Code::MISSING, last) };
    }
    let Some(sends) = sends else { return Numbered::Refused(Code::KNOWN, 0) };
    // `latest` ends with `last`, without gaps, so the index follows from the number. How parts are stored may keep more
    // outcomes than promised; the answer must not depend on that.
    let back = sends.last - n + 1;
    let place = (sends.latest.len() as u64).checked_sub(back).filter(|_| back <= limit::UNANSWERED);
    match place.and_then(|place| sends.latest.get(place as usize)) {
        Some(recorded) if recorded.hash == hash => Numbered::Decided(*recorded),
        Some(_) => Numbered::Refused(Code::REUSED, 0),
        None => Numbered::Refused(Code::KNOWN, 0),
    }
}

/// The answer to the submitter.
pub(super) fn outcome(n: u64, recorded: &Recorded) -> Outcome {
    Outcome {
        n,
        code: recorded.code,
        seq: recorded.seq,
        number: recorded.number,
        at: recorded.at,
        check: recorded.check(),
    }
}
