//! One client's connection.

use std::time::Instant;

use quinn::ConnectionStats;
use quip_core::{Authority, Naming, Policy, Timestamp};
use quip_protocol::{ConversationId, DeviceId, InstanceId, Kind, RoomName, UserId};

use quip_store::Job;

use super::{StreamKey, live_first::Unsent, rate::Rate, turns::Turns};
use crate::{
    auth::{Action, Identity},
    config::{Config, HistoryPolicy},
    presence::Gone,
};

/// One client's connection.
pub(super) struct Connection {
    pub(super) quic: quinn::Connection,
    /// The number that its arrivals carry.
    pub(super) number: u64,
    /// After `Hello` was accepted.
    pub(super) session: Option<Session>,
    pub(super) session_stream: Option<StreamKey>,
    pub(super) streams: Vec<StreamKey>,
    /// Conversations that are open here.
    pub(super) open: Vec<(ConversationId, StreamKey)>,
    /// Reads from the store.
    pub(super) turns: Turns<Job>,
    /// Streams whose request is not answered in full.
    pub(super) requests: usize,
    /// Bytes of unfinished frames on all streams.
    pub(super) partial: usize,
    unsent: Unsent,
    pub(super) heard: Heard,
    pub(super) gone: Gone,
}

/// When a client was last heard, sampled.
pub(super) struct Heard {
    frames: u64,
    pub(super) at: Instant,
    pub(super) time: Timestamp,
    pub(super) reachable: bool,
}

/// Who the client is.
pub(super) struct Session {
    pub(super) identity: Identity,
    pub(super) device: DeviceId,
    pub(super) instance: InstanceId,
    /// The message level that both sides know.
    pub(super) level: u64,
    /// Conversation streams granted.
    pub(super) streams: usize,
    pub(super) signals: Rate,
    pub(super) signals_out: Rate,
    /// New tokens.
    pub(super) refreshes: Rate,
    /// When the connection is closed in favour of a newer one.
    pub(super) overlap_until: Option<Instant>,
}

impl Connection {
    pub(super) fn new(quic: quinn::Connection, number: u64, now: Instant) -> Self {
        Self {
            number,
            session: None,
            session_stream: None,
            streams: Vec::new(),
            open: Vec::new(),
            turns: Turns::default(),
            requests: 0,
            partial: 0,
            unsent: Unsent::of(&quic),
            heard: Heard { frames: 0, at: now, time: 0, reachable: true },
            gone: Gone::Broken,
            quic,
        }
    }

    /// Counts the live bytes that are written to its streams.
    pub(super) fn unsent(&mut self) -> &Unsent {
        if self.unsent.is_stale() {
            self.unsent = Unsent::of(&self.quic);
        }
        &self.unsent
    }

    /// Who the client is, once it said so.
    pub(super) fn user(&self) -> Option<&UserId> {
        self.session.as_ref().map(|session| &session.identity.user)
    }

    /// Looks whether anything was received since the last look.
    pub(super) fn listen(&mut self, now: Instant, time: Timestamp) {
        let frames = frames_received(&self.quic.stats());
        if frames != self.heard.frames {
            self.heard = Heard { frames, at: now, time, reachable: self.heard.reachable };
        }
    }
}

impl Session {
    /// What the token and the config allow in a conversation.
    pub(super) fn authority(&self, kind: Option<Kind>, room: Option<&RoomName<'_>>, config: &Config) -> Authority {
        let group_members = config.limits.group_members as u32;
        let Some(room) = room else {
            let by_members = kind != Some(Kind::Room);
            return Authority {
                join: by_members,
                post: by_members,
                create: by_members,
                group_members,
                ..Authority::default()
            };
        };
        let allows = |action| self.identity.grants.allows(action, room);
        let policy = config.namespaces.policy(room);
        Authority {
            join: allows(Action::Join),
            post: allows(Action::Post),
            create: allows(Action::Create),
            moderate: allows(Action::Moderate),
            policy: Policy { history_open: policy.history == HistoryPolicy::All, joins_shown: policy.joins_shown },
            group_members,
        }
    }
}

/// The room's name, where a conversation is one.
pub(super) fn room_of(naming: &Naming) -> Option<RoomName<'_>> {
    match naming {
        Naming::Room(name, _) => RoomName::parse(name).ok(),
        _ => None,
    }
}

/// Frames that were decrypted and read. Any of them is a sign of life; quinn's own idle timer is also
/// restarted by what we send, so it proves nothing.
fn frames_received(stats: &ConnectionStats) -> u64 {
    let rx = &stats.frame_rx;
    rx.acks
        + rx.ping
        + rx.stream
        + rx.datagram
        + rx.crypto
        + rx.max_data
        + rx.max_stream_data
        + rx.reset_stream
        + rx.stop_sending
        + rx.new_connection_id
        + rx.retire_connection_id
        + rx.path_challenge
        + rx.path_response
        + rx.data_blocked
        + rx.stream_data_blocked
        + rx.streams_blocked_bidi
        + rx.immediate_ack
        + rx.ack_frequency
}
