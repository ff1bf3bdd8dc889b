//! What the app is told.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use quip_protocol::{Code, ConversationId, Event, UserId, event::kind, session as wire};

use crate::ClosedReason;

/// One event of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedEvent {
    /// Place in the conversation, dense from 1.
    pub seq: u64,
    /// Message number: how many events that count as unread there are up to and including this one.
    pub number: u64,
    /// When it was ordered, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Who did it.
    pub user: UserId,
    /// One of [`crate::kind`]; an unknown one is passed on as it is.
    pub kind: u64,
    /// The content: raw for text and data, otherwise one of [`crate::body`], see [`Self::read`].
    pub body: Bytes,
    /// For a command of this device, as far as known: its send number, the same as [`crate::Receipt::n`].
    pub own: Option<u64>,
}

impl OwnedEvent {
    /// `None` when it is by what is not a user.
    pub(crate) fn copy(event: &Event<'_>) -> Option<Self> {
        let Event { seq, number, at, user, kind, body } = *event;
        let (user, body) = (UserId::parse(user).ok()?, Bytes::copy_from_slice(body.0));
        Some(Self { seq, number, at, user, kind, body, own: None })
    }

    /// The text of a text event.
    pub fn text(&self) -> Option<&str> {
        (self.kind == kind::TEXT).then(|| std::str::from_utf8(&self.body).ok()).flatten()
    }

    /// The content, read as one of [`crate::body`]; `None` when it is not that one.
    pub fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Option<T> {
        postcard::from_bytes(&self.body).ok()
    }
}

/// What happens in an open conversation, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConversationEvent {
    /// An event. Every one comes once, in order of seq, one's own among them.
    Event(OwnedEvent),
    /// Nothing up to and including `to` will come.
    Skipped {
        /// The last seq that is left out.
        to: u64,
        /// Why.
        why: SkipReason,
    },
    /// What was the newest event when the conversation was opened (again) has been delivered.
    CaughtUp,
    /// The conversation is open again after a lost connection; nothing was missed.
    Reconnected,
    /// The log was restored from a backup and is another one now: forget every event at and above `first`, and take what
    /// follows instead.
    Reset {
        /// Identity of the new log.
        generation: u64,
        /// Seq of the next event to come.
        first: u64,
    },
    /// The last one: membership ended ([`Code::ENDED`]), or the conversation may not be open any more.
    Ended(Code),
}

/// Why events are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// No longer kept.
    Trimmed,
    /// Not for this user: from before joining.
    NotVisible,
    /// Another reason.
    Other(u8),
}

/// How the connection stands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Trying.
    Connecting {
        /// Counts from 1 since the connection was lost.
        attempt: u32,
    },
    /// Connected.
    Online {
        /// The relay's name.
        relay: String,
    },
    /// Over for good.
    Closed(ClosedReason),
}

/// What happens outside of open conversations.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientEvent {
    /// How reachable a user is now. The relay tells it for direct conversations and small groups that are open.
    Presence(Presence),
    /// A conversation that is not open has something new, or membership in it changed.
    Changed {
        /// Which.
        conversation: ConversationId,
        /// Its newest event.
        head: u64,
        /// That event's message number.
        number: u64,
        /// The user's role; 0 = no longer a member.
        role: u8,
    },
    /// Another device of this user moved the read mark.
    Marked {
        /// Where.
        conversation: ConversationId,
        /// Read up to this event.
        seq: u64,
        /// Its message number.
        number: u64,
    },
    /// A typing notice or another signal of a member of an open conversation. Signals may be lost.
    Signal {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// 1 = typing, from 16 on the application's own.
        kind: u64,
        /// The application's content.
        body: Bytes,
    },
    /// Something for a person or a log.
    Notice {
        /// What it is about.
        code: Code,
        /// The text.
        text: String,
    },
    /// Connected again. What was told before, presence above all, is no longer known.
    Reconnected {
        /// The relay's name.
        relay: String,
    },
    /// So many events were left out, because the app did not take them.
    Missed(u64),
}

/// How reachable a user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The user.
    pub user: UserId,
    /// How.
    pub state: PresenceState,
    /// When the user was last heard, in milliseconds since the Unix epoch.
    pub last_seen: Option<u64>,
}

impl Presence {
    /// `None` for what is not a user.
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

/// States of [`Presence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceState {
    /// No connection.
    Offline,
    /// Connected, and not heard for a while.
    Unreachable,
    /// Connected and heard.
    Online,
}

/// The events of a client, from when [`crate::Client::events`] was called. Ends when the client is closed.
pub struct ClientEvents {
    pub(crate) inbox: tokio::sync::mpsc::Receiver<ClientEvent>,
}

impl ClientEvents {
    /// The next event; `None` when the client is closed.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        self.inbox.recv().await
    }
}

impl Stream for ClientEvents {
    type Item = ClientEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        self.inbox.poll_recv(cx)
    }
}
