//! The handle of a client.

use std::sync::Arc;

use quip_protocol::{
    Blob, ConversationId, DeviceId, ToClient, UserId,
    frame::{Message, to_datagram},
    request as wire,
    session::Signal,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{
    Change, ClientEvents, ClosedReason, Config, ConnectError, ConnectionState, Conversation, Entry, History,
    HistoryQuery, Member, OpenError, OpenOptions, OwnedEvent, Page, Presence, RequestError, Target,
    config::Timing,
    core::{Core, Setup},
    keeper::Keeper,
    net::{self, Base, Dialer, Driver, Hub, LinkState, Order, Shared},
};

/// A cheap handle of a connection that reconnects by itself.
///
/// Conversations keep the connection alive too: it closes when the last [`Client`], [`Conversation`], [`crate::Sender`] and
/// [`crate::Events`] are dropped.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// What all handles share.
pub(crate) struct Inner {
    user: UserId,
    device: DeviceId,
    timing: Timing,
    state: watch::Receiver<ConnectionState>,
    hub: Arc<Hub>,
    /// The connection's task ends when the last sender is dropped.
    orders: mpsc::UnboundedSender<Order>,
}

/// A conversation whose task runs, and what becomes of its opening.
type Begun = (Arc<Shared>, oneshot::Receiver<Result<(), OpenError>>);

impl Client {
    /// Connects. Resolves when a relay has accepted the token. Must be called on a tokio runtime, which runs the connection.
    ///
    /// # Errors
    /// If no relay can be reached in time ([`Config::connect_timeout`]), or one refuses for good.
    pub async fn connect(mut config: Config) -> Result<Self, ConnectError> {
        let store = std::mem::replace(&mut config.store, Box::new(crate::MemoryStore::default()));
        let keeper = Keeper::load(store)?;
        let kept = keeper.identity();
        let device = kept.as_ref().map_or_else(|| DeviceId(config.platform.random()), |(_, device)| *device);
        let mut dialer = Dialer::new(&config, device)?;
        let session = Driver::first(&mut dialer, config.timing.connect).await?;
        let user = session.greeting.user.clone();
        match kept {
            Some((owner, _)) if owner != user => {
                return Err(ConnectError::OtherUser { stored: owner.to_string(), token: user.to_string() });
            }
            Some(_) => {}
            None => keeper.save(&[Change::Identity(user.clone(), device)])?,
        }
        let platform = config.platform.clone();
        let hub = Arc::new(Hub::new(keeper, session.link.clone(), platform.clone()));
        let (state, watched) = watch::channel(ConnectionState::Online { relay: session.greeting.relay.clone() });
        let (orders, inbox) = mpsc::unbounded_channel();
        let base = Base { hub: hub.clone(), dialer, orders: inbox, user: user.clone() };
        platform.spawn(Driver { base, state, haunted: false }.run(session));
        Ok(Self { inner: Arc::new(Inner { user, device, timing: config.timing, state: watched, hub, orders }) })
    }

    /// The user named in the token.
    pub fn user(&self) -> &UserId {
        &self.inner.user
    }

    /// The device id.
    pub fn device(&self) -> DeviceId {
        self.inner.device
    }

    /// The state of the connection, to read or watch.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state.clone()
    }

    /// Subscribes to events outside of open conversations. To miss nothing, subscribe before calling [`Client::list`]. Every
    /// call returns a stream of its own. A stream that is not read keeps the oldest 1,024 events, drops further ones, and
    /// reports how many were dropped.
    pub fn events(&self) -> ClientEvents {
        ClientEvents { inbox: self.inner.hub.subscribe() }
    }

    /// Opens a conversation. Resolves when the relay has opened it and, with `join`, this user is a member.
    ///
    /// # Errors
    /// If the relay refuses, does not answer in time ([`Config::answer_timeout`]), or the conversation is already open.
    pub async fn open(&self, target: Target, options: OpenOptions) -> Result<Conversation, OpenError> {
        let limit = self.inner.timing.answer;
        let deadline = Instant::now() + limit;
        let begun = timeout_at(deadline, self.begin(target, options, deadline)).await;
        let (shared, opened) = begun.unwrap_or(Err(OpenError::Timeout(limit)))?;
        // From here on dropping the handle ends the task, also if this future is cancelled.
        let conversation = Conversation::new(shared.clone(), self.inner.clone());
        match timeout_at(deadline, opened).await {
            Ok(Ok(result)) => result.map(|()| conversation),
            Ok(Err(_)) => Err(OpenError::Closed(ClosedReason::ByApp)),
            Err(_) => Err(shared.with(|core| core.refusal()).unwrap_or(OpenError::Timeout(limit))),
        }
    }

    /// Starts the task of a conversation.
    async fn begin(&self, target: Target, options: OpenOptions, deadline: Instant) -> Result<Begun, OpenError> {
        let hub = &self.inner.hub;
        // What the relay allows is known once there is a connection.
        let limits = hub.links.link().await?.limits;
        let id = target.conversation(&self.inner.user);
        loop {
            let (opening, opened) = oneshot::channel();
            let (me, target) = (self.inner.user.clone(), target.clone());
            let made = hub.register(id, || {
                let saved = hub.keeper.conversation(id);
                let room = limits.unanswered;
                Shared::new(Core::new(Setup { me, target, options, saved, room, opening, deadline }), limits, hub)
            });
            match made {
                Ok(shared) => {
                    hub.platform.spawn(net::run(shared.clone(), hub.clone(), self.inner.orders.downgrade()));
                    return Ok((shared, opened));
                }
                Err(present) => present.make_way().await?,
            }
        }
    }

    /// Fetches a page of the user's conversations in order of id, from the start or after `after`.
    ///
    /// # Errors
    /// If the relay refuses or does not answer in time.
    pub async fn list(&self, after: Option<ConversationId>, limit: u64) -> Result<Page<Entry>, RequestError> {
        let request = wire::List { after: after.unwrap_or(ConversationId([0; 16])), limit };
        self.page(&request, |frame| match frame {
            ToClient::Entry(entry) => Some(Entry::read(&entry)),
            _ => None,
        })
        .await
    }

    /// Fetches a page of a conversation's events. The conversation need not be open.
    ///
    /// # Errors
    /// If the relay refuses or does not answer in time.
    pub async fn history(&self, conversation: ConversationId, query: HistoryQuery) -> Result<History, RequestError> {
        let HistoryQuery { forward, from, limit } = query;
        let mut head = None;
        let page = self
            .page(&wire::History { conversation, forward, from, limit }, |frame| match frame {
                ToClient::Page(page) => {
                    head = Some(page);
                    Some(None)
                }
                ToClient::Event(event) => OwnedEvent::copy(&event).map(Some),
                _ => None,
            })
            .await?;
        let head = head.unwrap_or(wire::Page { generation: 0, first: 0, head: 0, count: 0 });
        Ok(History {
            generation: head.generation,
            first: head.first,
            head: head.head,
            events: page.items.into_iter().flatten().collect(),
            more: page.more,
        })
    }

    /// Fetches a page of a conversation's members in order of user id, from the start or after `after`.
    ///
    /// # Errors
    /// If the relay refuses or does not answer in time.
    pub async fn members(
        &self,
        conversation: ConversationId,
        after: Option<&UserId>,
        limit: u64,
    ) -> Result<Page<Member>, RequestError> {
        let after = after.map_or("", UserId::as_str);
        self.page(&wire::Members { conversation, after, limit }, |frame| match frame {
            ToClient::Member(member) => Member::read(&member),
            _ => None,
        })
        .await
    }

    /// Fetches a page of the presence of a conversation's members in order of user id, from the start or after `after`.
    ///
    /// # Errors
    /// If the relay refuses or does not answer in time.
    pub async fn presence_in(
        &self,
        conversation: ConversationId,
        after: Option<&UserId>,
        limit: u64,
    ) -> Result<Page<Presence>, RequestError> {
        let after = after.map_or("", UserId::as_str);
        self.page(&wire::PresenceIn { conversation, after, limit }, |frame| match frame {
            ToClient::Presence(presence) => Presence::read(&presence),
            _ => None,
        })
        .await
    }

    async fn page<T, M: Message>(
        &self,
        request: &M,
        mut read: impl FnMut(ToClient<'_>) -> Option<T>,
    ) -> Result<Page<T>, RequestError> {
        let mut items = Vec::new();
        let each = |frame: ToClient<'_>| read(frame).map(|item| items.push(item));
        let more = net::ask(&self.inner.hub, self.inner.timing.answer, request, each).await?;
        Ok(Page { items, more })
    }

    /// Moves the connection to a new socket, after a change of network.
    pub fn network_changed(&self) {
        self.inner.orders.send(Order::Rebind).ok();
    }

    /// Closes the client, for all handles. Dropped conversations get up to 10 s for outstanding answers; unanswered commands of
    /// others stay in the state store.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.inner.orders.send(Order::Close(done)).is_ok() {
            closed.await.ok();
        }
    }
}

impl Inner {
    /// Sends a signal to all who have the conversation open, if there is a connection.
    pub(crate) fn signal(&self, id: ConversationId, kind: u64, body: &[u8]) {
        let LinkState::Up(link) = self.hub.links.now() else { return };
        if let Some(channel) = link.channel(id) {
            let signal = Signal { channel, user: "", kind, body: Blob(body) };
            link.connection.send_datagram(to_datagram(&signal)).ok();
        }
    }
}
