//! A command as a message of the stream, and the place of a message in the log.
//!
//! A message is a byte for its form, 2, the time at which it was sent (u64, little-endian) and the command
//! (`Command::encode`). Its header `Nats-Msg-Id` is the incarnation of the relay that published it, a hyphen and that relay's
//! own count, so that the stream drops what this relay publishes again. When a server keeps an id in process, the message is
//! published with a full stop and a number behind it.

use bytes::Bytes;
use quip_core::{Command, CommandError, Timestamp, command::BESIDE};
use quip_order::JUMP;

/// The form of a message, in its first byte.
pub(crate) const FORM: u8 = 2;

pub(crate) fn encode(command: &Command, sent: Timestamp) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + 8 + command.weight() + BESIDE);
    bytes.push(FORM);
    bytes.extend_from_slice(&sent.to_le_bytes());
    command.encode_to(&mut bytes);
    bytes.into()
}

/// The id of the message with this count. `renewed` counts how often it was replaced.
pub(crate) fn id(incarnation: &str, count: u64, renewed: u32) -> String {
    match renewed {
        0 => format!("{incarnation}{count}"),
        _ => format!("{incarnation}{count}.{renewed}"),
    }
}

/// The count in an id of this incarnation.
pub(crate) fn count(id: &str, incarnation: &str) -> Option<u64> {
    let count = id.strip_prefix(incarnation)?;
    count.split_once('.').map_or(count, |(count, _)| count).parse().ok()
}

/// When a command was ordered. All relays compute the same time, and no server whose clock is ahead gives a command a time that is
/// far from the one at which it was sent.
pub(crate) fn ordered_at(published: Timestamp, sent: Timestamp) -> Timestamp {
    published.min(sent.saturating_add(JUMP.as_millis() as u64))
}

/// Why a message is not a command of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Empty,
    Form(u8),
    Command(CommandError),
}

/// A command, and when it was sent.
pub(crate) fn decode(payload: &[u8]) -> Result<(Timestamp, Command), Unreadable> {
    match payload.split_first() {
        None => Err(Unreadable::Empty),
        Some((&FORM, rest)) => {
            let (sent, command) = rest.split_first_chunk().ok_or(Unreadable::Command(CommandError::Malformed))?;
            let command = Command::decode(command).map_err(Unreadable::Command)?;
            Ok((u64::from_le_bytes(*sent), command))
        }
        Some((&form, _)) => Err(Unreadable::Form(form)),
    }
}

/// How far a consumer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The last message of the stream that was taken.
    pub(crate) position: u64,
    /// How many messages this consumer has brought.
    delivered: u64,
}

/// What a message is to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one.
    Next,
    /// It was taken before.
    Again,
    /// The consumer lost some on the way: read on from the same place with another one.
    Lost,
    /// The stream itself has a hole.
    Gap,
}

impl Place {
    /// A new consumer behind a position.
    pub(crate) fn after(position: u64) -> Self {
        Self { position, delivered: 0 }
    }

    /// Takes a message, by its number in the stream and its number among those that this consumer brought.
    pub(crate) fn take(&mut self, sequence: u64, delivery: u64) -> Arrival {
        if delivery != self.delivered + 1 {
            return Arrival::Lost;
        }
        self.delivered = delivery;
        match sequence {
            _ if sequence <= self.position => Arrival::Again,
            _ if sequence == self.position + 1 => {
                self.position = sequence;
                Arrival::Next
            }
            _ => Arrival::Gap,
        }
    }
}

#[cfg(test)]
mod tests {
    use quip_protocol::UserId;

    use super::*;

    #[test]
    fn takes_what_is_next_drops_what_it_has_and_notices_holes() {
        let mut place = Place::after(7);
        assert_eq!(place.take(6, 1), Arrival::Again);
        assert_eq!(place.take(7, 2), Arrival::Again);
        assert_eq!(place.take(8, 3), Arrival::Next);
        assert_eq!(place.take(9, 4), Arrival::Next);
        assert_eq!(place.take(8, 5), Arrival::Again);
        assert_eq!(place.take(11, 6), Arrival::Gap);
        assert_eq!(place.position, 9, "nothing was skipped");
    }

    #[test]
    fn a_hole_in_the_deliveries_is_no_hole_in_the_stream() {
        let mut place = Place::after(7);
        assert_eq!(place.take(8, 1), Arrival::Next);
        assert_eq!(place.take(10, 3), Arrival::Lost);
        assert_eq!(place.take(8, 1), Arrival::Lost);
        let mut place = Place::after(place.position);
        assert_eq!(place.take(9, 1), Arrival::Next);
    }

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let command = Command::seen(UserId::parse("ann").unwrap(), 5);
        let message = encode(&command, 0x0102);
        assert_eq!(message[..9], [2, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&message), Ok((0x0102, command)));
        assert_eq!(decode(&[]), Err(Unreadable::Empty));
        assert_eq!(decode(&[9, 1]), Err(Unreadable::Form(9)));
        assert_eq!(decode(&message[..5]), Err(Unreadable::Command(CommandError::Malformed)));
        assert_eq!(decode(&message[..15]), Err(Unreadable::Command(CommandError::Malformed)));
        let other = [&message[..9], &[77]].concat();
        assert_eq!(decode(&other), Err(Unreadable::Command(CommandError::UnknownVersion(77))));
    }

    #[test]
    fn ids_have_the_count_of_their_incarnation() {
        assert_eq!((id("a-", 7, 0), id("a-", 7, 2)), ("a-7".to_owned(), "a-7.2".to_owned()));
        assert_eq!(
            ["a-7", "a-7.2", "b-7", "a-", "a-x.1"].map(|id| count(id, "a-")),
            [Some(7), Some(7), None, None, None]
        );
    }

    #[test]
    fn a_server_whose_clock_is_ahead_is_not_believed() {
        let sent = 1_800_000_000_000;
        for (published, at) in [(sent - 5, sent - 5), (sent + 7, sent + 7), (u64::MAX, sent + 60_000)] {
            assert_eq!(ordered_at(published, sent), at);
        }
    }
}
