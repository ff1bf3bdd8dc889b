//! Live data does not wait for room that catching up has used.
//!
//! Loss that is not congestion makes the congestion window small, and catching up fills what there is. A live message then
//! waits up to a round trip for an acknowledgement, whatever its priority. [`LiveFirst`] lets the packets that carry live
//! data go at once, up to [`EXTRA`] beyond the window. Catching up pays for it: it waits until the window has room again.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Bytes in flight beyond the window, for live data: as many as a connection may begin with after RFC 9002, section 7.2.
const EXTRA: u64 = 14_720;
/// A window from which on quinn does not pace. Its pacer would let a live packet wait for the tokens of ten.
const UNPACED: u64 = 1 << 33;

/// Makes [`LiveFirst`] around what another factory makes.
pub(super) struct LiveFirstConfig(pub(super) Arc<dyn ControllerFactory + Send + Sync>);

impl ControllerFactory for LiveFirstConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.0).build(now, mtu);
        Box::new(LiveFirst { inner, unsent: Unsent::default(), in_flight: 0 })
    }
}

/// Live bytes that were written to a connection's streams and are not sent. As its streams have the highest priority, the
/// next packets carry them.
#[derive(Clone, Default)]
pub(super) struct Unsent(Arc<AtomicU64>);

impl Unsent {
    /// Of a connection's present path.
    pub(super) fn of(connection: &quinn::Connection) -> Self {
        let controller = connection.congestion_state().into_any().downcast::<LiveFirst>();
        controller.map(|controller| controller.unsent).unwrap_or_default()
    }

    /// Live bytes were written.
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Relaxed);
    }

    /// True once the path is gone, because the client's address changed.
    pub(super) fn is_stale(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// A congestion controller that steps aside for live data.
struct LiveFirst {
    inner: Box<dyn Controller>,
    unsent: Unsent,
    /// Bytes sent and neither acknowledged nor lost; exact after each acknowledgement.
    in_flight: u64,
}

impl Controller for LiveFirst {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.in_flight += bytes;
        let sent = |unsent: u64| Some(unsent.saturating_sub(bytes));
        let _ = self.unsent.0.fetch_update(Relaxed, Relaxed, sent);
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.in_flight = in_flight;
        self.inner.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
        // What was lost may be live. RFC 9002, section 7.3.2: a packet may go before the window is reduced.
        self.unsent.0.fetch_max(lost_bytes.min(1), Relaxed);
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let window = self.inner.window();
        let waits = self.unsent.0.load(Relaxed) > 0;
        if waits && self.in_flight < window + EXTRA { UNPACED } else { window }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), unsent: self.unsent.clone(), in_flight: self.in_flight })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use quinn::congestion::CubicConfig;

    use super::*;

    const WINDOW: u64 = 20_000;
    const PACKET: u64 = 1_200;

    /// A controller whose window is full, and the count that its connection's streams add to.
    fn full() -> (Box<dyn Controller>, Unsent) {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(WINDOW);
        let mut controller = Arc::new(LiveFirstConfig(Arc::new(cubic))).build(Instant::now(), PACKET as u16);
        send(&mut *controller, WINDOW);
        let copy = controller.clone_box().into_any().downcast::<LiveFirst>();
        (controller, copy.map(|copy| copy.unsent).unwrap_or_default())
    }

    fn send(controller: &mut dyn Controller, bytes: u64) {
        controller.on_sent(Instant::now(), bytes, 0);
    }

    #[test]
    fn only_live_data_goes_beyond_a_full_window() {
        let (mut controller, unsent) = full();
        assert_eq!(controller.window(), WINDOW);
        unsent.add(PACKET as usize + 1);
        for _ in 0..2 {
            assert!(controller.window() > WINDOW + PACKET);
            send(&mut *controller, PACKET);
        }
        assert_eq!(controller.window(), WINDOW, "the live bytes are sent");
    }

    #[test]
    fn live_data_has_a_limit_of_its_own_until_acknowledgements_come() {
        let (mut controller, unsent) = full();
        unsent.add(1 << 20);
        let mut beyond = 0;
        while controller.window() > WINDOW {
            send(&mut *controller, PACKET);
            beyond += PACKET;
            assert!(beyond < EXTRA + PACKET);
        }
        assert!(beyond >= EXTRA);
        controller.on_end_acks(Instant::now(), WINDOW, false, None);
        assert!(controller.window() > WINDOW);
    }

    #[test]
    fn one_packet_goes_at_once_after_a_loss() {
        let (mut controller, _unsent) = full();
        let now = Instant::now();
        controller.on_congestion_event(now, now, false, PACKET);
        let reduced = WINDOW * 7 / 10;
        assert!(controller.window() > WINDOW);
        send(&mut *controller, PACKET);
        assert_eq!(controller.window(), reduced);
    }

    #[test]
    fn a_count_is_stale_when_its_controller_is_gone() {
        let (controller, unsent) = full();
        assert!(!unsent.is_stale());
        drop(controller);
        assert!(unsent.is_stale());
    }
}
