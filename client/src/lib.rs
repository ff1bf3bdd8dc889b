//! The client library of Quip, a chat relay over QUIC.
//!
//! A [`Client`] holds one connection and keeps it: it reconnects over several relays, resumes every conversation where
//! it stopped, sends again what has no answer, and asks for a new token in time. A [`Conversation`] is a stream of
//! events, every one once and in order, and a place to send to. Sending gives a [`Receipt`]; waiting for it tells that the
//! message is on the relay's disk and where it stands.
//!
//! ```no_run
//! use quip_client::{Client, Config, ConversationEvent, OpenOptions, Start, Target, Trust};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # let fingerprint = [0; 32];
//! let config = Config::new(["chat.example.org:4433"], Trust::Fingerprint(fingerprint), "alice");
//! let client = Client::connect(config).await?;
//!
//! let room = client.open(Target::room("lobby:main")?, OpenOptions::join().start(Start::Last(20))).await?;
//! let (sender, mut events) = room.split();
//!
//! let receipt = sender.send("hello").await?; // on its way
//! let accepted = receipt.accepted().await?; // durable, and where it stands
//! println!("that was event {}", accepted.seq);
//!
//! while let Some(event) = events.next().await {
//!     match event {
//!         ConversationEvent::Event(event) => println!("{}: {}", event.user, event.text().unwrap_or("...")),
//!         ConversationEvent::Ended(code) => println!("the end: {code}"),
//!         _ => {}
//!     }
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What survives what
//!
//! | | [`MemoryStore`] (default) | [`FileStore`] |
//! | --- | --- | --- |
//! | lost connection, another relay, a restarted relay | yes | yes |
//! | a conversation closed and opened again | yes | yes |
//! | a killed or restarted app | no | yes |
//! | a power cut | no | the last moments may be lost |
//!
//! "Exactly once" reaches as far as the cursor that the library keeps: an app that stores what it made of events and is
//! killed may see the last few again. One that needs more stores [`Conversation::cursor`] together with its own data and opens
//! with [`Start::Resume`].
//!
//! # What it costs
//!
//! A connected client holds about 100 KB, nearly half of it quinn's receive buffer, and one UDP socket; an open conversation
//! adds up to 256 KiB of events that the app has not taken. So one process may well hold hundreds of clients, as a game's
//! server with bots does.

mod client;
mod config;
mod conversation;
mod core;
mod error;
mod event;
mod keeper;
mod lock;
mod net;
mod platform;
mod request;
mod store;
mod target;
mod token;

pub use client::Client;
pub use config::{Config, Trust};
pub use conversation::{Accepted, Conversation, Events, Receipt, Sender};
pub use error::{
    ClosedReason, ConnectError, ConnectionLost, InvalidContent, OpenError, ReceiptError, RequestError, SendError,
};
pub use event::{
    ClientEvent, ClientEvents, ConnectionState, ConversationEvent, OwnedEvent, Presence, PresenceState, SkipReason,
};
pub use platform::Platform;
pub use request::{Entry, History, HistoryQuery, Member, Page};
pub use store::{Change, Cursor, FileStore, MemoryStore, Saved, SavedConversation, StateError, StateStore};
pub use target::{OpenOptions, Opened, Start, Target};
pub use token::{TokenError, TokenFuture, TokenSource};

/// Bodies of events that are not text or data, for [`OwnedEvent::read`].
pub mod body {
    pub use quip_protocol::event::{Added, Deleted, Edited, Reacted, Removed, RoleChanged, Titled, Tombstone};
}

pub use quip_protocol::id::{InvalidRoom, InvalidUser};
pub use quip_protocol::{Code, ConversationId, DeviceId, Retry, RoomName, UserId, event::kind, event::role};
