//! Limits that are part of the protocol. A relay may be configured with lower ones, never with higher ones.

/// Bytes of a frame without its length: type and body.
pub const FRAME: usize = 64 * 1024;
/// Bytes of unfinished frames that a connection may have beside commands: `Hello` with its token, openings and requests.
pub const OTHER_UNFINISHED: usize = 64 * 1024;
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
/// Edits of one message. A deletion replaces all of them. Part of the fold, so all relays of a log must use the same limit.
pub const EDITS: usize = 200;
/// Earlier memberships in a conversation whose events a user still sees. Part of the fold, so all relays of a log must use the
/// same limit.
pub const EARLIER: usize = 32;
/// Bytes of a message's text in a notification.
pub const PREVIEW: usize = 128;
/// Bytes of a token.
pub const TOKEN: usize = 8 * 1024;
/// Bytes of a client's or relay's name, and of the text beside a code.
pub const TEXT: usize = 256;
/// Unanswered commands of a stream, and outcomes that the relay remembers for a device in a conversation.
pub const UNANSWERED: u64 = 64;
/// Other relays named in `Welcome`.
pub const RELAYS: usize = 16;
/// Features named in `Hello` or `Welcome`.
pub const FEATURES: usize = 64;
/// Bytes of a datagram's content.
pub const SIGNAL: usize = 1024;
