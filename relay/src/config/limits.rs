//! `[limits]`: what one connection, one conversation and the whole relay may take.

use std::time::Duration;

use quip_protocol::limit;

use super::{
    complaint::{ConfigError, Source},
    section::{contradiction, section},
};

section! {
    /// What one connection, one conversation and the whole relay may take. When something is full, the answer is a
    /// typed refusal; a stored message is never dropped.
    RawLimits => Limits {
        /// Connections at once; the handshake is refused beyond. Each takes 31 to 115 KB, by the streams that it asks for.
        connections: usize [Count] = 100_000, 1..=10_000_000;
        /// Handshakes that wait to be accepted.
        incoming: usize [Count] = 1024, 1..=65_536;
        /// Handshakes begun in a second at most, evenly apart, so that those who are connected feel little of all others
        /// coming back at once; 0 takes them as fast as it can. At most those of a second wait.
        accepts_per_second: usize [Count] = 0, 0..=100_000;
        /// How long a connection may take until its `Hello` is accepted.
        unauthenticated: Duration [Period] = Duration::from_secs(5), Duration::from_millis(100)..=Duration::from_secs(60);
        /// How long an older connection of a device may go on beside a newer one of the same process, which is moving
        /// between networks or relays.
        device_overlap: Duration [Period] = Duration::from_secs(30), Duration::from_millis(100)..=Duration::from_secs(600);
        /// Conversation streams that one connection may have open. quinn allocates stream slots up front: 1,024
        /// cost 115 KB a connection, 8 cost 31 KB, so a client is given what it asks for up to this.
        streams_per_connection: usize [Count] = 1024, 1..=65_536;
        /// Reads from the store under way for one connection (opening, catching up, requests), so that nobody fills the
        /// readers' queue, nor history a connection's window.
        reads_per_connection: usize [Count] = 4, 1..=64;

        /// Bytes of one frame after its length; the protocol allows no more than 64 KiB, and a `Hello` with a token
        /// needs more than 8.
        frame_bytes: usize [Size] = limit::FRAME, 16 * KIB..=limit::FRAME;
        /// Bytes of one message's content; the protocol allows no more than 16 KiB.
        message_bytes: usize [Size] = limit::MESSAGE, 64..=limit::MESSAGE;
        /// Bytes of half-received frames that one connection may pin.
        partial_frame_bytes_per_connection: usize [Size] = 256 * KIB, 4 * KIB..=16 * MIB;
        /// Bytes of control answers that wait on one stream; while full, that stream is not read.
        control_bytes_per_stream: usize [Size] = 16 * KIB, 4 * KIB..=MIB;
        /// Commands of one stream without an outcome yet; the relay remembers 64 outcomes of a device.
        unanswered_per_stream: usize [Count] = limit::UNANSWERED as usize, 1..=limit::UNANSWERED as usize;

        /// A stream whose command has no outcome after this, up to twice as long, is ended, and the client asks again what
        /// became of it. Longer than a commit may take.
        answer_timeout: Duration [Period] = Duration::from_secs(15), Duration::from_millis(100)..=Duration::from_secs(600);

        /// Commands of one conversation that wait for the sequencer.
        waiting_per_conversation: usize [Count] = 64, 1..=65_536;
        /// Bytes of one conversation that wait for the sequencer.
        waiting_bytes_per_conversation: usize [Size] = 256 * KIB, 64 * KIB..=64 * MIB;
        /// Bytes of all conversations that wait for the sequencer.
        waiting_bytes: usize [Size] = 16 * MIB, 64 * KIB..=GIB;

        /// Bytes that one connection may have sent and not acknowledged.
        send_window_bytes: usize [Size] = MIB, 64 * KIB..=64 * MIB;
        /// The same over all connections; when it runs out, each connection's share shrinks.
        send_window_total_bytes: usize [Size] = 256 * MIB, MIB..=1024 * GIB;
        /// Bytes that a client may send on one stream before the relay has read them.
        stream_receive_window_bytes: usize [Size] = 64 * KIB, 16 * KIB..=16 * MIB;
        /// Bytes that a client may send on all its streams before the relay has read them.
        connection_receive_window_bytes: usize [Size] = 256 * KIB, 16 * KIB..=64 * MIB;

        /// Recent events of one conversation kept in memory for its followers.
        ring_bytes_per_conversation: usize [Size] = 256 * KIB, 64 * KIB..=64 * MIB;
        /// Recent events of all conversations kept in memory.
        ring_bytes: usize [Size] = 64 * MIB, MIB..=1024 * GIB;
        /// Committed batches that wait for the network thread; beyond it, followers read from the store.
        inbox_bytes: usize [Size] = 16 * MIB, 4 * KIB..=GIB;

        /// Members of one group.
        group_members: usize [Count] = 1000, 2..=100_000;
        /// Groups up to this size see each member's presence live; larger ones see a count.
        presence_group_members: usize [Count] = 64, 0..=1024;
        /// From a group's first message to when its members who do not have it open are told, once for all that came in
        /// between.
        changed_interval: Duration [Period] = Duration::from_secs(1), Duration::from_millis(100)..=Duration::from_secs(600);
        /// Members of larger groups are not told of messages in groups that they do not have open.
        changed_group_members: usize [Count] = 1000, 0..=100_000;
        /// Members that are looked at each second to find those who are here; beyond it they are told later, and with as
        /// many groups waiting, not at all.
        changed_members_per_second: usize [Count] = 50_000, 100..=10_000_000;
        /// Events in one page of history.
        history_page: usize [Count] = 100, 1..=1000;
        /// Conversations in one page of a user's list.
        list_page: usize [Count] = 100, 1..=1000;

        /// Datagrams (typing, custom signals) that a client may send each second; the protocol allows 20.
        datagrams_per_second: usize [Count] = 20, 1..=20;
        /// Commands that one user may send each second over all connections here, refused before they are ordered; 0 = no
        /// limit.
        messages_per_second: usize [Count] = 50, 0..=1_000_000;
        /// Commands that a user who was quiet may send at once.
        messages_burst: usize [Count] = 100, 1..=1_000_000;
        /// Tokens that one connection may bring in `Refresh` each minute, and at once; each costs a signature check.
        refreshes_per_minute: usize [Count] = 20, 1..=6000;
    }
}

/// How fast somebody may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRate {
    /// Commands each second over time; never 0.
    pub per_second: usize,
    /// Commands at once after a pause; never 0.
    pub burst: usize,
}

impl Limits {
    /// How fast one user may send, or `None` without such a limit.
    pub fn message_rate(&self) -> Option<MessageRate> {
        let rate = MessageRate { per_second: self.messages_per_second, burst: self.messages_burst };
        (rate.per_second > 0).then_some(rate)
    }

    /// How many datagrams a client may send, and how many it is sent.
    pub fn signal_rate(&self) -> MessageRate {
        MessageRate { per_second: self.datagrams_per_second, burst: self.datagrams_per_second }
    }

    /// The limits of a relay without a config file on loopback: a test or a benchmark is not a flood.
    pub(super) fn development() -> Self {
        Self { messages_per_second: 0, ..Self::default() }
    }
}

impl RawLimits {
    /// Fills in the defaults, checks each value and those that belong together.
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
        ordered!(frame_bytes + 0, partial_frame_bytes_per_connection);
        ordered!(frame_bytes + 0, waiting_bytes_per_conversation);
        ordered!(waiting_bytes_per_conversation + 0, waiting_bytes);
        ordered!(send_window_bytes + 0, send_window_total_bytes);
        ordered!(stream_receive_window_bytes + 0, connection_receive_window_bytes);
        ordered!(ring_bytes_per_conversation + 0, ring_bytes);
        ordered!(presence_group_members + 0, group_members);
        Ok(limits)
    }
}

/// What a frame may hold beside a message's content: a user id and a few varints, rounded up.
const EVENT_OVERHEAD: usize = 256;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
