//! Messages of the session stream: the stream that begins with [`Hello`].

use serde::{Deserialize, Serialize};

use crate::{Blob, Code, ConversationId, DeviceId, InstanceId, Item, Items, frame::types, limit};

/// Client: the first frame of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// A JWT, at most 8 KiB.
    pub token: &'a str,
    /// The device.
    pub device: DeviceId,
    /// This start of the client.
    pub instance: InstanceId,
    /// Client name and version, for logs, at most 256 bytes.
    pub client: &'a str,
    /// Number of conversation streams that it wants to have open at once.
    pub streams: u64,
    /// Ids of optional features that it supports. Those that [`Welcome`] names too are in use.
    #[serde(borrow)]
    pub features: Items<'a, u64>,
}

/// Relay: the answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome<'a> {
    /// The user that the token names.
    #[serde(borrow)]
    pub user: &'a str,
    /// Identity of the log; cursors of another log are not valid.
    pub generation: u64,
    /// The relay's clock, in milliseconds since the Unix epoch.
    pub time: u64,
    /// When the token expires, in the same unit.
    pub expires: u64,
    /// How often the client must send a QUIC keepalive, in milliseconds.
    pub keepalive: u64,
    /// Time without a packet after which the relay closes, in milliseconds.
    pub idle_timeout: u64,
    /// Conversation streams granted.
    pub streams: u64,
    /// Bytes allowed in a frame after its length.
    pub frame: u64,
    /// Bytes allowed in a message's content.
    pub message: u64,
    /// Unanswered commands allowed on one stream.
    pub unanswered: u64,
    /// Bytes of unanswered commands, as frames, allowed on all streams of the connection together.
    pub unanswered_bytes: u64,
    /// Commands that the user may send in a second, over all connections to this relay; 0 = no limit.
    pub rate: u64,
    /// Commands that the user may send at once after a pause.
    pub burst: u64,
    /// The relay's name.
    pub relay: &'a str,
    /// Other relays of the same log, as `host:port`.
    pub relays: Items<'a, &'a str>,
    /// Ids of optional features that the relay supports. Those that [`Hello`] named too are in use.
    pub features: Items<'a, u64>,
}

impl Item<'_> for u64 {
    const MAX: usize = limit::FEATURES;
}

impl<'a> Item<'a> for &'a str {
    const MAX: usize = limit::RELAYS;
}

/// Client: a new token for the same user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh<'a> {
    /// The new token.
    pub token: &'a str,
}

/// Relay: the new token is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires: u64,
}

/// Relay: connect elsewhere first, then close this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// Why.
    pub code: Code,
    /// Milliseconds until the relay closes.
    pub within: u64,
}

/// Relay: a user's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence<'a> {
    /// The user.
    pub user: &'a str,
    /// One of [`presence`].
    pub state: u8,
    /// When the user was last heard from, in milliseconds since the Unix epoch; 0 = online now, never, or unknown.
    pub last_seen: u64,
}

/// States of [`Presence`], fixed for ever.
pub mod presence {
    /// No connection.
    pub const OFFLINE: u8 = 0;
    /// Connected, without a packet for two keepalive periods.
    pub const UNREACHABLE: u8 = 1;
    /// Connected.
    pub const ONLINE: u8 = 2;
}

/// Relay: a conversation that is not open here has a new message, or the user's membership of it began or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed<'a> {
    /// Which.
    pub conversation: ConversationId,
    /// The event that this is about: the newest message, or the beginning or the end of the membership; 0 = no event.
    pub head: u64,
    /// Its message number.
    pub number: u64,
    /// The user's role, 0 = no longer a member.
    pub role: u8,
    /// Room name, group title, or the other user.
    pub name: &'a str,
    /// One of [`crate::event::kind`], `TOMBSTONE` if it was deleted since; 0 = no event.
    pub kind: u64,
    /// Its author; empty without an event.
    pub user: &'a str,
    /// The beginning of a text, at most 128 bytes; empty for other kinds.
    pub preview: &'a str,
    /// When it was ordered, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// Relay: the user's read mark moved, by this device or another, or the user said something in a conversation that is not open
/// here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// Where.
    pub conversation: ConversationId,
    /// Read up to this event.
    pub seq: u64,
    /// How many messages are not unread, see [`crate::request::Entry`].
    pub number: u64,
}

/// Relay: something for a person or a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice<'a> {
    /// What it is about.
    pub code: Code,
    /// At most 256 bytes.
    pub text: &'a str,
}

/// Either side, as a QUIC datagram (no frame length): a signal, which may be lost and is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal<'a> {
    /// The conversation's channel on this connection: the number that the client gave it in `Open`.
    pub channel: u64,
    /// The sender; empty from a client, filled in by the relay.
    pub user: &'a str,
    /// 1 = typing, from 16 on the application's own.
    pub kind: u64,
    /// At most 1 KiB.
    #[serde(borrow)]
    pub body: Blob<'a>,
}

types! {
    Hello<'_> = 0x02;
    Refresh<'_> = 0x04;
    Welcome<'_> = 0x10;
    Refreshed = 0x12;
    GoAway = 0x14;
    Presence<'_> = 0x15;
    Changed<'_> = 0x17;
    Marked = 0x19;
    Notice<'_> = 0x1b;
    Signal<'_> = 0x61;
}
