//! The UDP socket of a connection.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};

/// A socket from which `remote` can be reached.
pub(crate) fn bind(remote: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = match remote {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }?;
    let same = socket.try_clone()?;
    // Turns receive offload on, where there is one.
    let socket = TokioRuntime.wrap_udp_socket(socket)?;
    Ok(if turn_receive_offload_off(&same) { Arc::new(OneByOne(socket)) } else { socket })
}

/// A socket whose kernel never hands out several datagrams as one.
///
/// quinn makes room for as many as there may be: with receive offload 64 times 32 datagrams of 1,472 bytes, 3 MB for each
/// client, without it 47 KB. What is lost is little: 32 datagrams still come with one system call.
#[derive(Debug)]
struct OneByOne(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for OneByOne {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

/// False where there is none to turn off, or it stays on.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn turn_receive_offload_off(socket: &UdpSocket) -> bool {
    use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};
    setsockopt(socket, UdpGroSegment, &false).is_ok()
}

/// Elsewhere it is small (Windows) or there is none (Apple).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn turn_receive_offload_off(_: &UdpSocket) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    async fn send(sender: Arc<dyn AsyncUdpSocket>, transmit: Transmit<'_>) {
        let mut poller = Arc::clone(&sender).create_io_poller();
        loop {
            poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.expect("writable");
            match sender.try_send(&transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.expect("sent"),
            }
        }
    }

    /// With receive offload on, the three would come as one, and all but the first 1,472 bytes be lost.
    #[tokio::test]
    async fn datagrams_that_were_sent_as_one_are_received_one_by_one() {
        let socket = bind(LOOPBACK).expect("a socket");
        let sender = bind(LOOPBACK).expect("another socket");
        let destination = SocketAddr::new(LOOPBACK.ip(), socket.local_addr().expect("an address").port());
        if sender.max_transmit_segments() < 3 {
            eprintln!("skipped: this system does not send several datagrams as one");
            return;
        }
        assert_eq!(socket.max_receive_segments(), 1);
        let contents: Vec<u8> = [1, 2, 3].iter().flat_map(|n| [*n; 1200]).collect();
        send(sender, Transmit { destination, ecn: None, contents: &contents, segment_size: Some(1200), src_ip: None })
            .await;
        let mut received = Vec::new();
        while received.len() < 3 {
            let mut room = vec![[0; 1472]; 8];
            let mut meta = [RecvMeta::default(); 8];
            let mut bufs: Vec<_> = room.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
            let count = poll_fn(|cx| socket.poll_recv(cx, &mut bufs, &mut meta)).await.expect("received");
            drop(bufs);
            received.extend(room.iter().zip(meta).take(count).map(|(buf, meta)| (buf[0], meta.len)));
            let expected = [(1, 1200), (2, 1200), (3, 1200)];
            assert!(expected.starts_with(&received), "{received:?}");
        }
    }
}
