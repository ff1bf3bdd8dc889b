//! QUIC settings.

use std::{sync::Arc, time::Duration};

use quinn::{AckFrequencyConfig, TransportConfig, VarInt};

/// Bytes of one stream that may arrive before they are read.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Streams for requests, besides those for conversations.
const REQUESTS: u64 = 8;
/// Bytes of datagrams that wait, each way: a second's worth of signals.
const DATAGRAMS: usize = 16 * 1024;

/// The settings for this number of conversations.
pub(super) fn config(streams: u64, keepalive: Duration, idle: Duration) -> Arc<TransportConfig> {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(8)).max_ack_delay(Some(Duration::from_millis(10)));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(connection_window(streams))
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS)
        .initial_rtt(Duration::from_millis(100))
        .mtu_discovery_config(None)
        .ack_frequency_config(Some(acks))
        .keep_alive_interval(Some(keepalive))
        .max_idle_timeout(Some(idle.try_into().unwrap_or(VarInt::MAX.into())));
    Arc::new(transport)
}

/// Room for every stream at once, so that one that is not read never stops the others.
fn connection_window(streams: u64) -> VarInt {
    let bytes = streams.saturating_add(REQUESTS).saturating_mul(STREAM_WINDOW.into());
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_window_holds_every_stream_window() {
        assert_eq!(connection_window(64).into_inner(), 72 * 256 * 1024);
        assert_eq!(connection_window(u64::MAX), VarInt::MAX);
    }
}
