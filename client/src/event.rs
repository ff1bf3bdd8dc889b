//! Events for the app.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::Stream;
use quip_protocol::{Blob, Code, ConversationId, Event, UserId, event::kind, session as wire};

use crate::{Accepted, ClosedReason, ConnectionLost, ReceiptError, TokenError};

/// One event of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedEvent {
    /// Sequence number in the conversation, dense from 1.
    pub seq: u64,
    /// Message number: how many messages there are up to and including this event, deleted ones too.
    pub number: u64,
    /// Time of ordering, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The author.
    pub user: UserId,
    /// One of [`crate::kind`], or an unknown kind.
    pub kind: u64,
    /// The content as on the wire; [`Self::content`] decodes it.
    pub body: Bytes,
    /// For a command of this device, if known: its send number, equal to [`crate::Receipt::n`].
    pub own: Option<u64>,
}

impl OwnedEvent {
    /// `None` if the author is not a user id.
    pub(crate) fn copy(event: &Event<'_>) -> Option<Self> {
        let Event { seq, number, at, user, kind, body } = *event;
        let (user, body) = (UserId::parse(user).ok()?, Bytes::copy_from_slice(body.0));
        Some(Self { seq, number, at, user, kind, body, own: None })
    }

    /// Tells this event from another one in its place in another copy of the log.
    pub(crate) fn digest(&self) -> [u8; 4] {
        let Self { seq, number, at, ref user, kind, .. } = *self;
        Event { seq, number, at, user: user.as_str(), kind, body: Blob(&[]) }.digest()
    }

    /// The text of a text event.
    pub fn text(&self) -> Option<&str> {
        (self.kind == kind::TEXT).then(|| std::str::from_utf8(&self.body).ok()).flatten()
    }

    /// Decodes the content; `None` if it is another one.
    pub(crate) fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Option<T> {
        postcard::from_bytes(&self.body).ok()
    }
}

/// An item of an open conversation, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConversationEvent {
    /// An event, including those of this user, in order of seq. One that was not acknowledged comes again after a restart.
    Event(OwnedEvent),
    /// Events up to and including `to` are not delivered.
    Skipped {
        /// The last skipped seq.
        to: u64,
        /// Why.
        why: SkipReason,
    },
    /// The event that was the newest when the conversation was (re)opened has been delivered.
    CaughtUp,
    /// The conversation is open again after a disconnect. Nothing was missed.
    Reconnected,
    /// The log was restored from a backup: discard every event from `first` on; the events that follow replace them.
    Reset {
        /// Generation of the new log.
        generation: u64,
        /// Seq of the next event.
        first: u64,
    },
    /// The last item: membership ended ([`Code::ENDED`]), or the relay closed the conversation.
    Ended(Code),
}

/// Why events are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// No longer stored.
    Trimmed,
    /// Not visible to this user: from when they were not a member.
    NotVisible,
    /// Another reason.
    Other(u8),
}

/// The state of the connection. While there is no connection, what is sent waits in the outbox and requests fail with
/// [`crate::RequestError::Offline`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionState {
    /// There is no connection.
    Connecting {
        /// The attempt since there was a connection, from 1.
        attempt: u32,
        /// Why the connection was lost or the last attempt failed; `None` before the first attempt of all.
        cause: Option<ConnectionLost>,
        /// When the attempt begins; `None` once it has begun.
        retry_at: Option<Instant>,
    },
    /// Connected, and the relay answers.
    Online {
        /// The relay's name.
        relay: String,
    },
    /// Connected, but the relay does not answer. It is said within two keepalives, and within 2 s of sending something. After
    /// 5 s the client tries to make another connection.
    Unresponsive {
        /// The relay's name.
        relay: String,
        /// Since when, to a second.
        since: Instant,
    },
    /// Connected, but the source of tokens fails. The client asks it again every 2 s.
    TokenFailing {
        /// The relay's name.
        relay: String,
        /// What the source said last.
        error: TokenError,
        /// When the relay closes the connection if there is no new token by then.
        ends: Instant,
    },
    /// Closed for good.
    Closed(ClosedReason),
}

impl ConnectionState {
    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Online { .. } | Self::Unresponsive { .. } | Self::TokenFailing { .. })
    }
}

/// An event outside of open conversations.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The presence of a user changed. Sent for open direct conversations and small open groups.
    Presence(Presence),
    /// A conversation that is not open has a new message, perhaps one of this user's other devices, or the user's membership began
    /// or ended. It has what a notification shows. Relays gather the messages of a group for a second and send none for rooms.
    Changed {
        /// The conversation.
        conversation: ConversationId,
        /// Seq of the event that this is about: the newest message, or the beginning or the end of the membership; 0 = no event.
        head: u64,
        /// That event's message number; 0 = no event.
        number: u64,
        /// The user's role; 0 = not a member.
        role: u8,
        /// Room name, group title, or the other user of a direct conversation.
        name: String,
        /// The event's kind: one of [`crate::kind`], or an unknown kind. `TOMBSTONE` if it was deleted meanwhile; 0 = no event.
        kind: u64,
        /// The event's author, who may be this user; `None` without an event.
        user: Option<UserId>,
        /// The first bytes of a text message as it was posted, at most 128 and no part of a character. Empty for other kinds, for a
        /// message that was deleted meanwhile, and when the relay is under load.
        preview: String,
        /// Time of ordering, in milliseconds since the Unix epoch; 0 = no event.
        at: u64,
    },
    /// The read mark of this user moved, or they said something elsewhere in a conversation that is not open here.
    Marked {
        /// The conversation.
        conversation: ConversationId,
        /// Seq of the last read event.
        seq: u64,
        /// How many messages are not unread: what [`crate::Entry`] has as `read_number`.
        number: u64,
    },
    /// A typing notice or another signal from a member of an open conversation. Signals may be lost.
    Signal {
        /// The conversation.
        conversation: ConversationId,
        /// The sender.
        user: UserId,
        /// 1 = typing; 16 and above are for applications.
        kind: u64,
        /// The application's content.
        body: Bytes,
    },
    /// What became of a command that an earlier run of the app left in the state store. It comes while the conversation is
    /// being opened, so subscribe before [`crate::Client::open`].
    Restored {
        /// The conversation.
        conversation: ConversationId,
        /// The command's send number.
        n: u64,
        /// Its place, or why it has none.
        fate: Result<Accepted, ReceiptError>,
    },
    /// The relay's log ends before what this device has of a conversation: the relay lags behind others, or its data was copied
    /// back from a backup. The client keeps its place and tries again. Sent once until the conversation is open again.
    Behind {
        /// The conversation.
        conversation: ConversationId,
        /// Seq of the newest event that the relay has.
        head: u64,
    },
    /// A notice for the user or a log.
    Notice {
        /// The subject.
        code: Code,
        /// The text.
        text: String,
    },
    /// Connected again, or for the first time after [`crate::Client::start`]. Earlier events, above all presence, may be out of
    /// date.
    Reconnected {
        /// The relay's name.
        relay: String,
    },
    /// This many events were dropped because the app did not take them.
    Missed(u64),
}

/// The presence of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The user.
    pub user: UserId,
    /// The state.
    pub state: PresenceState,
    /// When the user was last active, in milliseconds since the Unix epoch.
    pub last_seen: Option<u64>,
}

impl Presence {
    /// `None` if it is not of a user id.
    pub(crate) fn read(found: &wire::Presence<'_>) -> Option<Self> {
        let state = match found.state {
            wire::presence::OFFLINE => PresenceState::Offline,
            wire::presence::ONLINE => PresenceState::Online,
            _ => PresenceState::Unreachable,
        };
        let last_seen = (found.last_seen != 0).then_some(found.last_seen);
        Some(Self { user: UserId::parse(found.user).ok()?, state, last_seen })
    }
}

/// The states of [`Presence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceState {
    /// No connection.
    Offline,
    /// Connected, but silent.
    Unreachable,
    /// Connected and active.
    Online,
}

/// The events of a client since the call of [`crate::Client::events`]. Ends when the client closes.
pub struct ClientEvents {
    pub(crate) inbox: tokio::sync::mpsc::Receiver<ClientEvent>,
}

impl ClientEvents {
    /// Returns the next event, or `None` when the client is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        self.inbox.recv().await
    }

    /// Returns the next event if there is one, without waiting.
    pub fn try_next(&mut self) -> Option<ClientEvent> {
        self.inbox.try_recv().ok()
    }
}

impl Stream for ClientEvents {
    type Item = ClientEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        self.inbox.poll_recv(cx)
    }
}
