//! A conversation: its shared state, and the task that runs it over the current connection.

use std::{
    future::Future,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use quinn::{ReadError, RecvStream, WriteError};
use quip_protocol::{Code, ConversationId, cost};
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Broken, Hub, Limits, Link, LinkState, Order, allowance::Share, backoff::Backoff, buffer::Buffer, dial::CHUNK,
    links::Follower, outgoing::Outgoing,
};
use crate::{
    ClientEvent, ClosedReason, OpenError, Platform,
    core::{Core, Next},
    lock::lock,
};

/// The state shared by the handles and the task of a conversation.
pub(crate) struct Shared {
    id: ConversationId,
    core: Mutex<Core>,
    /// How many handles the app has.
    holders: Mutex<usize>,
    /// When a typing notice was sent last.
    typed: Mutex<Option<Instant>>,
    /// Wakes the task after a change.
    wake: Notify,
    /// Permits for further unanswered commands.
    pub(crate) room: Semaphore,
    hub: Weak<Hub>,
    /// Whether the task has ended.
    gone: watch::Sender<bool>,
}

/// Why driving a stream ended.
enum Exit {
    /// The connection was lost or replaced.
    Lost,
    /// Reopen after this pause.
    Again(Duration),
    /// Reopen, on another relay if possible.
    Elsewhere,
    /// The conversation is over.
    Over,
}

impl Shared {
    /// A conversation that is held once, to be passed to [`run`], in which the app may have this many unanswered commands.
    pub(crate) fn new(core: Core, outbox: usize, hub: &Arc<Hub>) -> Arc<Self> {
        let room = Semaphore::new(outbox.saturating_sub(core.unanswered()));
        let (id, core, wake, gone) = (core.id(), Mutex::new(core), Notify::new(), watch::Sender::new(false));
        let (holders, typed) = (Mutex::new(1), Mutex::default());
        let shared = Self { id, core, holders, typed, wake, room, hub: Arc::downgrade(hub), gone };
        // A join is saved before anything behind it.
        shared.with(|_| ());
        Arc::new(shared)
    }

    pub(crate) fn id(&self) -> ConversationId {
        self.id
    }

    /// Adds a handle, unless the last one is gone.
    pub(crate) fn hold(&self) -> bool {
        let mut holders = lock(&self.holders);
        *holders += usize::from(*holders > 0);
        *holders > 0
    }

    /// A handle is dropped. Returns whether it was the last one.
    pub(crate) fn let_go(&self) -> bool {
        let mut holders = lock(&self.holders);
        *holders -= 1;
        *holders == 0
    }

    /// Sends a typing notice if the last one was sent some time ago.
    pub(crate) fn typing(&self, now: Instant, send: impl FnOnce() -> bool) {
        let mut typed = lock(&self.typed);
        if typed.is_none_or(|last| now.duration_since(last) >= TYPING) && send() {
            *typed = Some(now);
        }
    }

    /// Calls the core and saves its changes before anyone can act on them.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = lock(&self.core);
        let result = act(&mut core);
        let (changes, settled) = core.take_effects();
        let restored = core.take_restored();
        if let (false, Some(hub)) = (changes.is_empty(), self.hub.upgrade()) {
            hub.keeper.save_or_warn(&changes);
        }
        drop(core);
        if settled > 0 {
            self.room.add_permits(settled);
        }
        if let (false, Some(hub)) = (restored.is_empty(), self.hub.upgrade()) {
            let told = |(n, fate)| hub.tell(&ClientEvent::Restored { conversation: self.id, n, fate });
            restored.into_iter().for_each(told);
        }
        result
    }

    /// As [`Self::with`], and wakes the task.
    pub(crate) fn with_task<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let result = self.with(act);
        self.wake.notify_one();
        result
    }

    /// Wakes the task.
    pub(crate) fn notify(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn hub(&self) -> Option<Arc<Hub>> {
        self.hub.upgrade()
    }

    /// The client is closed.
    pub(super) fn close(&self, reason: ClosedReason) {
        self.with_task(|core| core.close(OpenError::Closed(reason)));
    }

    /// Whether no handle is left.
    pub(super) fn is_released(&self) -> bool {
        self.with(|core| core.is_released())
    }

    /// Ends the conversation if it has no handle left, to make way for a new one.
    pub(crate) async fn make_way(&self) -> Result<(), OpenError> {
        match self.in_the_way() {
            OpenError::Closing => self.gone().await,
            error => return Err(error),
        }
        Ok(())
    }

    /// Why another one cannot be opened. One that has no handle left ends without waiting for answers.
    pub(crate) fn in_the_way(&self) -> OpenError {
        if !self.is_released() {
            return OpenError::AlreadyOpen;
        }
        self.with_task(|core| core.release(Instant::now()));
        OpenError::Closing
    }

    /// Waits until the task has ended.
    pub(crate) async fn gone(&self) {
        // The sender is in `self`, so that waiting cannot fail.
        self.gone.subscribe().wait_for(|gone| *gone).await.ok();
    }
}

/// Runs a conversation until it is over.
pub(crate) async fn run(shared: Arc<Shared>, hub: Arc<Hub>, orders: mpsc::WeakUnboundedSender<Order>) {
    let mut links = hub.links.follow();
    let mut backoff = Backoff::default();
    while let Some(link) = next_link(&shared, &mut links).await {
        let begun = Instant::now();
        let exit = drive(&shared, &link, &mut links, &hub.platform).await;
        // A relay that lags behind answers late, and opens nothing.
        let was_open = shared.with(|core| core.has_opened());
        shared.with(Core::disconnected);
        if was_open && begun.elapsed() > STABLE {
            backoff.reset();
        }
        match exit {
            Exit::Over => break,
            Exit::Lost => {}
            Exit::Again(pause) => wait(&shared, &link, sleep(pause)).await,
            Exit::Elsewhere => {
                if let Some(orders) = orders.upgrade() {
                    orders.send(Order::Elsewhere(link.connection.stable_id())).ok();
                }
                wait(&shared, &link, sleep(backoff.pause(hub.platform.random_share()))).await;
            }
        }
    }
    shared.room.close();
    // Only then may another handle take over the cursor.
    while !shared.is_released() {
        shared.wake.notified().await;
    }
    hub.unregister(shared.id());
    shared.gone.send_replace(true);
}

/// Waits for a connection; `None` if the conversation is over.
async fn next_link(shared: &Shared, links: &mut Follower) -> Option<Arc<Link>> {
    loop {
        let state = links.latest();
        match state {
            LinkState::Up(link) if link.connection.close_reason().is_none() => return usable(shared).then_some(link),
            LinkState::Up(_) | LinkState::Down => match attend(shared, links.changed()).await {
                Some(()) => {}
                None => return None,
            },
            LinkState::Closed(reason) => shared.close(reason),
        }
        if !usable(shared) {
            return None;
        }
    }
}

fn usable(shared: &Shared) -> bool {
    shared.with(|core| core.poll(Instant::now(), true)) != Next::Over
}

/// Waits for `until`, or for the end of the connection.
async fn wait<T>(shared: &Shared, link: &Link, until: impl Future<Output = T>) {
    let until = async {
        tokio::select! {
            biased;
            _ = until => {}
            _ = link.connection.closed() => {}
        }
    };
    attend(shared, until).await;
}

/// Waits for `until` without a stream, and polls the core meanwhile; `None` if the conversation is over.
async fn attend<T>(shared: &Shared, until: impl Future<Output = T>) -> Option<T> {
    let mut until = std::pin::pin!(until);
    loop {
        let (next, timer) = shared.with(|core| (core.poll(Instant::now(), true), core.timer()));
        if next == Next::Over {
            return None;
        }
        tokio::select! {
            biased;
            result = &mut until => return Some(result),
            () = shared.wake.notified() => {}
            () = at(timer) => {}
        }
    }
}

/// Drives one stream on one connection.
async fn drive(shared: &Shared, link: &Link, links: &mut Follower, platform: &Arc<dyn Platform>) -> Exit {
    let cost = cost::OPEN + if shared.with(|core| core.will_join()) { cost::COMMAND } else { 0 };
    let opening = async {
        tokio::select! {
            biased;
            () = links.changed() => None,
            opened = async { link.allowance.turn(cost).await; link.connection.open_bi().await } => opened.ok(),
        }
    };
    let (send, recv) = match attend(shared, opening).await {
        None => return Exit::Over,
        Some(None) => return Exit::Lost,
        Some(Some(streams)) => streams,
    };
    // Its number is also a channel that no other stream of the connection has; the session stream has 0.
    let channel = send.id().into();
    let named = Named::new(shared, link, channel);
    let Limits { generation, unanswered, .. } = link.limits;
    shared.with(|core| core.connected(generation, unanswered, channel, platform.random()));
    let mut stream = Stream {
        recv,
        buffer: Buffer::default(),
        out: Outgoing::new(send),
        share: Share::new(&link.allowance),
        state: State::Open,
        read_all: false,
    };
    let exit = match stream.run(shared, links).await {
        Ok(exit) => exit,
        Err(Failed::Lost) => Exit::Lost,
        Err(Failed::Broken(broken)) => {
            link.close_broken(&broken);
            Exit::Lost
        }
    };
    drop(named);
    if let (Some(head), Some(hub)) = (shared.with(Core::take_behind), shared.hub()) {
        let conversation = shared.id();
        tracing::warn!(%conversation, head, "the relay's log ends before the cursor; was its data copied back from a backup?");
        hub.tell(&ClientEvent::Behind { conversation, head });
    }
    if matches!(exit, Exit::Over) {
        stream.leave().await;
    }
    exit
}

struct Stream<'a> {
    recv: RecvStream,
    buffer: Buffer,
    /// Bytes being written.
    out: Outgoing,
    /// What it may send.
    share: Share<'a>,
    state: State,
    /// The relay has finished or reset its side.
    read_all: bool,
}

/// The own side of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// To be finished once everything is written.
    Finishing,
    /// Finished, or stopped by the relay.
    Closed,
}

enum Failed {
    Lost,
    Broken(Broken),
}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Stream<'_> {
    async fn run(&mut self, shared: &Shared, links: &mut Follower) -> Result<Exit, Failed> {
        loop {
            let (timer, wants_read) = match self.turn(shared)? {
                Turn::Exit(exit) => return Ok(exit),
                Turn::Wait { timer, wants_read } => (timer, wants_read),
            };
            // Read and write concurrently, so that neither blocks the other. The order is fixed, so that a run in a simulation
            // can be repeated; every turn does what the timer and the wake ask for. The share goes first, since others wait for
            // what it is given.
            tokio::select! {
                biased;
                () = links.changed() => return Ok(Exit::Lost),
                () = self.share.wait() => {}
                written = self.out.write(), if !self.out.is_empty() => self.on_written(written)?,
                chunk = self.recv.read_chunk(CHUNK, true), if wants_read && !self.read_all => self.on_read(shared, chunk)?,
                () = shared.wake.notified() => {}
                () = at(timer) => {}
            }
        }
    }

    /// Polls the core and takes pending frames.
    fn turn(&mut self, shared: &Shared) -> Result<Turn, Failed> {
        let now = Instant::now();
        let turn = shared.with(|core| {
            self.decode(core, now)?;
            let next = core.poll(now, self.out.is_empty());
            self.share.unanswered(core.unanswered_bytes());
            core.write(now, |cost, size| self.share.permit(cost, size, now));
            if self.state == State::Closed {
                core.take_out();
            } else if self.out.is_empty() && core.has_out() {
                self.out.put(core.take_out().into());
            }
            Ok::<_, Failed>((next, core.timer(), core.wants_read()))
        });
        let (next, timer, wants_read) = turn?;
        match next {
            Next::Go => {}
            Next::Finish => self.state = State::Finishing,
            Next::Again(pause) => return Ok(Turn::Exit(Exit::Again(pause))),
            Next::Elsewhere => return Ok(Turn::Exit(Exit::Elsewhere)),
            Next::Over => return Ok(Turn::Exit(Exit::Over)),
        }
        if self.state == State::Finishing && self.out.is_empty() {
            self.out.end();
            self.state = State::Closed;
        }
        Ok(Turn::Wait { timer, wants_read })
    }

    /// Passes buffered frames to the core, while it wants them.
    fn decode(&mut self, core: &mut Core, now: Instant) -> Result<(), Failed> {
        if !core.wants_read() {
            return Ok(());
        }
        self.buffer.drain(|frame| {
            core.frame(&frame, now).map_err(Broken::from)?;
            Ok::<_, Failed>(core.wants_read())
        })
    }

    fn on_read(&mut self, shared: &Shared, read: Result<Option<quinn::Chunk>, ReadError>) -> Result<(), Failed> {
        match read {
            Ok(Some(chunk)) => self.buffer.push(chunk.bytes),
            Ok(None) => {
                self.read_all = true;
                shared.with(Core::finished).map_err(Broken::from)?;
                if self.buffer.is_partial() {
                    return Err(Broken::unexpected("a stream was finished inside a frame").into());
                }
            }
            Err(ReadError::Reset(code)) => {
                self.read_all = true;
                shared.with(|core| core.reset(Code(code.into_inner()), Instant::now()));
            }
            Err(_) => return Err(Failed::Lost),
        }
        Ok(())
    }

    fn on_written(&mut self, written: Result<(), WriteError>) -> Result<(), Failed> {
        match written {
            Ok(()) => {}
            // The relay ended the stream; the reason follows on the receiving side.
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                self.out.stopped();
                self.state = State::Closed;
            }
            Err(_) => return Err(Failed::Lost),
        }
        Ok(())
    }

    /// Ends the stream cleanly, so that the conversation can be reopened at once.
    async fn leave(mut self) {
        // Others wait behind it.
        drop(self.share);
        self.out.end();
        let read = async { while let Ok(Some(_)) = self.recv.read_chunk(usize::MAX, true).await {} };
        timeout(GOODBYE, read).await.ok();
    }
}

enum Turn {
    Exit(Exit),
    Wait { timer: Option<Instant>, wants_read: bool },
}

/// Registers the stream for signals, until dropped.
struct Named<'a> {
    link: &'a Link,
    channel: u64,
}

impl<'a> Named<'a> {
    fn new(shared: &Shared, link: &'a Link, channel: u64) -> Self {
        link.name(channel, Some(shared.id()));
        Self { link, channel }
    }
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        self.link.name(self.channel, None);
    }
}

async fn at(timer: Option<Instant>) {
    match timer {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The least time between two typing notices.
const TYPING: Duration = Duration::from_secs(3);
/// A stream that was open, and lived this long, resets the backoff.
const STABLE: Duration = Duration::from_secs(2);
/// How long to wait for the relay at the end of a stream.
const GOODBYE: Duration = Duration::from_secs(1);
