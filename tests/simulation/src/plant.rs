//! Faults that are planted on purpose, to see that the checker finds them.

use crate::check::Promise;

/// A fault of the product that a run pretends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// An app is not given an event.
    EventLost,
    /// An app is given an event twice.
    EventRepeated,
    /// An app is given two events in the wrong order.
    EventsSwapped,
    /// An app is given an event that its user may not see.
    EventLeaked,
    /// The log loses what it had called durable.
    AckBeforeDurability,
    /// A command is refused for good without a reason.
    FinalCode,
    /// An app gets the presence of a stranger.
    PresenceLeaked,
    /// An app gets a notification of a conversation that its user is not in.
    NotificationLeaked,
    /// The library keeps a cursor behind an event that the app never handled.
    UnhandledAcknowledged,
    /// An app gets a skip over an event that is still kept.
    SkippedKept,
    /// An app is not told that the log is another one.
    ResetLost,
    /// A client does not renew its token.
    TokenNotRenewed,
    /// A relay serves a client whose token has expired.
    TokenOutlived,
    /// A client takes someone else for the relay.
    Fooled,
    /// A relay believes its wall clock whatever it says.
    ClockBelieved,
}

impl Plant {
    /// Every fault.
    pub const ALL: [Self; 15] = [
        Self::EventLost,
        Self::EventRepeated,
        Self::EventsSwapped,
        Self::EventLeaked,
        Self::AckBeforeDurability,
        Self::FinalCode,
        Self::PresenceLeaked,
        Self::NotificationLeaked,
        Self::UnhandledAcknowledged,
        Self::SkippedKept,
        Self::ResetLost,
        Self::TokenNotRenewed,
        Self::TokenOutlived,
        Self::Fooled,
        Self::ClockBelieved,
    ];

    /// The promise that it breaks.
    pub fn breaks(self) -> Promise {
        match self {
            Self::EventLost | Self::EventRepeated | Self::EventsSwapped => Promise::OnceInOrder,
            Self::SkippedKept | Self::ResetLost => Promise::OnceInOrder,
            Self::EventLeaked | Self::PresenceLeaked | Self::NotificationLeaked => Promise::Private,
            Self::TokenOutlived | Self::Fooled => Promise::Private,
            Self::TokenNotRenewed => Promise::Settles,
            Self::AckBeforeDurability => Promise::Durable,
            Self::FinalCode => Promise::Fate,
            Self::ClockBelieved => Promise::Time,
            Self::UnhandledAcknowledged => Promise::Acknowledged,
        }
    }
}
