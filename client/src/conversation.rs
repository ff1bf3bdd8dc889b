//! The handles of an open conversation.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use quip_protocol::{
    Blob, ConversationId, UserId,
    conversation::{Add, Delete, Edit, Leave, Mark, Post, React, Remove, SetRole, SetTitle},
    frame::to_bytes,
    limit,
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    ConversationEvent, Cursor, InvalidContent, Opened, ReceiptError, SendError, client::Inner, kind, net::Shared, role,
};

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
pub struct Sender {
    handle: Arc<Handle>,
}

/// The events of a conversation, in order, each once.
///
/// An event counts as taken when the app asks for the next one or calls [`Events::acknowledge`]; the cursor that is kept
/// follows that. Dropping the reader acknowledges nothing: a handler that fails sees the event again. While the app takes
/// nothing, up to 256 events wait here and the relay is held back, in this conversation only; sending works all the same.
pub struct Events {
    handle: Arc<Handle>,
}

/// A command on its way.
#[must_use = "a receipt tells whether the command was accepted"]
pub struct Receipt {
    n: u64,
    fate: oneshot::Receiver<Result<Accepted, ReceiptError>>,
}

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

/// Held by both halves: the conversation closes with the last one. It keeps the client connected.
struct Handle {
    shared: Arc<Shared>,
    client: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.with_task(|core| core.release(Instant::now() + LINGER));
    }
}

impl Conversation {
    pub(crate) fn new(shared: Arc<Shared>, client: Arc<Inner>) -> Self {
        let handle = Arc::new(Handle { shared, client });
        Self { sender: Sender { handle: handle.clone() }, events: Events { handle } }
    }

    /// Which one.
    pub fn id(&self) -> ConversationId {
        self.sender.id()
    }

    /// What was found when it was opened, last time that it was.
    pub fn opened(&self) -> Opened {
        self.sender.opened()
    }

    /// The place after the event that was given last. An app that stores its own state stores this with it.
    pub fn cursor(&self) -> Cursor {
        self.events.cursor()
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<ConversationEvent> {
        self.events.next().await
    }

    /// [`Events::acknowledge`].
    pub fn acknowledge(&mut self) {
        self.events.acknowledge();
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
        self.handle.shared.with(|core| core.id())
    }

    /// What was found when it was opened, last time that it was.
    pub fn opened(&self) -> Opened {
        self.handle.shared.with(|core| core.opened().cloned()).expect("handles are given out when it was opened")
    }

    /// Sends a text.
    pub async fn send(&self, text: &str) -> Result<Receipt, SendError> {
        self.check_content(text.len())?;
        self.command(|n| to_bytes(&Post { n, kind: kind::TEXT, body: Blob(text.as_bytes()) })).await
    }

    /// Sends a text without waiting; [`SendError::Full`] while as many as allowed are unanswered.
    pub fn try_send(&self, text: &str) -> Result<Receipt, SendError> {
        self.check_content(text.len())?;
        self.try_command(|n| to_bytes(&Post { n, kind: kind::TEXT, body: Blob(text.as_bytes()) }))
    }

    /// Sends bytes that only the application understands.
    pub async fn send_data(&self, data: impl AsRef<[u8]>) -> Result<Receipt, SendError> {
        let data = data.as_ref();
        self.check_content(data.len())?;
        self.command(|n| to_bytes(&Post { n, kind: kind::DATA, body: Blob(data) })).await
    }

    /// [`Sender::send_data`] without waiting.
    pub fn try_send_data(&self, data: impl AsRef<[u8]>) -> Result<Receipt, SendError> {
        let data = data.as_ref();
        self.check_content(data.len())?;
        self.try_command(|n| to_bytes(&Post { n, kind: kind::DATA, body: Blob(data) }))
    }

    /// Gives an own text or data event new content. That of a text must be UTF-8, or the relay refuses it with
    /// `NOT_TEXT`; after 200 edits it refuses with `TOO_MANY_EDITS`.
    pub async fn edit(&self, seq: u64, content: impl AsRef<[u8]>) -> Result<Receipt, SendError> {
        let content = content.as_ref();
        self.check_content(content.len())?;
        self.command(|n| to_bytes(&Edit { n, target: seq, body: Blob(content) })).await
    }

    /// Removes the content of a message with all its edits, or of one edit.
    pub async fn delete(&self, seq: u64) -> Result<Receipt, SendError> {
        self.command(|n| to_bytes(&Delete { n, target: seq })).await
    }

    /// Adds a reaction of 1 to 32 bytes, or takes it back.
    pub async fn react(&self, seq: u64, reaction: &str, add: bool) -> Result<Receipt, SendError> {
        check_size(reaction.len(), 1, limit::REACTION)?;
        self.command(|n| to_bytes(&React { n, target: seq, add, reaction })).await
    }

    /// Ends the own membership; the conversation ends after that event.
    pub async fn leave(&self) -> Result<Receipt, SendError> {
        self.command(|n| to_bytes(&Leave { n })).await
    }

    /// Adds a user to a group, or lifts a ban.
    pub async fn add(&self, user: &str) -> Result<Receipt, SendError> {
        check_user(user)?;
        self.command(|n| to_bytes(&Add { n, user })).await
    }

    /// Removes a user, and with `ban` keeps them out until they are added again.
    pub async fn remove(&self, user: &str, ban: bool) -> Result<Receipt, SendError> {
        check_user(user)?;
        self.command(|n| to_bytes(&Remove { n, user, ban })).await
    }

    /// Changes a member's role to one of [`crate::role`].
    pub async fn set_role(&self, user: &str, role: u8) -> Result<Receipt, SendError> {
        check_user(user)?;
        if !role::is_known(role) {
            return Err(InvalidContent::Role.into());
        }
        self.command(|n| to_bytes(&SetRole { n, user, role })).await
    }

    /// Changes the title, at most 128 bytes.
    pub async fn set_title(&self, title: &str) -> Result<Receipt, SendError> {
        check_size(title.len(), 0, limit::TITLE)?;
        self.command(|n| to_bytes(&SetTitle { n, title })).await
    }

    /// Marks everything up to an event as read: its seq and message number. Marks merge to the highest, are not answered,
    /// and are sent again after a reconnect.
    pub fn mark_read(&self, seq: u64, number: u64) {
        self.handle.shared.with_task(|core| core.mark(Mark { seq, number }));
    }

    /// Sends what may be lost and is never stored, to whoever has the conversation open: kind 1 with no content = typing,
    /// from 16 on the application's own, up to 1 KiB. At most 20 a second. Nothing happens while offline.
    pub fn signal(&self, kind: u64, body: &[u8]) {
        self.handle.client.signal(self.id(), kind, body);
    }

    async fn command(&self, make: impl FnOnce(u64) -> Bytes) -> Result<Receipt, SendError> {
        let room = self.handle.shared.room.acquire().await.map_err(|_| SendError::Closed)?;
        room.forget();
        self.queue(make)
    }

    fn try_command(&self, make: impl FnOnce(u64) -> Bytes) -> Result<Receipt, SendError> {
        use tokio::sync::TryAcquireError::{Closed, NoPermits};
        let shared = &self.handle.shared;
        let room = shared.room.try_acquire().map_err(|error| match error {
            NoPermits => SendError::Full(shared.limits.unanswered as u64),
            Closed => SendError::Closed,
        })?;
        room.forget();
        self.queue(make)
    }

    /// Keeps a command and queues it; the room for it is taken.
    fn queue(&self, make: impl FnOnce(u64) -> Bytes) -> Result<Receipt, SendError> {
        let (ticket, fate) = oneshot::channel();
        let shared = &self.handle.shared;
        let queued = shared.with_task(|core| {
            let hub = shared.hub().filter(|_| !core.is_over()).ok_or(SendError::Closed)?;
            let (frame, change) = core.prepare(make);
            hub.keeper.save(&[change])?;
            Ok(core.send(frame, ticket))
        });
        match queued {
            Ok(n) => Ok(Receipt { n, fate }),
            Err(error) => {
                shared.room.add_permits(1);
                Err(error)
            }
        }
    }

    fn check_content(&self, size: usize) -> Result<(), SendError> {
        check_size(size, 1, self.handle.shared.limits.message)
    }
}

fn check_size(size: usize, least: usize, limit: usize) -> Result<(), SendError> {
    match size {
        _ if size < least => Err(InvalidContent::Empty.into()),
        _ if size > limit => Err(InvalidContent::TooLarge { size, limit }.into()),
        _ => Ok(()),
    }
}

fn check_user(user: &str) -> Result<(), SendError> {
    UserId::parse(user).map(drop).map_err(|_| InvalidContent::User.into())
}

impl Events {
    /// The next event; `None` after the last one. Cancel-safe.
    pub async fn next(&mut self) -> Option<ConversationEvent> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The place after the event that was given last. An app that stores its own state stores this with it.
    pub fn cursor(&self) -> Cursor {
        self.handle.shared.with(|core| core.given())
    }

    /// Says that the app is done with the event that it was given last, without asking for the next one.
    pub fn acknowledge(&mut self) {
        self.handle.shared.with_task(|core| core.acknowledge(Instant::now()));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<ConversationEvent>> {
        let shared = &self.handle.shared;
        let (popped, notify) = shared.with(|core| core.pop(Instant::now(), cx.waker()));
        if notify {
            shared.notify();
        }
        popped.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Stream for Events {
    type Item = ConversationEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConversationEvent>> {
        self.poll(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.handle.shared.with_task(|core| core.reader_gone());
    }
}

impl Receipt {
    /// The send number in this conversation, the same as [`crate::OwnedEvent::own`].
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Waits until the command is durable, through reconnects. Dropping the receipt changes nothing. Cancel-safe.
    ///
    /// # Errors
    /// When it was refused, or its fate is unknown.
    pub async fn accepted(self) -> Result<Accepted, ReceiptError> {
        self.fate.await.unwrap_or(Err(ReceiptError::Closed))
    }
}

/// How long a conversation without a handle waits for its answers.
const LINGER: Duration = Duration::from_secs(10);
