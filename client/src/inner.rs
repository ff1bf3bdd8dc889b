//! What the handles of a client share.

use std::{sync::Arc, time::Duration};

use quinn::SendDatagramError;
use quip_protocol::{Blob, ConversationId, DeviceId, UserId, frame::to_datagram, limit, session::Signal};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    ConnectionState, SignalError,
    net::{Hub, LinkState, Order},
};

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    /// How long a request or an open may take.
    pub(crate) answer: Duration,
    /// How many unanswered commands an app may have in a conversation.
    pub(crate) outbox: usize,
    pub(crate) state: watch::Receiver<ConnectionState>,
    pub(crate) hub: Arc<Hub>,
    /// The connection's task ends when the last sender is dropped.
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) runtime: Handle,
}

impl Inner {
    /// Sends a signal to all who have the conversation open.
    pub(crate) fn signal(&self, id: ConversationId, kind: u64, body: &[u8]) -> Result<(), SignalError> {
        let too_large = |limit| SignalError::TooLarge { size: body.len(), limit };
        if body.len() > limit::SIGNAL {
            return Err(too_large(limit::SIGNAL));
        }
        let LinkState::Up(link) = self.hub.links.now() else { return Err(SignalError::Offline) };
        let channel = link.channel(id).ok_or(SignalError::NotOpen)?;
        link.signal_turn().map_err(|retry_after| SignalError::TooFast { retry_after })?;
        let signal = to_datagram(&Signal { channel, user: "", kind, body: Blob(body) });
        let head = signal.len() - body.len();
        link.connection.send_datagram(signal).map_err(|error| match error {
            SendDatagramError::TooLarge => {
                too_large(link.connection.max_datagram_size().unwrap_or_default().saturating_sub(head))
            }
            _ => SignalError::Offline,
        })
    }
}
