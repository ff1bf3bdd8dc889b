//! A command as a message of the stream, and the place of a message in the log.
//!
//! A message is a byte for its form, 1, and the command (`Command::encode`). Its header `Nats-Msg-Id` is the incarnation of the
//! relay that published it, a hyphen and that relay's own count, so that the stream drops what this relay publishes again.

use bytes::Bytes;
use quip_core::{Command, CommandError, command::BESIDE};

/// The form of a message, in its first byte.
pub(crate) const FORM: u8 = 1;

pub(crate) fn encode(command: &Command) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + command.weight() + BESIDE);
    bytes.push(FORM);
    command.encode_to(&mut bytes);
    bytes.into()
}

/// Why a message is not a command of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Empty,
    Form(u8),
    Command(CommandError),
}

pub(crate) fn decode(payload: &[u8]) -> Result<Command, Unreadable> {
    match payload.split_first() {
        None => Err(Unreadable::Empty),
        Some((&FORM, command)) => Command::decode(command).map_err(Unreadable::Command),
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
        let message = encode(&command);
        assert_eq!(decode(&message), Ok(command));
        assert_eq!(decode(&[]), Err(Unreadable::Empty));
        assert_eq!(decode(&[9, 1]), Err(Unreadable::Form(9)));
        assert_eq!(decode(&message[..5]), Err(Unreadable::Command(CommandError::Malformed)));
        assert_eq!(decode(&[FORM, 77]), Err(Unreadable::Command(CommandError::UnknownVersion(77))));
    }
}
