//! What happened in a run, as the checker judges it: what apps did and saw, and what the order handed out.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use quip_client::{
    Accepted, Change, ClientEvent, Cursor, History as HistoryPage, OwnedEvent, Presence, ReceiptError, SkipReason,
};
use quip_order::Ordered;
use quip_protocol::{Code, ConversationId, DeviceId, UserId};

use crate::trace::Trace;

/// One of the devices of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(pub usize);

/// From when an app opened a conversation to when it let the events go, or died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reading(pub u64);

/// One command of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Entry {
    /// The relay has a log, or another one than before.
    Log {
        /// Its identity.
        generation: u64,
        /// How many of the commands of the one before it has.
        kept: usize,
    },
    /// The order handed this out: it is durable.
    Ordered(Box<Ordered>),
    /// The relay started.
    RelayStarted,
    /// The relay died.
    RelayCrashed,
    /// A client made a connection to an impostor.
    Fooled,
    /// Faults are over: from now on everything must settle.
    Calm,
    /// Everything has settled.
    Settled,
    /// It has not, within the time for it; this is what was waited for.
    Unsettled(String),
    /// A part of the product warned in its log.
    Warned(String),
    /// A task panicked.
    Panicked(String),
    /// An app did or saw something.
    App(Device, App),
}

/// Something that an app did or saw.
#[derive(Debug, Clone)]
pub enum App {
    /// The process started.
    Started,
    /// The process was killed.
    Killed,
    /// The app got a token for the client.
    Token {
        /// When it expires, since the start of the run.
        until: Duration,
    },
    /// A relay accepted the token.
    Connected {
        /// The device's id.
        id: DeviceId,
    },
    /// No relay did, or the client is closed for good without the app having asked for it.
    Refused {
        /// Why.
        why: String,
        /// Whether the same may work later.
        may_retry: bool,
    },
    /// The app asked for a conversation.
    Opening {
        /// Which.
        conversation: ConversationId,
        /// Whether it asked to become a member.
        join: bool,
    },
    /// It was opened.
    Opened {
        /// Which.
        conversation: ConversationId,
        /// The name of this reading.
        reading: Reading,
        /// Where delivery was to begin: after the cursor that was kept, or from the beginning.
        from: Option<Cursor>,
        /// The log in which it begins.
        generation: u64,
        /// Whether the app waited until the relay had opened it.
        waited: bool,
    },
    /// What the relay showed of a conversation when it was opened.
    Shown(Box<quip_client::Opened>),
    /// It was not opened.
    NotOpened {
        /// Which.
        conversation: ConversationId,
        /// The relay's code; `None` = no answer in time or no client.
        code: Option<Code>,
    },
    /// The app was given an event.
    Delivered {
        /// In which reading.
        reading: Reading,
        /// What.
        event: OwnedEvent,
    },
    /// The app was told that events are left out.
    Skipped {
        /// In which reading.
        reading: Reading,
        /// Up to and including this one.
        to: u64,
        /// Why.
        why: SkipReason,
    },
    /// The app is done with everything up to here.
    Handled {
        /// In which reading.
        reading: Reading,
        /// The last event.
        seq: u64,
    },
    /// The log is another one.
    Reset {
        /// In which reading.
        reading: Reading,
        /// The identity of the log.
        generation: u64,
        /// Its first event that comes.
        first: u64,
    },
    /// The conversation ended.
    Ended {
        /// In which reading.
        reading: Reading,
        /// Why.
        code: Code,
    },
    /// The app let the events go.
    Left {
        /// In which reading.
        reading: Reading,
    },
    /// The app sent a command.
    Sent {
        /// The name of the command.
        ticket: Ticket,
        /// Where.
        conversation: ConversationId,
        /// The kind of the event that it becomes.
        kind: u64,
        /// The event's body.
        body: Bytes,
    },
    /// The fate of a command.
    Fate {
        /// Which.
        ticket: Ticket,
        /// What became of it.
        fate: Result<Accepted, ReceiptError>,
    },
    /// The state store kept a cursor.
    Kept {
        /// Of which conversation.
        conversation: ConversationId,
        /// The cursor.
        cursor: Cursor,
    },
    /// The state store kept something else.
    Stored(Change),
    /// The app was told something outside of conversations.
    Told(ClientEvent),
    /// A page of history.
    Read {
        /// Of which conversation.
        conversation: ConversationId,
        /// The page.
        page: HistoryPage,
    },
    /// A list of members.
    Members {
        /// Of which conversation.
        conversation: ConversationId,
        /// The members.
        members: Vec<UserId>,
    },
    /// The presence of members, as an answer.
    Present {
        /// Of which conversation.
        conversation: ConversationId,
        /// The members.
        members: Vec<Presence>,
    },
    /// The user's conversations.
    Listed(Vec<quip_client::Entry>),
    /// A request was refused, or not answered in time.
    NotAnswered {
        /// About which conversation.
        conversation: ConversationId,
        /// The relay's code; `None` = no answer in time or no client.
        code: Option<Code>,
    },
}

/// What happened, in order, each with the virtual time since the start.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The users of the run's devices.
    pub users: Vec<UserId>,
    /// The entries.
    pub entries: Vec<(Duration, Entry)>,
}

impl History {
    /// The user of a device.
    pub fn user(&self, device: Device) -> &UserId {
        &self.users[device.0]
    }

    /// What apps did and saw.
    pub fn apps(&self) -> impl Iterator<Item = (Duration, Device, &App)> {
        self.entries.iter().filter_map(|(at, entry)| match entry {
            Entry::App(device, app) => Some((*at, *device, app)),
            _ => None,
        })
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in &self.entries {
            let at = at.as_secs_f64();
            match entry {
                Entry::App(device, app) => writeln!(f, "{at:.6} {}#{} {app:?}", self.user(*device), device.0)?,
                entry => writeln!(f, "{at:.6} {entry:?}")?,
            }
        }
        Ok(())
    }
}

/// Writes a history, as a cheap handle.
#[derive(Clone)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
    trace: Trace,
}

impl Recorder {
    /// An empty history of these devices.
    pub fn new(users: Vec<UserId>, trace: Trace) -> Self {
        let history = History { users, entries: Vec::new() };
        Self { history: Arc::new(Mutex::new(history)), trace }
    }

    /// Adds an entry.
    pub fn note(&self, entry: Entry) {
        self.trace.note(&entry);
        let at = self.trace.elapsed();
        self.history.lock().unwrap_or_else(PoisonError::into_inner).entries.push((at, entry));
    }

    /// The users of the run, each once.
    pub fn users(&self) -> Vec<UserId> {
        let mut users = self.history.lock().unwrap_or_else(PoisonError::into_inner).users.clone();
        users.dedup();
        users
    }

    /// The user of each device.
    pub fn all_users(&self) -> Vec<UserId> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).users.clone()
    }

    /// The user who shares only rooms with others.
    pub fn last_user(&self) -> UserId {
        self.users().pop().expect("there are users")
    }

    /// The virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.trace.elapsed()
    }

    /// Everything so far.
    pub fn take(&self) -> History {
        std::mem::take(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
