//! One client's connection, and who the client is.

use std::time::Duration;

use quip_core::Timestamp;
use quip_protocol::{ConversationId, DeviceId, InstanceId, session::Hello};
use tokio::time::Instant;

use super::{rate::Rate, users::UserKey};
use crate::{
    config::Limits,
    hub::{authority::Rights, keys::StreamKey, port::DisconnectReason},
};

/// One client's connection.
pub(super) struct Connection {
    /// After its `Hello` was accepted.
    pub(super) session: Option<Session>,
    /// Whose it is, after that.
    pub(super) user: Option<UserKey>,
    pub(super) session_stream: Option<StreamKey>,
    pub(super) streams: Vec<StreamKey>,
    /// Conversations that are open here.
    pub(super) open: Vec<(ConversationId, StreamKey)>,
    /// Streams whose request is not answered in full.
    pub(super) requests: usize,
    /// Bytes of unfinished frames on all streams.
    pub(super) partial: usize,
    pub(super) heard: Heard,
    /// How it ends, if it ends now.
    pub(super) reason: DisconnectReason,
    /// It is over and still to be settled.
    pub(super) over: bool,
}

/// When a client was last heard, sampled.
pub(super) struct Heard {
    pub(super) frames: u64,
    pub(super) at: Instant,
    pub(super) time: Timestamp,
    pub(super) reachable: bool,
}

/// Who a client is, and what it may have.
pub(in crate::hub) struct Session {
    pub(in crate::hub) rights: Rights,
    pub(in crate::hub) device: DeviceId,
    pub(in crate::hub) instance: InstanceId,
    /// Conversation streams granted.
    pub(in crate::hub) streams: usize,
    /// Signals that are sent to the client.
    pub(super) signals_out: Rate,
    /// New tokens.
    pub(super) refreshes: Rate,
    /// When the connection is closed in favour of a newer one.
    pub(super) overlap_until: Option<Instant>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Connection {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            session: None,
            user: None,
            session_stream: None,
            streams: Vec::new(),
            open: Vec::new(),
            requests: 0,
            partial: 0,
            heard: Heard { frames: 0, at: now, time: 0, reachable: true },
            reason: DisconnectReason::Broken,
            over: false,
        }
    }

    /// The stream on which a conversation is open.
    pub(super) fn stream_of(&self, id: ConversationId) -> Option<StreamKey> {
        self.open.iter().find(|(open, _)| *open == id).map(|(_, key)| *key)
    }
}

impl Heard {
    /// Takes a sample: `frames` were received by now.
    pub(super) fn sample(&mut self, frames: u64, now: Instant, time: Timestamp) {
        if frames != self.frames {
            (self.frames, self.at, self.time) = (frames, now, time);
        }
    }
}

impl Session {
    /// Picks the reserved numbers that the client gets. The instance is random.
    pub(in crate::hub) fn grease(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.instance.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// What a client that says `hello` gets.
    pub(in crate::hub) fn new(rights: Rights, hello: &Hello<'_>, limits: &Limits, now: Instant) -> Self {
        Self {
            rights,
            device: hello.device,
            instance: hello.instance,
            streams: (hello.streams as usize).clamp(1, limits.streams_per_connection),
            signals_out: Rate::new(limits.signal_rate(), now),
            refreshes: Rate::per(MINUTE, limits.refreshes_per_minute, now),
            overlap_until: None,
        }
    }
}
