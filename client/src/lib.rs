//! The client library of Quip, a chat relay over QUIC.
//!
//! A [`Client`] maintains one connection: it reconnects, over several relays if there are any, resumes every conversation,
//! resends unanswered commands, and renews its token. A [`Conversation`] is a stream of events in
//! order, each up to the one that the app has acknowledged, and a sender. Sending returns a [`Receipt`], which resolves once the message is durable on the relay and returns
//! its place in the conversation.
//!
//! ```no_run
//! use quip_client::{Client, Config, ConversationEvent, OpenOptions, Start, Target};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // To a relay that `cargo run --release` has started in this folder.
//! let client = Client::connect(Config::dev("quip-data", "alice")?).await?;
//!
//! let room = client.open(Target::room("lobby:main")?, OpenOptions::join().start(Start::Last(20))).await?;
//! let (sender, mut events) = room.split();
//!
//! let receipt = sender.send("hello").await?; // saved in the outbox, being sent
//! let accepted = receipt.accepted().await?; // durable, with its place in the conversation
//! println!("that was event {}", accepted.seq);
//!
//! while let Some(event) = events.next().await {
//!     match event {
//!         ConversationEvent::Event(event) => println!("{}: {}", event.user, event.text().unwrap_or("...")),
//!         ConversationEvent::Ended(code) => println!("ended: {code}"),
//!         _ => {}
//!     }
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! To a relay elsewhere, an app brings a certificate to trust and a token for its user:
//!
//! ```
//! use quip_client::{Config, Trust};
//!
//! # fn configure(fingerprint: &str, token: String) -> Result<Config, Box<dyn std::error::Error>> {
//! let config = Config::new(["chat.example.org:4433"], Trust::fingerprint(fingerprint)?, token).user("alice")?;
//! # Ok(config)
//! # }
//! ```
//!
//! # What survives
//!
//! | | [`MemoryStore`] (default) | [`FileStore`] |
//! | --- | --- | --- |
//! | disconnect, another relay, a restarted relay | yes | yes |
//! | a conversation closed and reopened | yes | yes |
//! | a killed or restarted app | no | yes |
//! | power loss | no | the last moments may be lost |
//!
//! "Exactly once" holds up to the cursor that the library stores: an app that stores the results of events and is killed may
//! receive the last few events again. To prevent that, store [`Conversation::cursor`] together with the app's own data and
//! open with [`Start::Resume`], as `client/examples/bot.rs` does.
//!
//! # Costs
//!
//! A connected client uses about 100 KB, nearly half of it quinn's receive buffer, and one UDP socket. An open conversation
//! adds up to 256 KiB of events that the app has not taken. One process can run hundreds of clients, such as a game server
//! with bots.

mod client;
mod config;
mod content;
mod conversation;
mod core;
pub mod dev;
mod error;
mod event;
mod inner;
mod keeper;
mod lock;
pub mod name;
mod net;
mod platform;
mod request;
mod socket;
#[doc = include_str!("../STATES.md")]
pub mod states {}
mod store;
mod target;
mod token;
mod untrusted;

pub use client::Client;
pub use config::{Config, InvalidFingerprint, Trust};
pub use content::Content;
pub use conversation::{Accepted, Conversation, Events, Receipt, Sender};
pub use dev::DevError;
pub use error::{
    ClosedReason, ConnectError, ConnectionLost, InvalidContent, OpenError, ReceiptError, RequestError, SendError,
    SignalError,
};
pub use event::{
    ClientEvent, ClientEvents, ConnectionState, ConversationEvent, OwnedEvent, Presence, PresenceState, SkipReason,
};
pub use name::{InvalidName, ToUser};
pub use platform::Platform;
pub use request::{Entry, History, HistoryQuery, Member, Page};
pub use store::{Change, Cursor, FileStore, MemoryStore, Saved, SavedConversation, StateError, StateStore};
pub use target::{OpenOptions, Opened, Start, Target};
pub use token::{TokenError, TokenFuture, TokenSource};
pub use untrusted::Untrusted;

pub use quip_protocol::id::{InvalidRoom, InvalidUser};
pub use quip_protocol::{Code, ConversationId, DeviceId, Retry, RoomName, UserId, event::kind, event::role};
