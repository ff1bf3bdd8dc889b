//! The handles of an open conversation.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
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
    ConversationEvent, Cursor, InvalidContent, Opened, ReceiptError, SendError, SignalError,
    inner::Inner,
    kind,
    name::ToUser,
    net::{Hub, Shared},
    role,
};

/// An open conversation: a stream of events and a sender.
///
/// Dropping it closes the conversation in this client. The user stays a member, and the next [`crate::Client::open`] resumes.
/// The stream stays open for unanswered commands for up to 10 s; they are kept in the state store.
pub struct Conversation {
    sender: Sender,
    events: Events,
}

/// A cheap handle of the sending half.
#[derive(Clone)]
pub struct Sender {
    handle: Arc<Handle>,
}

/// The events of a conversation, in order.
///
/// An event counts as taken when the app asks for the next one or calls [`Events::acknowledge`], and the stored cursor
/// follows. Dropping the reader acknowledges nothing, so that a handler that fails sees the event again. While the app takes
/// nothing, up to 256 events are buffered and then the relay is held back, in this conversation only. Sending is not affected.
pub struct Events {
    handle: Arc<Handle>,
}

/// A queued command, whose outcome can be awaited.
#[must_use = "await the receipt to learn whether the command was accepted"]
pub struct Receipt {
    n: u64,
    fate: oneshot::Receiver<Result<Accepted, ReceiptError>>,
}

/// The place of an accepted command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Seq of its event; 0 = it changed nothing that needs an event.
    pub seq: u64,
    /// That event's message number.
    pub number: u64,
    /// Time of the event, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// Shared by both halves. Dropping the last one closes the conversation; until then the client stays connected.
struct Handle {
    shared: Arc<Shared>,
    client: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.let_go() {
            self.shared.with_task(|core| core.release(Instant::now() + LINGER));
        }
    }
}

impl Conversation {
    /// A conversation that is held once, for this.
    pub(crate) fn new(shared: Arc<Shared>, client: Arc<Inner>) -> Self {
        let sender = Sender::new(shared, client);
        Self { events: Events { handle: sender.handle.clone() }, sender }
    }

    /// The id of the conversation.
    pub fn id(&self) -> ConversationId {
        self.sender.id()
    }

    /// What the relay reported at the latest (re)opening; `None` before the first, after [`crate::Client::open_now`].
    pub fn opened(&self) -> Option<Opened> {
        self.sender.opened()
    }

    /// The cursor after the last returned event, to store together with the app's own data.
    pub fn cursor(&self) -> Cursor {
        self.events.cursor()
    }

    /// Returns the next event, or `None` after the last one. Cancel safe.
    pub async fn next(&mut self) -> Option<ConversationEvent> {
        self.events.next().await
    }

    /// [`Events::try_next`].
    pub fn try_next(&mut self) -> Option<ConversationEvent> {
        self.events.try_next()
    }

    /// [`Events::is_over`].
    pub fn is_over(&self) -> bool {
        self.events.is_over()
    }

    /// [`Events::acknowledge`].
    pub fn acknowledge(&mut self) {
        self.events.acknowledge();
    }

    /// The sending half, which has all commands.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Calls [`Sender::send`].
    ///
    /// # Errors
    /// As for [`Sender::send`].
    pub async fn send(&self, text: &str) -> Result<Receipt, SendError> {
        self.sender.send(text).await
    }

    /// Splits into both halves. The conversation stays open until both are dropped; without [`Events`], events are discarded.
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

/// Every command waits while the limit of unanswered commands ([`crate::Config::outbox`], 64 by default) is reached, offline as
/// well, and resolves when the command is in the outbox: stored, and resent until it is answered. [`Sender::unanswered`] tells
/// whether the next one would wait. All have the same errors: invalid content, a closed conversation, a failed state
/// store.
#[allow(clippy::missing_errors_doc)]
impl Sender {
    /// Of a conversation that is held once more, for this.
    pub(crate) fn new(shared: Arc<Shared>, client: Arc<Inner>) -> Self {
        Self { handle: Arc::new(Handle { shared, client }) }
    }

    /// The id of the conversation.
    pub fn id(&self) -> ConversationId {
        self.handle.shared.id()
    }

    /// What the relay reported at the latest (re)opening; `None` before the first, after [`crate::Client::open_now`].
    pub fn opened(&self) -> Option<Opened> {
        self.handle.shared.with(|core| core.opened().cloned())
    }

    /// Number of unanswered commands of this conversation.
    pub fn unanswered(&self) -> usize {
        self.handle.shared.with(|core| core.unanswered())
    }

    /// Sends a text.
    pub async fn send(&self, text: &str) -> Result<Receipt, SendError> {
        self.check_content(text.len())?;
        self.command(|n| to_bytes(&Post { n, kind: kind::TEXT, body: Blob(text.as_bytes()) })).await
    }

    /// Sends a text without waiting; fails with [`SendError::Full`] at the limit of unanswered commands.
    pub fn try_send(&self, text: &str) -> Result<Receipt, SendError> {
        self.check_content(text.len())?;
        self.try_command(|n| to_bytes(&Post { n, kind: kind::TEXT, body: Blob(text.as_bytes()) }))
    }

    /// Sends application data.
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

    /// Replaces the content of an own text or data event. New content of a text must be UTF-8, or the relay refuses it with
    /// `NOT_TEXT`. After 200 edits the relay refuses with `TOO_MANY_EDITS`. An edit to what the message says already
    /// makes no event ([`Accepted::seq`] is 0).
    pub async fn edit(&self, seq: u64, content: impl AsRef<[u8]>) -> Result<Receipt, SendError> {
        let content = content.as_ref();
        self.check_content(content.len())?;
        self.command(|n| to_bytes(&Edit { n, target: seq, body: Blob(content) })).await
    }

    /// Deletes the content of a message and all its edits, or of one edit. Own ones need not be visible.
    pub async fn delete(&self, seq: u64) -> Result<Receipt, SendError> {
        self.command(|n| to_bytes(&Delete { n, target: seq })).await
    }

    /// Adds or removes a reaction of 1 to 32 bytes. Adding one that is there makes no event, nor does
    /// removing one that is not.
    pub async fn react(&self, seq: u64, reaction: &str, add: bool) -> Result<Receipt, SendError> {
        check_size(reaction.len(), 1, limit::REACTION)?;
        self.command(|n| to_bytes(&React { n, target: seq, add, reaction })).await
    }

    /// Leaves the conversation, which ends after that event. The last owner makes another member owner first
    /// ([`quip_protocol::Code::LAST_OWNER`]).
    pub async fn leave(&self) -> Result<Receipt, SendError> {
        self.command(|n| to_bytes(&Leave { n })).await
    }

    /// Adds a user to a group, or lifts a ban.
    pub async fn add(&self, user: &(impl ToUser + ?Sized)) -> Result<Receipt, SendError> {
        let user = named(user)?;
        self.command(|n| to_bytes(&Add { n, user: user.as_str() })).await
    }

    /// Removes a user; with `ban`, also bans the user until added again.
    pub async fn remove(&self, user: &(impl ToUser + ?Sized), ban: bool) -> Result<Receipt, SendError> {
        let user = named(user)?;
        self.command(|n| to_bytes(&Remove { n, user: user.as_str(), ban })).await
    }

    /// Changes a member's role to one of [`crate::role`].
    pub async fn set_role(&self, user: &(impl ToUser + ?Sized), role: u8) -> Result<Receipt, SendError> {
        let user = named(user)?;
        if !role::is_known(role) {
            return Err(InvalidContent::Role.into());
        }
        self.command(|n| to_bytes(&SetRole { n, user: user.as_str(), role })).await
    }

    /// Changes the title, at most 128 bytes.
    pub async fn set_title(&self, title: &str) -> Result<Receipt, SendError> {
        check_size(title.len(), 0, limit::TITLE)?;
        self.command(|n| to_bytes(&SetTitle { n, title })).await
    }

    /// Marks everything up to an event, given by seq and message number, as read. Marks merge to the highest, are not answered,
    /// and are resent after a reconnect. A mark beyond the newest known event means that event.
    pub fn mark_read(&self, seq: u64, number: u64) {
        self.handle.shared.with_task(|core| core.mark(Mark { seq, number }));
    }

    /// Marks everything as read, up to the newest event that is known.
    pub fn mark_all_read(&self) {
        self.handle.shared.with_task(|core| core.mark_all());
    }

    /// Sends a signal, which may be lost and is never stored, to all who have the conversation open. Kind 1 without content =
    /// typing; 16 and above are for applications, with up to 1 KiB. 18 may be sent at once, and 20 in a second; a relay may be
    /// configured to pass on fewer, over all connections of the user. In a room it needs the grant to post.
    ///
    /// # Errors
    /// If it is not sent: offline, not open at the relay, too large, or too fast.
    pub fn signal(&self, kind: u64, body: &[u8]) -> Result<(), SignalError> {
        self.handle.client.signal(self.id(), kind, body)
    }

    /// Tells those who have the conversation open that this user is typing. To be called with every key: it sends at most one
    /// signal in 3 s, and a reader shows it for a little longer than that. Does nothing while that is not possible.
    pub fn typing(&self) {
        self.handle.shared.typing(Instant::now(), || self.signal(SIGNAL_TYPING, &[]).is_ok());
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
            NoPermits => SendError::Full(self.handle.client.outbox as u64),
            Closed => SendError::Closed,
        })?;
        room.forget();
        self.queue(make)
    }

    /// Stores a command and queues it. The caller holds a permit of `room`.
    fn queue(&self, make: impl FnOnce(u64) -> Bytes) -> Result<Receipt, SendError> {
        let (ticket, fate) = oneshot::channel();
        let shared = &self.handle.shared;
        let queued = shared.with_task(|core| {
            let usable = |hub: &Arc<Hub>| !core.is_over() && !hub.keeper.is_closed();
            let hub = shared.hub().filter(usable).ok_or(SendError::Closed)?;
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
        check_size(size, 1, self.handle.client.hub.message_limit())
    }
}

fn check_size(size: usize, least: usize, limit: usize) -> Result<(), SendError> {
    match size {
        _ if size < least => Err(InvalidContent::Empty.into()),
        _ if size > limit => Err(InvalidContent::TooLarge { size, limit }.into()),
        _ => Ok(()),
    }
}

fn named(user: &(impl ToUser + ?Sized)) -> Result<UserId, SendError> {
    user.to_user().map_err(|error| InvalidContent::Name(error).into())
}

impl Events {
    /// Returns the next event, or `None` after the last one. Cancel safe.
    pub async fn next(&mut self) -> Option<ConversationEvent> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Returns the next event if there is one, without waiting: for an app that looks once in a frame. [`Self::is_over`] tells
    /// whether there may be more.
    pub fn try_next(&mut self) -> Option<ConversationEvent> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    /// Whether no more events come: the last one was [`ConversationEvent::Ended`], or the client is closed, and
    /// [`crate::Client::state`] says why.
    pub fn is_over(&self) -> bool {
        self.handle.shared.with(|core| core.is_read_to_its_end())
    }

    /// The cursor after the last returned event, to store together with the app's own data.
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
    /// The send number in this conversation, equal to [`crate::OwnedEvent::own`].
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Whether the command is durable by now; `None` while there is no answer.
    ///
    /// # Errors
    /// As for [`Self::accepted`].
    pub fn try_accepted(&mut self) -> Option<Result<Accepted, ReceiptError>> {
        match self.fate.try_recv() {
            Ok(fate) => Some(fate),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(ReceiptError::Closed)),
        }
    }

    /// Waits until the command is durable, through reconnects. Dropping the receipt does not cancel the command.
    ///
    /// # Errors
    /// If the command was refused, or its outcome is unknown.
    pub async fn accepted(self) -> Result<Accepted, ReceiptError> {
        self.fate.await.unwrap_or(Err(ReceiptError::Closed))
    }
}

/// The kind of a typing notice.
const SIGNAL_TYPING: u64 = 1;
/// How long a conversation without a handle waits for answers.
const LINGER: Duration = Duration::from_secs(10);
