//! Deadlines: tokens, handshakes, silence, presence, and the end of the relay.

use std::time::SystemTime;

use quip_protocol::{Code, session::GoAway};

use super::{ConnectionKey, Phase, TICK, Worker, follower, stream::Stream, unix_time};
use crate::presence::Gone;

/// How long clients are given to connect elsewhere, in milliseconds.
const GO_AWAY_WITHIN_MS: u64 = 1_000;

impl Worker {
    /// Looks at what has a deadline of its own.
    pub(super) fn tick(&mut self) {
        self.next_tick = self.now + TICK;
        for key in std::mem::take(&mut self.marked) {
            self.submit_mark(key);
        }
        for key in std::mem::take(&mut self.ahead) {
            let waits = self.streams.get_mut(key).and_then(|stream| stream.follower());
            if waits.is_some_and(|follower| matches!(follower.phase, follower::Phase::Ahead { .. })) {
                self.read_rows(key);
            }
        }
        self.give_up_unanswered();
        if self.phase == Phase::Running {
            self.write_seen();
        }
        self.news.tick();
        self.read_news();
        let shown = self.roster.expire(self.now);
        self.show(shown);
        if self.now >= self.next_sweep {
            self.next_sweep = self.now + self.shared.config.presence.sweep;
            self.sweep();
        }
        self.unswept.next().into_iter().for_each(|key| self.look_at(key));
    }

    /// Ends streams whose commands do not come back: an order may lose one. The client opens again, sees what was
    /// decided, and sends the rest again.
    fn give_up_unanswered(&mut self) {
        let timeout = self.shared.config.limits.answer_timeout;
        let Some(since) = self.now.checked_sub(timeout) else { return };
        while let Some((_, key)) = self.unanswered.pop_front_if(|(looked, _)| *looked <= since) {
            let overdue = self.streams.get_mut(key).and_then(Stream::follower).and_then(|f| f.sends.overdue(since));
            match overdue {
                Some(true) => self.end_after(key, Code::LOST, 0),
                Some(false) => self.unanswered.push_back((self.now, key)),
                None => {}
            }
        }
    }

    /// Begins to look at every connection, as many in each tick.
    fn sweep(&mut self) {
        self.share_send_window();
        let ticks = self.shared.config.presence.sweep.as_millis() / TICK.as_millis();
        self.unswept.begin(self.connections.keys(), ticks as usize);
        self.forget_rings();
        self.rates.forget(self.now);
    }

    fn look_at(&mut self, key: ConnectionKey) {
        let now = self.now;
        let presence = &self.shared.config.presence;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(session) = &connection.session else {
            if now.duration_since(connection.heard.at) >= self.shared.config.limits.unauthenticated {
                self.close(key, Code::NO_HELLO);
            }
            return;
        };
        let expired = session.identity.expires_at.is_some_and(|at| at <= SystemTime::now());
        let replaced = session.overlap_until.is_some_and(|until| until <= now);
        connection.listen(now, unix_time());
        let silent = now.duration_since(connection.heard.at);
        if expired {
            self.close(key, Code::TOKEN_EXPIRED);
        } else if replaced {
            self.close(key, Code::REPLACED);
        } else if silent >= presence.idle_timeout {
            connection.gone = Gone::Silent;
            self.close(key, Code::IDLE);
        } else {
            self.reachable(key, silent < presence.keepalive * 2);
        }
    }

    /// Many connections share what all together may have in flight; one never gets less than a frame.
    fn share_send_window(&mut self) {
        let limits = &self.shared.config.limits;
        let share = limits.send_window_total_bytes / self.connections.len().max(1);
        let share = share.clamp(limits.frame_bytes, limits.send_window_bytes) as u64;
        if share != self.send_window {
            self.send_window = share;
            self.connections.values().for_each(|connection| connection.quic.set_send_window(share));
        }
    }

    fn reachable(&mut self, key: ConnectionKey, reachable: bool) {
        let connection = &mut self.connections[key];
        if connection.heard.reachable == reachable {
            return;
        }
        connection.heard.reachable = reachable;
        let heard = connection.heard.time;
        let Some(user) = connection.user().cloned() else { return };
        let shown = self.roster.reachable(&user, key, reachable, heard);
        self.show(shown);
    }

    /// Rings whose followers have everything serve nobody.
    fn forget_rings(&mut self) {
        for conversation in self.conversations.values_mut() {
            if conversation.ring.bytes() == 0 || conversation.queued {
                continue;
            }
            let needs = |key| {
                let follower = self.streams.get_mut(key).and_then(|stream| stream.follower());
                follower.is_some_and(|follower| follower.live && follower.cursor < conversation.head)
            };
            if !conversation.followers.iter().copied().any(needs) {
                self.ring_bytes -= conversation.ring.bytes();
                conversation.ring.clear();
            }
        }
    }

    /// The relay is told to go on to its next phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase == Phase::Draining && self.phase == Phase::Running {
            let keys: Vec<_> = self.connections.keys().collect();
            for key in keys {
                self.tell(key, &GoAway { code: Code::SHUTDOWN, within: GO_AWAY_WITHIN_MS });
            }
            self.ledger.close(self.now);
        }
        self.phase = phase;
    }
}
