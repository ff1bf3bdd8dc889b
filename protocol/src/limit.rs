//! Bounds that are part of the protocol. A relay may be configured below them, never above.

/// Bytes of a frame after its length: type and body.
pub const FRAME: usize = 64 * 1024;
/// Bytes of a message's content.
pub const MESSAGE: usize = 16 * 1024;
/// Bytes of a user id.
pub const USER: usize = 64;
/// Bytes of one part of a room name.
pub const ROOM_PART: usize = 63;
/// Bytes of a title.
pub const TITLE: usize = 128;
/// Bytes of a reaction.
pub const REACTION: usize = 32;
/// Edits of one message. A deletion replaces each of them, and the fold counts them: relays of one log agree on it.
pub const EDITS: usize = 200;
/// Bytes of a token.
pub const TOKEN: usize = 8 * 1024;
/// Bytes of a client's or relay's name, and of the text beside a code.
pub const TEXT: usize = 256;
/// Outcomes that the relay remembers for a device in a conversation, and commands that a stream may have unanswered.
pub const UNANSWERED: u64 = 64;
/// Other relays named in `Welcome`.
pub const RELAYS: usize = 16;
/// Bytes of a datagram's content.
pub const SIGNAL: usize = 1024;
