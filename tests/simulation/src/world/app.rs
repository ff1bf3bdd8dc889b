//! An app on a device: it connects, opens conversations, and does what its user might do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quip_client::{Client, ClientEvent, ConnectionState, Conversation, Cursor, OpenError, Sender, TokenError, Trust};
use quip_protocol::ConversationId;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    impostor,
    place::{Place, options},
    reader::Reader,
    shared::Process,
};
use crate::{history::App as Entry, plant::Plant};

/// An app while it is connected.
pub(super) struct App {
    pub(super) process: Arc<Process>,
    pub(super) client: Client,
    pub(super) open: BTreeMap<ConversationId, Open>,
    /// Counts what the app composed.
    pub(super) composed: u64,
}

/// A conversation that the app has open.
pub(super) struct Open {
    pub(super) sender: Sender,
    /// Lets the events go. `None` when they are let go.
    stop: Option<watch::Sender<bool>>,
    /// True when the conversation ended.
    ended: watch::Receiver<bool>,
}

/// Runs an app until its process dies.
pub(super) async fn run(process: Arc<Process>) {
    process.note(Entry::Started);
    // How quickly one thing follows the other, in milliseconds.
    let pace = [100, 500, 2000][process.host.draw(3) as usize];
    loop {
        let client = connect(&process).await;
        let mut app = App { process: process.clone(), client, open: BTreeMap::new(), composed: 0 };
        app.watch();
        app.arrive().await;
        while !process.shared.is_calm() {
            let pause = Duration::from_millis(process.host.draw(pace));
            sleep(pause).await;
            if process.host.draw(150) == 0 {
                break;
            }
            app.act().await;
            app.forget_ended();
        }
        if process.shared.is_calm() {
            app.settle().await;
        }
        app.open.clear();
        app.client.close().await;
        sleep(Duration::from_millis(process.host.draw(3000))).await;
    }
}

async fn connect(process: &Arc<Process>) -> Client {
    loop {
        let Process { device, host, disk, shared, .. } = &**process;
        let store = disk.store(*device, host, &shared.recorder, shared.plant);
        let relays = shared.relays.iter().map(ToString::to_string);
        let bearer = process.clone();
        let config =
            quip_client::Config::new(relays, Trust::Fingerprint(process.trusted()), move || bearer.clone().token());
        let config = config.state(store).platform(Arc::new(host.clone()));
        let client = match config.user(process.user.as_str()) {
            Ok(config) if process.host.draw(2) == 0 => Client::start(config),
            Ok(config) => Client::connect(config).await,
            Err(error) => unreachable!("{error}"),
        };
        match client {
            Ok(client) => {
                process.note(Entry::Connected { id: client.device() });
                return client;
            }
            Err(error) => {
                process.note(Entry::Refused { why: error.to_string(), may_retry: error.may_retry() });
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

impl App {
    /// Notes what the client tells outside of conversations.
    fn watch(&self) {
        let (mut events, process) = (self.client.events(), self.process.clone());
        self.process.host.spawn(async move {
            while let Some(event) = events.next().await {
                process.note(Entry::Told(event));
                process.pretend();
            }
        });
        let (mut state, process) = (self.client.state(), self.process.clone());
        self.process.host.spawn(async move {
            let closed = state.wait_for(|state| matches!(state, ConnectionState::Closed(_))).await;
            if let Ok(ConnectionState::Closed(reason)) = closed.as_deref()
                && !matches!(reason, quip_client::ClosedReason::ByApp)
            {
                process.note(Entry::Refused { why: reason.to_string(), may_retry: reason.may_retry() });
            }
        });
    }

    /// Opens some conversations to begin with.
    async fn arrive(&mut self) {
        let places = self.process.shared.places.clone();
        for place in &places {
            if self.process.host.draw(2) == 0 && !self.process.shared.is_calm() {
                let join = place.may_join(&self.process.user);
                self.open(place, join, Duration::from_secs(20)).await;
            }
        }
    }

    /// Opens a conversation, unless it is open.
    pub(super) async fn open(&mut self, place: &Place, join: bool, patience: Duration) {
        let (process, id) = (self.process.clone(), place.id());
        let Some(target) = place.target(&process.user).filter(|_| !self.open.contains_key(&id)) else { return };
        process.note(Entry::Opening { conversation: id, join });
        let kept = process.disk.cursor(id);
        let options = options(join, kept.is_some());
        if kept.is_some() && process.host.draw(3) == 0 {
            if let Ok(conversation) = self.client.open_now(target, options) {
                self.opened(id, conversation, kept, false);
            }
            return;
        }
        match timeout(patience, self.client.open(target, options)).await {
            Err(_) | Ok(Err(OpenError::AlreadyOpen)) => {}
            Ok(Err(error)) => {
                let code = if let OpenError::Refused { code, .. } = error { Some(code) } else { None };
                process.note(Entry::NotOpened { conversation: id, code });
            }
            // Another process of the device may have kept it meanwhile.
            Ok(Ok(conversation)) => {
                self.opened(id, conversation, process.disk.cursor(id).filter(|_| kept.is_some()), true)
            }
        }
    }

    /// Takes a conversation that is opened, or may be used before.
    fn opened(&mut self, id: ConversationId, conversation: Conversation, from: Option<Cursor>, waited: bool) {
        let process = &self.process;
        let reading = process.shared.reading();
        let at = from.unwrap_or(conversation.cursor());
        process.note(Entry::Opened { conversation: id, reading, from, generation: at.generation, waited });
        let (sender, events) = conversation.split();
        if let Some(opened) = sender.opened() {
            process.note(Entry::Shown(Box::new(opened)));
        }
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let mut reader = Reader::new(process.clone(), id, reading, at);
        reader.stop = stopped;
        process.host.spawn(async move { _ = end.send_replace(reader.run(events).await) });
        self.open.insert(id, Open { sender, stop: Some(stop), ended });
    }

    /// Lets the events of a conversation go, and keeps sending.
    pub(super) fn drop_reader(&mut self, id: ConversationId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.stop = None;
        }
    }

    /// Closes a conversation.
    pub(super) fn close(&mut self, id: ConversationId) {
        self.open.remove(&id);
    }

    fn forget_ended(&mut self) {
        self.open.retain(|_, open| !*open.ended.borrow());
    }

    /// Without faults: reads every conversation to its end.
    async fn settle(&mut self) {
        let places = self.process.shared.places.clone();
        loop {
            self.open.retain(|_, open| !*open.ended.borrow() && open.stop.is_some());
            for place in &places {
                self.open(place, false, Duration::from_secs(20)).await;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Process {
    /// A token for the client.
    async fn token(self: Arc<Self>) -> Result<String, TokenError> {
        let Some(issuer) = &self.shared.issuer else { return Ok(self.user.as_str().to_owned()) };
        if self.planted(Plant::TokenNotRenewed, 3) {
            std::future::pending().await
        }
        let (token, until) = issuer.issue(&self.user, self.shared.recorder.elapsed());
        let until = if self.planted(Plant::TokenOutlived, 3) { Duration::ZERO } else { until };
        self.note(Entry::Token { until });
        Ok(token)
    }

    /// The fingerprint of the certificate that the client trusts.
    fn trusted(&self) -> [u8; 32] {
        let impostor = self.shared.relays.contains(&impostor::ADDRESS) && self.planted(Plant::Fooled, 3);
        if impostor { impostor::fingerprint() } else { self.shared.fingerprint }
    }

    /// Notes what a faulty relay might tell.
    fn pretend(&self) {
        let stranger = self.shared.recorder.last_user();
        if self.user != stranger && self.planted(Plant::PresenceLeaked, 50) {
            let state = quip_client::PresenceState::Online;
            let presence = quip_client::Presence { user: stranger.clone(), state, last_seen: None };
            self.note(Entry::Told(ClientEvent::Presence(presence)));
        }
        let foreign = self.shared.places.iter().find(|place| place.target(&self.user).is_none());
        if let Some(place) = foreign.filter(|_| self.planted(Plant::NotificationLeaked, 50)) {
            self.note(Entry::Told(ClientEvent::Changed {
                conversation: place.id(),
                head: 1,
                number: 1,
                role: 1,
                name: String::new(),
                kind: 1,
                user: Some(stranger),
                preview: String::new(),
                at: 1,
            }));
        }
    }
}
