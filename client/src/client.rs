//! The handle of a client.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use quip_protocol::{ConversationId, DeviceId, ToClient, UserId, frame::Message, request as wire};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{
    Change, ClientEvents, ClosedReason, Config, ConnectError, ConnectionState, Conversation, Entry, History,
    HistoryQuery, Member, OpenError, OpenOptions, OwnedEvent, Page, Presence, RequestError, Sender, Target,
    core::{Core, Setup},
    inner::Inner,
    keeper::Keeper,
    net::{self, Base, Dialer, Driver, Hub, LinkState, Order, Session, Shared},
};

/// A cheap handle of a connection that reconnects by itself.
///
/// Conversations keep the connection alive too: it closes when the last [`Client`], [`Conversation`], [`crate::Sender`] and
/// [`crate::Events`] are dropped.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// A client without a connection yet.
struct Begun {
    config: Config,
    runtime: Handle,
    keeper: Keeper,
    kept: Option<(UserId, DeviceId)>,
    dialer: Dialer,
    device: DeviceId,
}

impl Begun {
    fn new(mut config: Config) -> Result<Self, ConnectError> {
        config.check()?;
        let runtime = Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        let store = std::mem::replace(&mut config.store, Box::new(crate::MemoryStore::default()));
        let keeper = Keeper::load(store)?;
        let kept = keeper.identity();
        if let (Some((stored, _)), Some(configured)) = (&kept, &config.user)
            && stored != configured
        {
            let (stored, configured) = (stored.to_string(), configured.to_string());
            return Err(ConnectError::OtherStore { stored, configured });
        }
        let device = kept.as_ref().map_or_else(|| DeviceId(config.platform.random()), |(_, device)| *device);
        let dialer = Dialer::new(&config, device)?;
        Ok(Self { config, runtime, keeper, kept, dialer, device })
    }

    /// Runs the client of this user, on its first connection if there is one.
    fn run(self, user: UserId, first: Option<Session>) -> Result<Client, ConnectError> {
        let Self { config, runtime, keeper, kept, dialer, device } = self;
        match kept.as_ref().map(|(owner, _)| owner).or(config.user.as_ref()) {
            Some(owner) if *owner != user => {
                return Err(ConnectError::OtherUser { client: owner.to_string(), token: user.to_string() });
            }
            _ if kept.is_none() => keeper.save(&[Change::Identity(user.clone(), device)])?,
            _ => {}
        }
        let (link, state) = match &first {
            Some(Session { link, greeting, .. }) => {
                (LinkState::Up(link.clone()), ConnectionState::Online { relay: greeting.relay.clone() })
            }
            None => (LinkState::Down, ConnectionState::Connecting { attempt: 1, cause: None, retry_at: None }),
        };
        let hub = Arc::new(Hub::new(keeper, link, config.platform.clone()));
        let (state, watched) = watch::channel(state);
        let (orders, inbox) = mpsc::unbounded_channel();
        let base = Base { hub: hub.clone(), dialer, orders: inbox, user: user.clone(), state };
        config.platform.spawn(Driver::new(base).run(first));
        let answer = config.timing.answer;
        let inner = Inner { user, device, answer, outbox: config.outbox, state: watched, hub, orders, runtime };
        Ok(Client { inner: Arc::new(inner) })
    }
}

impl Client {
    /// Connects. Resolves when a relay has accepted the token. Must be called on a tokio runtime, which runs the connection.
    ///
    /// # Errors
    /// If no relay can be reached in time ([`Config::connect_timeout`]), or one refuses for good.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let mut begun = Begun::new(config)?;
        let session = Driver::first(&mut begun.dialer, begun.config.timing.connect).await?;
        begun.run(session.greeting.user.clone(), Some(session))
    }

    /// Starts without waiting for a connection, and connects in the background for as long as it takes: [`Self::state`] shows how
    /// it goes. Conversations can be opened with [`Self::open_now`], and what is sent waits in the outbox. Must be called on a
    /// tokio runtime, which runs the connection.
    ///
    /// ```no_run
    /// # use quip_client::{Client, Config, ConnectError, FileStore, OpenOptions, Target, Trust};
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::new(["chat.example.org:4433"], Trust::Fingerprint([0; 32]), "alice")
    ///     .user("alice")?
    ///     .state(FileStore::open("alice.state")?);
    /// let client = Client::start(config)?;
    /// let room = client.open_now(Target::room("lobby:main")?, OpenOptions::join())?;
    /// let receipt = room.send("sent as soon as there is a connection").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the configuration or the state store is invalid, or the user is not known: name it with [`Config::user`] or use a
    /// store of an earlier run.
    pub fn start(config: Config) -> Result<Self, ConnectError> {
        let begun = Begun::new(config)?;
        let stored = begun.kept.as_ref().map(|(user, _)| user.clone());
        let user = begun.config.user.clone().or(stored).ok_or(ConnectError::NoUser)?;
        begun.run(user, None)
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
        let limit = self.inner.answer;
        let deadline = Instant::now() + limit;
        let opening = async {
            let (told, opened) = oneshot::channel();
            let mut told = Some(told);
            let shared = loop {
                match self.begin(target.clone(), options, deadline, &mut told) {
                    Ok(shared) => break shared,
                    Err(present) => timeout_at(deadline, present.make_way()).await.unwrap_or(Err(timed_out(limit)))?,
                }
            };
            // From here on dropping the handle ends the task, also if this future is cancelled.
            let conversation = Conversation::new(shared.clone(), self.inner.clone());
            match timeout_at(deadline, opened).await {
                Ok(Ok(result)) => result.map(|()| conversation),
                Ok(Err(_)) => Err(OpenError::Closed(ClosedReason::ByApp)),
                Err(_) => Err(shared.with(|core| core.refusal()).unwrap_or(timed_out(limit))),
            }
        };
        within(&self.inner.runtime, opening).await
    }

    /// Opens a conversation without waiting: it can be used at once, also offline. What is sent waits in the outbox, behind the
    /// join. [`Conversation::opened`] has nothing until the relay has opened it; the first event then follows, or
    /// [`crate::ConversationEvent::CaughtUp`]. If the relay refuses, the conversation ends with its code, and what was sent is
    /// refused with the same.
    ///
    /// # Errors
    /// If the client is closed, or the conversation is already open, or was dropped a moment ago and is still being closed
    /// ([`OpenError::Closing`]).
    pub fn open_now(&self, target: Target, options: OpenOptions) -> Result<Conversation, OpenError> {
        if let LinkState::Closed(reason) = self.inner.hub.links.now() {
            return Err(reason.into());
        }
        let shared = self.begin(target, options, Instant::now(), &mut None).map_err(|present| present.in_the_way())?;
        Ok(Conversation::new(shared, self.inner.clone()))
    }

    /// The sender of a conversation that is open in this client.
    pub fn conversation(&self, id: ConversationId) -> Option<Sender> {
        let shared = self.inner.hub.conversation(id).filter(|shared| shared.hold())?;
        Some(Sender::new(shared, self.inner.clone()))
    }

    /// Starts the task of a conversation. `opening` is taken if the app waits for it until the deadline.
    ///
    /// # Errors
    /// The conversation that is registered already.
    fn begin(
        &self,
        target: Target,
        options: OpenOptions,
        deadline: Instant,
        opening: &mut Option<oneshot::Sender<Result<(), OpenError>>>,
    ) -> Result<Arc<Shared>, Arc<Shared>> {
        let (hub, me, room) = (&self.inner.hub, self.inner.user.clone(), self.inner.outbox);
        let id = target.conversation(&me);
        let shared = hub.register(id, || {
            let (saved, opening) = (hub.keeper.conversation(id), opening.take());
            Shared::new(Core::new(Setup { me, target, options, saved, room, opening, deadline }), room, hub)
        })?;
        let _inside = self.inner.runtime.enter();
        hub.platform.spawn(net::run(shared.clone(), hub.clone(), self.inner.orders.downgrade()));
        Ok(shared)
    }

    /// Fetches a page of the user's conversations in order of id, from the start or after `after`.
    ///
    /// # Errors
    /// If there is no connection, the relay refuses, or it does not answer in time.
    pub async fn list(&self, after: Option<ConversationId>, limit: u64) -> Result<Page<Entry>, RequestError> {
        let request = wire::List { after: after.unwrap_or(ConversationId([0; 16])), limit };
        self.page(&request, |frame| match frame {
            ToClient::Entry(entry) => Some(Entry::read(&entry)),
            _ => None,
        })
        .await
    }

    /// Fetches the entry of one conversation in the list; `None` if it is not there.
    ///
    /// # Errors
    /// If there is no connection, the relay refuses, or it does not answer in time.
    pub async fn entry(&self, id: ConversationId) -> Result<Option<Entry>, RequestError> {
        // Pages begin after an id.
        let before = ConversationId(u128::from_be_bytes(id.0).saturating_sub(1).to_be_bytes());
        let page = self.list(Some(before), 1).await?;
        Ok(page.items.into_iter().find(|entry| entry.conversation == id))
    }

    /// Fetches a page of a conversation's events. The conversation need not be open.
    ///
    /// # Errors
    /// If there is no connection, the relay refuses, or it does not answer in time.
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
    /// If there is no connection, the relay refuses, or it does not answer in time.
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
    /// If there is no connection, the relay refuses, or it does not answer in time.
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
        let asking = net::ask(&self.inner.hub, self.inner.answer, request, each);
        let more = within(&self.inner.runtime, asking).await?;
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

fn timed_out(limit: Duration) -> OpenError {
    OpenError::Timeout(limit)
}

/// Runs a future in the client's runtime, on whatever thread it is polled.
async fn within<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _inside = runtime.enter();
        future.as_mut().poll(cx)
    })
    .await
}
