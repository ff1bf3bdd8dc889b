//! The Quip wire protocol: frames, messages, identifiers and codes.
//!
//! This crate knows bytes only: no sockets, no storage, no runtime. `WIRE.md` beside it is the
//! specification; every message here is pinned to it by golden bytes in the tests.
//!
//! * [`frame`] cuts a byte stream into frames and puts messages into them;
//! * [`session`], [`conversation`] and [`request`] hold the messages of the three stream types;
//! * [`event`] is what a conversation is made of; [`id`] names users, devices and conversations;
//! * [`code`] is the one table of codes; [`limit`] the protocol's own bounds.

pub mod code;
pub mod conversation;
pub mod event;
pub mod frame;
pub mod id;
pub mod items;
pub mod limit;
pub mod message;
pub mod request;
pub mod session;

pub use code::{Code, Retry};
pub use event::Event;
pub use frame::{DecodeError, Frame, FrameError, Message};
pub use id::{ConversationId, DeviceId, InstanceId, Kind, RoomName, UserId};
pub use items::{Blob, Item, Items};
pub use message::{ToClient, ToRelay};

/// The ALPN protocol id that both sides offer in the TLS handshake.
pub const ALPN: &[u8] = b"quip/1";
/// The highest message level that this crate knows; a client names its own in `Hello`.
pub const LEVEL: u64 = 1;
