//! Pages of events.

use std::ops::RangeInclusive;

use quip_protocol::ConversationId;
use quip_store::{Direction, EventPage, PageLimit, ReadError, View};

/// The oldest events of a range, at most about `bytes` of them.
pub(super) fn forward(
    view: &View,
    id: ConversationId,
    seqs: RangeInclusive<u64>,
    bytes: usize,
) -> Result<EventPage, ReadError> {
    whole(view, id, seqs, Direction::Forward, PageLimit { bytes, events: usize::MAX })
}

/// A page that begins where it was asked to, or behind what was trimmed.
pub(super) fn whole(
    view: &View,
    id: ConversationId,
    seqs: RangeInclusive<u64>,
    direction: Direction,
    limit: PageLimit,
) -> Result<EventPage, ReadError> {
    let page = view.page(id, seqs.clone(), direction, limit)?;
    let missing = match direction {
        _ if page.count == 0 => *seqs.end(),
        Direction::Forward => page.first - 1,
        Direction::Backward if page.last < *seqs.end() => *seqs.end(),
        Direction::Backward => return Ok(page),
    };
    // A trim is recorded before its bytes go.
    let absent = seqs.contains(&missing) && view.conversation(id)?.is_none_or(|row| missing >= row.first_kept);
    if absent {
        let why = format!("event {missing} of conversation {id} is missing");
        return Err(ReadError::Damaged { kind: "events", key: id.to_string(), why });
    }
    Ok(page)
}
