//! The handles of an open conversation.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use quip_protocol::ConversationId;

use crate::{ConversationEvent, Cursor, Opened, ReceiptError, SendError};

/// An open conversation: a stream of events, and a place to send to.
///
/// Dropping it closes the conversation here and changes nothing for the user: membership goes on, and the next
/// [`crate::Client::open`] resumes. What is unanswered then is still waited for, up to 10 s, and kept in the state store.
pub struct Conversation {
    sender: Sender,
    events: Events,
}

/// The sending half, as a cheap handle.
#[derive(Clone)]
pub struct Sender {}

/// The events of a conversation, in order, each once.
///
/// An event counts as taken when the app asks for the next one; the cursor that is kept follows that. While the app takes
/// nothing, up to 256 events wait here and the relay is held back, in this conversation only; sending works all the same.
pub struct Events {}

/// A command on its way.
#[must_use = "a receipt tells whether the command was accepted"]
pub struct Receipt {}

/// Where an accepted command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The event that it became; 0 when it changed nothing that needs one.
    pub seq: u64,
    /// That event's message number.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

impl Conversation {
    /// Which one.
    pub fn id(&self) -> ConversationId {
        self.sender.id()
    }

    /// What was found when it was opened, last time that it was.
    pub fn opened(&self) -> Opened {
        self.sender.opened()
    }

    /// The last event that was taken. An app that stores its own state stores this with it.
    pub fn cursor(&self) -> Cursor {
        self.events.cursor()
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<ConversationEvent> {
        self.events.next().await
    }

    /// The sending half; every command is there.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// [`Sender::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, text: &str) -> Result<Receipt, SendError> {
        self.sender.send(text).await
    }

    /// Both halves apart. The conversation stays open until both are dropped; events that nobody can take are let go.
    pub fn split(self) -> (Sender, Events) {
        (self.sender, self.events)
    }
}

impl Stream for Conversation {
    type Item = ConversationEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConversationEvent>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

/// Every command waits while as many as allowed (64) are unanswered, and resolves when the command is in the outbox: kept, and
/// sent until there is an answer. The errors are the same for all: content that can never be accepted, a closed
/// conversation, a state store that fails.
#[allow(clippy::missing_errors_doc)]
impl Sender {
    /// Which conversation.
    pub fn id(&self) -> ConversationId {
        unimplemented!()
    }

    /// What was found when it was opened, last time that it was.
    pub fn opened(&self) -> Opened {
        unimplemented!()
    }

    /// Sends a text.
    pub async fn send(&self, text: &str) -> Result<Receipt, SendError> {
        let _ = text;
        unimplemented!()
    }

    /// Sends a text without waiting; [`SendError::Full`] while as many as allowed are unanswered.
    pub fn try_send(&self, text: &str) -> Result<Receipt, SendError> {
        let _ = text;
        unimplemented!()
    }

    /// Sends bytes that only the application understands.
    pub async fn send_data(&self, data: impl Into<Bytes>) -> Result<Receipt, SendError> {
        let _ = data.into();
        unimplemented!()
    }

    /// [`Sender::send_data`] without waiting.
    pub fn try_send_data(&self, data: impl Into<Bytes>) -> Result<Receipt, SendError> {
        let _ = data.into();
        unimplemented!()
    }

    /// Gives an own text or data event new content.
    pub async fn edit(&self, seq: u64, content: impl Into<Bytes>) -> Result<Receipt, SendError> {
        let _ = (seq, content.into());
        unimplemented!()
    }

    /// Removes the content of an event.
    pub async fn delete(&self, seq: u64) -> Result<Receipt, SendError> {
        let _ = seq;
        unimplemented!()
    }

    /// Adds a reaction of 1 to 32 bytes, or takes it back.
    pub async fn react(&self, seq: u64, reaction: &str, add: bool) -> Result<Receipt, SendError> {
        let _ = (seq, reaction, add);
        unimplemented!()
    }

    /// Ends the own membership; the conversation ends after that event.
    pub async fn leave(&self) -> Result<Receipt, SendError> {
        unimplemented!()
    }

    /// Adds a user to a group, or lifts a ban.
    pub async fn add(&self, user: &str) -> Result<Receipt, SendError> {
        let _ = user;
        unimplemented!()
    }

    /// Removes a user, and with `ban` keeps them out until they are added again.
    pub async fn remove(&self, user: &str, ban: bool) -> Result<Receipt, SendError> {
        let _ = (user, ban);
        unimplemented!()
    }

    /// Changes a member's role to one of [`crate::role`].
    pub async fn set_role(&self, user: &str, role: u8) -> Result<Receipt, SendError> {
        let _ = (user, role);
        unimplemented!()
    }

    /// Changes the title, at most 128 bytes.
    pub async fn set_title(&self, title: &str) -> Result<Receipt, SendError> {
        let _ = title;
        unimplemented!()
    }

    /// Marks everything up to an event as read: its seq and message number. Marks merge to the highest, are not answered,
    /// and are sent again after a reconnect.
    pub fn mark_read(&self, seq: u64, number: u64) {
        let _ = (seq, number);
        unimplemented!()
    }

    /// Sends what may be lost and is never stored, to whoever has the conversation open: kind 1 with no content = typing,
    /// from 16 on the application's own, up to 1 KiB. At most 20 a second. Nothing happens while offline.
    pub fn signal(&self, kind: u64, body: &[u8]) {
        let _ = (kind, body);
        unimplemented!()
    }
}

impl Events {
    /// The next event; `None` after the last one. Cancel-safe.
    pub async fn next(&mut self) -> Option<ConversationEvent> {
        unimplemented!()
    }

    /// The last event that was taken.
    pub fn cursor(&self) -> Cursor {
        unimplemented!()
    }
}

impl Stream for Events {
    type Item = ConversationEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConversationEvent>> {
        let _ = cx;
        unimplemented!()
    }
}

impl Receipt {
    /// The send number in this conversation, the same as [`crate::OwnedEvent::own`].
    pub fn n(&self) -> u64 {
        unimplemented!()
    }

    /// Waits until the command is durable, through reconnects. Dropping the receipt changes nothing. Cancel-safe.
    ///
    /// # Errors
    /// When it was refused, or its fate is unknown.
    pub async fn accepted(self) -> Result<Accepted, ReceiptError> {
        unimplemented!()
    }
}
