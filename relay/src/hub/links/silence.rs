//! Connections that are looked at from time to time: silence, tokens that expire, and what each may have in flight.

use std::time::{Duration, UNIX_EPOCH};

use quip_core::Timestamp;
use quip_protocol::{Code, UserId};
use tokio::time::Instant;

use super::Links;
use crate::hub::keys::ConnectionKey;
use crate::hub::port::{DisconnectReason, Port};

/// A client became reachable, or ceased to be.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct Reachability {
    pub(in crate::hub) user: UserId,
    pub(in crate::hub) reachable: bool,
    /// When the client was last heard.
    pub(in crate::hub) heard: Timestamp,
}

/// Keepalives of which nothing may arrive before a client counts as unreachable.
const KEEPALIVES: u32 = 2;

impl Links {
    /// Looks at one connection, and closes it if its time is over. `now` and `time` are the same moment.
    pub(in crate::hub) fn look_at(
        &mut self,
        key: ConnectionKey,
        now: Instant,
        time: Timestamp,
        port: &mut impl Port,
    ) -> Option<Reachability> {
        let connection = self.connections.get_mut(key).filter(|connection| !connection.over)?;
        let presence = &self.config.presence;
        let Some(session) = &connection.session else {
            if now.duration_since(connection.heard.at) >= self.config.limits.unauthenticated {
                self.close(key, Code::NO_HELLO, port);
            }
            return None;
        };
        let wall = UNIX_EPOCH + Duration::from_millis(time);
        let expired = session.rights.identity().expires_at.is_some_and(|at| at <= wall);
        let moved = session.overlap_until.is_some_and(|until| until <= now);
        connection.heard.sample(port.frames_received(key), now, time);
        let silent = now.duration_since(connection.heard.at);
        let code = if expired {
            Code::TOKEN_EXPIRED
        } else if moved {
            // Not REPLACED, which is for good: the client may not know that it moved, if the newer connection lost its Welcome.
            Code::BYE
        } else if silent >= presence.idle_timeout {
            connection.reason = DisconnectReason::Silent;
            Code::IDLE
        } else {
            let reachable = silent < presence.keepalive * KEEPALIVES;
            let changed = std::mem::replace(&mut connection.heard.reachable, reachable) != reachable;
            let user = session.rights.user().clone();
            return changed.then_some(Reachability { user, reachable, heard: connection.heard.time });
        };
        self.close(key, code, port);
        None
    }

    /// Shares what all connections together may have in flight. One never gets less than a frame.
    pub(in crate::hub) fn share_send_window(&mut self, port: &mut impl Port) {
        let limits = &self.config.limits;
        let share = limits.send_window_total_bytes / self.connections.len().max(1);
        let share = share.clamp(limits.frame_bytes, limits.send_window_bytes) as u64;
        if share != self.send_window {
            self.send_window = share;
            self.connections.keys().for_each(|key| port.set_send_window(key, share));
        }
    }
}
