//! `[limits]`: what one connection, one conversation and the whole relay may use.

use std::time::Duration;

use quip_protocol::limit;

use super::{
    complaint::{ConfigError, Source},
    section::{contradiction, section},
};

section! {
    /// What one connection, one conversation and the whole relay may use. Requests over a limit are refused with a code; a
    /// stored message is never dropped.
    RawLimits => Limits {
        /// Maximum concurrent connections; further handshakes are refused. Each takes 31 to 115 KB, depending on the streams
        /// that the client asks for.
        connections: usize [Count] = 100_000, 1..=10_000_000;
        /// Maximum handshakes waiting to be accepted; further ones are refused.
        incoming: usize [Count] = 1024, 1..=65_536;
        /// Maximum handshakes begun per second, evenly spaced, so that a reconnect storm does not slow connected clients. At
        /// most one second's handshakes wait. 0 = no limit.
        accepts_per_second: usize [Count] = 0, 0..=100_000;
        /// How long a connection may take until its `Hello` is accepted.
        unauthenticated: Duration [Period] = Duration::from_secs(5), Duration::from_millis(100)..=Duration::from_secs(60);
        /// How long a device's old connection may stay open after the same process opened a new one, as when it moves
        /// between networks or relays.
        device_overlap: Duration [Period] = Duration::from_secs(30), Duration::from_millis(100)..=Duration::from_secs(600);
        /// Time that clients have to connect elsewhere when the relay is asked to end. They are served until then.
        go_away_within: Duration [Period] = Duration::from_secs(1), Duration::ZERO..=Duration::from_secs(3600);
        /// Maximum open conversation streams per connection. quinn allocates stream slots up front: 1,024 cost 115 KB per
        /// connection, 8 cost 31 KB. So a client gets as many as it asks for, up to this limit.
        streams_per_connection: usize [Count] = 1024, 1..=65_536;
        /// Maximum connections of one user; further ones are refused. A newer connection of a device takes the place of its
        /// older one.
        connections_per_user: usize [Count] = 32, 1..=10_000_000;
        /// Maximum concurrent store reads of one user (opening, catching up, requests); further ones wait, and the user's
        /// connections take turns. Keeps one user from filling the readers' queue, and history from filling a connection's
        /// window.
        reads_per_user: usize [Count] = 4, 1..=64;

        /// Maximum frame size, without the length prefix. The protocol allows up to 64 KiB; a `Hello` with a token needs
        /// more than 8 KiB.
        frame_bytes: usize [Size] = limit::FRAME, 16 * KIB..=limit::FRAME;
        /// Maximum size of a message's content. The protocol allows up to 16 KiB.
        message_bytes: usize [Size] = limit::MESSAGE, 64..=limit::MESSAGE;
        /// Maximum bytes of commands without an answer per connection. Clients learn it from `Welcome` and hold others back. A
        /// client that sends more than this and 64 KiB in incomplete frames is closed.
        unanswered_bytes_per_connection: usize [Size] = 192 * KIB, 64 * KIB..=16 * MIB;
        /// Maximum commands of one stream without an outcome; further ones are refused. The relay remembers 64 outcomes per
        /// device.
        unanswered_per_stream: usize [Count] = limit::UNANSWERED as usize, 1..=limit::UNANSWERED as usize;

        /// Time after which a stream with an unanswered command is ended; it may take up to twice as long. The client then
        /// asks for the outcome again. Must be longer than a commit may take.
        answer_timeout: Duration [Period] = Duration::from_secs(15), Duration::from_millis(100)..=Duration::from_secs(600);

        /// Maximum commands per conversation waiting for the sequencer; beyond any of these three, senders get `FULL`.
        waiting_per_conversation: usize [Count] = 64, 1..=65_536;
        /// Maximum bytes per conversation waiting for the sequencer.
        waiting_bytes_per_conversation: usize [Size] = 256 * KIB, 64 * KIB..=64 * MIB;
        /// Maximum bytes of all conversations waiting for the sequencer.
        waiting_bytes: usize [Size] = 16 * MIB, 64 * KIB..=GIB;

        /// Maximum bytes sent on one connection and not yet acknowledged.
        send_window_bytes: usize [Size] = MIB, 64 * KIB..=64 * MIB;
        /// The same for all connections together. When it is exhausted, each connection's share shrinks.
        send_window_total_bytes: usize [Size] = 256 * MIB, MIB..=1024 * GIB;
        /// Maximum unread bytes that a client may send on one stream.
        stream_receive_window_bytes: usize [Size] = 64 * KIB, 16 * KIB..=16 * MIB;
        /// Maximum unread bytes that a client may send on all its streams together.
        connection_receive_window_bytes: usize [Size] = 256 * KIB, 16 * KIB..=64 * MIB;

        /// Maximum bytes of recent events of one conversation kept in memory. Followers further behind read from the store.
        ring_bytes_per_conversation: usize [Size] = 256 * KIB, 64 * KIB..=64 * MIB;
        /// Maximum bytes of recent events of all conversations kept in memory.
        ring_bytes: usize [Size] = 64 * MIB, MIB..=1024 * GIB;
        /// Maximum bytes of committed batches queued for the network thread; beyond it, followers read from the store.
        inbox_bytes: usize [Size] = 16 * MIB, 4 * KIB..=GIB;

        /// Maximum members of a group; further ones are refused.
        group_members: usize [Count] = 1000, 2..=100_000;
        /// Maximum size of a group whose members see each other's presence live; larger groups see a count.
        presence_group_members: usize [Count] = 64, 0..=1024;
        /// Minimum time between two notifications of a group to members who do not have it open. One notification covers
        /// all messages of this period.
        changed_interval: Duration [Period] = Duration::from_secs(1), Duration::from_millis(100)..=Duration::from_secs(600);
        /// Maximum size of a group whose members are notified of messages while they do not have it open.
        changed_group_members: usize [Count] = 1000, 0..=100_000;
        /// Maximum members per second that are checked for being connected, in order to notify them. Beyond it,
        /// notifications are delayed; if too many groups are queued, they are dropped.
        changed_members_per_second: usize [Count] = 50_000, 100..=10_000_000;
        /// Maximum events in one page of history.
        history_page: usize [Count] = 100, 1..=1000;
        /// Maximum conversations in one page of a user's list.
        list_page: usize [Count] = 100, 1..=1000;

        /// Maximum datagrams (typing, custom signals) per second from one user over all connections, and to one connection;
        /// further ones are dropped. The protocol allows up to 20.
        datagrams_per_second: usize [Count] = 20, 1..=20;
        /// Maximum commands per second from one user over all connections to this relay; further ones are refused before
        /// they are ordered. Whatever else reads or orders counts too: a read mark or a request as much as a command, opening
        /// a conversation a tenth of that. 0 = no limit.
        messages_per_second: usize [Count] = 50, 0..=1_000_000;
        /// Maximum commands that a user may send at once after a pause.
        messages_burst: usize [Count] = 100, 1..=1_000_000;
        /// Maximum tokens per minute that one connection may send in `Refresh`, also at once. Each costs a signature check.
        refreshes_per_minute: usize [Count] = 20, 1..=6000;
        /// Maximum conversations per hour that one user may create, also at once; further ones are refused. 0 = no limit.
        created_per_hour: usize [Count] = 1000, 0..=1_000_000;
        /// Maximum groups per hour that others may add one user to, also at once; further additions are refused. 0 = no limit.
        added_per_hour: usize [Count] = 100, 0..=1_000_000;
        /// How many of these one and the same other user may add them to. 0 = no limit.
        added_by_one_per_hour: usize [Count] = 20, 0..=1_000_000;
    }
}

/// A rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRate {
    /// Sustained rate per second; never 0.
    pub per_second: usize,
    /// Maximum at once after a pause; never 0.
    pub burst: usize,
}

impl Limits {
    /// The limit on one user's commands; `None` = no limit.
    pub fn message_rate(&self) -> Option<MessageRate> {
        let rate = MessageRate { per_second: self.messages_per_second, burst: self.messages_burst };
        (rate.per_second > 0).then_some(rate)
    }

    /// The limit on datagrams, in each direction.
    pub fn signal_rate(&self) -> MessageRate {
        MessageRate { per_second: self.datagrams_per_second, burst: self.datagrams_per_second }
    }

    /// The limits of a relay without a config file on loopback, where tests and benchmarks send fast.
    pub(super) fn development() -> Self {
        Self {
            messages_per_second: 0,
            created_per_hour: 0,
            added_per_hour: 0,
            added_by_one_per_hour: 0,
            ..Self::default()
        }
    }
}

impl RawLimits {
    /// Fills in the defaults and checks each value by itself and against the others.
    pub(super) fn resolve(self, source: &Source<'_>) -> Result<Limits, ConfigError> {
        let limits = self.within_ranges(source)?;
        macro_rules! ordered {
            ($small:ident + $room:expr, $large:ident) => {
                if limits.$small + $room > limits.$large {
                    let mut message = format!("{} must not be more than {}", stringify!($small), stringify!($large));
                    if $room > 0 {
                        message += &format!(" less {} bytes", $room);
                    }
                    let said = (self.$small.as_ref(), self.$large.as_ref());
                    return Err(contradiction(source, said.0, said.1, message));
                }
            };
        }
        ordered!(message_bytes + EVENT_OVERHEAD, frame_bytes);
        ordered!(unanswered_bytes_per_connection + limit::OTHER_UNFINISHED, connection_receive_window_bytes);
        ordered!(frame_bytes + 0, waiting_bytes_per_conversation);
        ordered!(waiting_bytes_per_conversation + 0, waiting_bytes);
        ordered!(send_window_bytes + 0, send_window_total_bytes);
        ordered!(stream_receive_window_bytes + 0, connection_receive_window_bytes);
        ordered!(ring_bytes_per_conversation + 0, ring_bytes);
        ordered!(presence_group_members + 0, group_members);
        Ok(limits)
    }
}

/// Bytes in a frame besides a message's content: a user id and a few varints, rounded up.
const EVENT_OVERHEAD: usize = 256;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
