//! The handle of a connection.

use quip_protocol::{ConversationId, DeviceId, UserId};
use tokio::sync::watch;

use crate::{
    ClientEvents, Config, ConnectError, ConnectionState, Conversation, Entry, History, HistoryQuery, Member, OpenError,
    OpenOptions, Page, Presence, RequestError, Target,
};

/// A connection that is kept up, as a cheap handle.
///
/// Conversations keep the connection alive as well; it closes when the last [`Client`], [`Conversation`],
/// [`crate::Sender`] and [`crate::Events`] are dropped.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// Connects; resolves when a relay has accepted the token. Must be called on a tokio runtime, which then runs the connection.
    ///
    /// # Errors
    /// When no relay is reached in time ([`Config::connect_timeout`]), or one refuses for good.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let _ = config;
        unimplemented!()
    }

    /// The user whom the token names.
    pub fn user(&self) -> &UserId {
        unimplemented!()
    }

    /// This device.
    pub fn device(&self) -> DeviceId {
        unimplemented!()
    }

    /// How the connection stands, now and later.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        unimplemented!()
    }

    /// What happens outside of open conversations, from now on. Subscribe first and ask ([`Client::list`]) then, so that
    /// nothing falls in between. Every call gives a stream of its own; one that is not read keeps the oldest 1,024 events and
    /// then tells how many were missed.
    pub fn events(&self) -> ClientEvents {
        unimplemented!()
    }

    /// Opens a conversation; resolves when the relay has opened it, and, with `join`, this user is a member.
    ///
    /// # Errors
    /// When the relay refuses, there is no answer in time ([`Config::answer_timeout`]), or it is open already.
    pub async fn open(&self, target: Target, options: OpenOptions) -> Result<Conversation, OpenError> {
        let _ = (target, options);
        unimplemented!()
    }

    /// A page of the user's conversations in order of id, from the start or after `after`.
    ///
    /// # Errors
    /// When the relay refuses or there is no answer.
    pub async fn list(&self, after: Option<ConversationId>, limit: u64) -> Result<Page<Entry>, RequestError> {
        let _ = (after, limit);
        unimplemented!()
    }

    /// A page of a conversation's events. It need not be open.
    ///
    /// # Errors
    /// When the relay refuses or there is no answer.
    pub async fn history(&self, conversation: ConversationId, query: HistoryQuery) -> Result<History, RequestError> {
        let _ = (conversation, query);
        unimplemented!()
    }

    /// A page of a conversation's members in order of user id, from the start or after `after`.
    ///
    /// # Errors
    /// When the relay refuses or there is no answer.
    pub async fn members(
        &self,
        conversation: ConversationId,
        after: Option<&UserId>,
        limit: u64,
    ) -> Result<Page<Member>, RequestError> {
        let _ = (conversation, after, limit);
        unimplemented!()
    }

    /// A page of the presence of a conversation's members in order of user id, from the start or after `after`.
    ///
    /// # Errors
    /// When the relay refuses or there is no answer.
    pub async fn presence_in(
        &self,
        conversation: ConversationId,
        after: Option<&UserId>,
        limit: u64,
    ) -> Result<Page<Presence>, RequestError> {
        let _ = (conversation, after, limit);
        unimplemented!()
    }

    /// The network changed (another Wi-Fi, say): uses a new socket, and the connection goes on from there.
    pub fn network_changed(&self) {
        unimplemented!()
    }

    /// Says goodbye to the relay and closes, for all handles. What is unanswered stays in the state store.
    pub async fn close(&self) {
        unimplemented!()
    }
}
