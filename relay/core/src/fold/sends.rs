//! Send numbers: only `last + 1` is decided; what was decided stays decided.

use quip_protocol::{Code, conversation::Outcome, limit};

use crate::{Recorded, SendsRecord};

/// Where a number stands.
pub(super) enum Numbered {
    /// It is the next one.
    Next,
    /// It was decided before, for the same content.
    Decided(Recorded),
    /// It cannot be decided; the number is what the code's info says.
    Refused(Code, u64),
}

/// Looks up `n`, which asks for what hashes to `hash`.
pub(super) fn look_up(sends: Option<&SendsRecord>, n: u64, hash: u64) -> Numbered {
    let last = sends.map_or(0, |sends| sends.last);
    if n > last {
        return if n - last == 1 { Numbered::Next } else { Numbered::Refused(Code::MISSING, last) };
    }
    let Some(sends) = sends else { return Numbered::Refused(Code::KNOWN, 0) };
    // `latest` ends with `last`, without holes, so that the place follows from the number. Some more than are promised
    // may be there, by how they are stored; what a number gets must not depend on that.
    let back = sends.last - n + 1;
    let place = (sends.latest.len() as u64).checked_sub(back).filter(|_| back <= limit::UNANSWERED);
    match place.and_then(|place| sends.latest.get(place as usize)) {
        Some(recorded) if recorded.hash == hash => Numbered::Decided(*recorded),
        Some(_) => Numbered::Refused(Code::REUSED, 0),
        None => Numbered::Refused(Code::KNOWN, 0),
    }
}

/// What the submitter is told.
pub(super) fn outcome(n: u64, recorded: &Recorded) -> Outcome {
    Outcome { n, code: recorded.code, seq: recorded.seq, number: recorded.number, at: recorded.at }
}
