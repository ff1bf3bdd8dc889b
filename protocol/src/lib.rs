//! The Quip wire protocol: frames, messages, identifiers and codes.
//!
//! This crate only encodes and decodes: no sockets, no storage, no runtime. `WIRE.md` is the
//! specification; golden bytes in the tests pin every message to it.
//!
//! * [`frame`] cuts a byte stream into frames and puts messages into them;
//! * [`session`], [`conversation`] and [`request`] hold the messages of the three stream types;
//! * [`event`] has the events of a conversation; [`id`] the names of users, devices and conversations;
//! * [`extension`] and [`grease`] keep room to grow;
//! * [`code`] is the table of codes; [`limit`] has the protocol's limits, [`cost`] what counts for a user's rate.

pub mod code;
pub mod conversation;
pub mod cost;
pub mod event;
pub mod extension;
pub mod frame;
pub mod grease;
pub mod id;
pub mod items;
pub mod limit;
pub mod message;
pub mod request;
pub mod session;
mod varint;

pub use code::{Code, Retry};
pub use event::Event;
pub use extension::Extension;
pub use frame::{DecodeError, Frame, FrameError, Message};
pub use id::{ConversationId, DeviceId, InstanceId, Kind, RoomName, UserId};
pub use items::{Blob, Item, Items};
pub use message::{ToClient, ToRelay};

/// The ALPN protocol id that both sides use in the TLS handshake.
pub const ALPN: &[u8] = b"quip/1";
