//! A UDP socket of the network, as quinn uses it.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::Net;

/// A socket. It can always be written to: what the way does not take is lost.
#[derive(Debug)]
pub struct Socket {
    pub(super) net: Net,
    pub(super) id: u64,
    /// As the host knows it; a translator may have changed it since.
    pub(super) address: SocketAddr,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.net.send(self.id, transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.net.with(|net| {
            // The socket of a host that died hears nothing any more.
            let Some((_, port)) = net.port(self.id) else { return Poll::Pending };
            let room = bufs.len().min(meta.len()).min(port.queue.len());
            if room == 0 {
                port.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            for ((addr, bytes), (buf, meta)) in port.queue.drain(..room).zip(bufs.iter_mut().zip(meta)) {
                let len = bytes.len().min(buf.len());
                buf[..len].copy_from_slice(&bytes[..len]);
                *meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
            }
            Poll::Ready(Ok(room))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.net.remove(|port| port.socket == self.id);
    }
}

#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
