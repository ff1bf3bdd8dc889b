//! One ordered byte stream through the link, over QUIC and over TCP. Both queue little in front of the congestion window, so
//! that newly written bytes are sent soon.

use std::{
    io,
    net::{TcpListener as StdListener, TcpStream as StdStream},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::{Context as _, Result};
use quinn::{Connection, SendStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    mux::{End, Ends},
    stage::Stage,
};
use crate::transport;

const ALPN: &[u8] = b"quip-mux";
/// Bytes queued for the congestion window: two packets, so that there is always one to send, and at 200 KB/s a quiet message
/// waits at most 12 ms for earlier bytes.
pub(super) const UNSENT: u32 = 2 * 1200;

/// A QUIC connection through the link with one stream.
pub(super) async fn one_stream(stage: &Stage<'_>) -> Result<Ends> {
    let (certificate, key) = identity()?;
    let pin = transport::fingerprint(&certificate);
    let server = transport::endpoint_within(&stage.link.far, Some(transport::server_config(certificate, key, ALPN)?))?;
    let mut client = transport::endpoint_within(&stage.link.near, None)?;
    client.set_default_client_config(transport::client_config(pin, ALPN, super::QUIET + 1)?);
    let accept = async { anyhow::Ok(server.accept().await.ok_or_else(|| io::Error::other("closed"))?.await?) };
    let connect = async { anyhow::Ok(client.connect(server.local_addr()?, "localhost")?.await?) };
    let (far, near) = tokio::try_join!(accept, connect)?;
    let (mut near_write, near_read) = near.open_bi().await?;
    // The other end sees a stream with its first byte.
    near_write.write_all(&[0]).await?;
    let (far_write, mut far_read) = far.accept_bi().await?;
    far_read.read_exact(&mut [0]).await?;
    Ok(Ends {
        near: End { read: Box::new(near_read), write: Box::new(near_write) },
        far: End {
            read: Box::new(far_read),
            write: Box::new(LeanStream { stream: far_write, connection: far.clone() }),
        },
        alive: Box::new((client, server, near, far)),
    })
}

/// A TCP connection through the link with TLS 1.3 and the named congestion control of the kernel. The far end writes at most
/// `unsent` bytes ahead, or without a limit until the kernel's buffer is full.
pub(super) async fn tcp(stage: &Stage<'_>, congestion: &str, unsent: Option<u32>) -> Result<Ends> {
    let (certificate, key) = identity()?;
    let pin = transport::fingerprint(&certificate);
    let (near, far) = connected(stage)?;
    for socket in [SockRef::from(&near), SockRef::from(&far)] {
        let set = socket.set_tcp_congestion(congestion.as_bytes());
        set.with_context(|| format!("the kernel has no congestion control {congestion}"))?;
    }
    if let Some(unsent) = unsent {
        SockRef::from(&far).set_tcp_notsent_lowat(unsent)?;
    }
    let acceptor = TlsAcceptor::from(Arc::new(transport::server_tls(certificate, key, ALPN)?));
    let connector = TlsConnector::from(Arc::new(transport::client_tls(pin, ALPN)?));
    let name = ServerName::try_from("localhost")?;
    let (mut far, near) = tokio::try_join!(acceptor.accept(LeanSocket(far)), connector.connect(name, near))?;
    far.flush().await?;
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    Ok(Ends {
        near: End { read: Box::new(near_read), write: Box::new(near_write) },
        far: End { read: Box::new(far_read), write: Box::new(far_write) },
        alive: Box::new(()),
    })
}

fn connected(stage: &Stage<'_>) -> Result<(TcpStream, TcpStream)> {
    let (near, far) = (&stage.link.near, &stage.link.far);
    let listener = far.run(|| StdListener::bind((far.address(), 0)))??;
    let address = listener.local_addr()?;
    let client = near.run(|| StdStream::connect(address))??;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
    }
    Ok((TcpStream::from_std(client)?, TcpStream::from_std(server)?))
}

fn identity() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    Ok((identity.cert.der().clone(), key.into()))
}

/// A QUIC stream that accepts little more than the congestion window allows.
struct LeanStream {
    stream: SendStream,
    connection: Connection,
}

impl AsyncWrite for LeanStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let window = self.connection.stats().path.cwnd + u64::from(UNSENT);
        self.connection.set_send_window(window);
        AsyncWrite::poll_write(Pin::new(&mut self.stream), context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A TCP socket that accepts bytes only while the kernel reports it writable, that is with less than `TCP_NOTSENT_LOWAT`
/// unsent. A plain write would fill the whole buffer.
struct LeanSocket(TcpStream);

impl AsyncWrite for LeanSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            let written = self.0.try_io(Interest::WRITABLE, || {
                if !has_room(&self.0)? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(rustix::io::write(&self.0, bytes)?)
            });
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl AsyncRead for LeanSocket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

/// Asks the kernel about the socket; tokio caches readiness until a write fails.
fn has_room(socket: &TcpStream) -> io::Result<bool> {
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(!polled[0].revents().is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

    use super::*;

    /// Writes until the socket is full, and then reads everything; returns the number of bytes.
    async fn taken(unsent: Option<u32>) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut reader, accepted) =
            tokio::try_join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept()).unwrap();
        if let Some(unsent) = unsent {
            SockRef::from(&accepted.0).set_tcp_notsent_lowat(unsent).unwrap();
        }
        SockRef::from(&reader).set_recv_buffer_size(64 * 1024).unwrap();
        let mut writer = LeanSocket(accepted.0);
        let (mut taken, wait) = (0, std::time::Duration::from_millis(200));
        while let Ok(written) = timeout(wait, writer.write(&[7; 1000])).await {
            taken += written.unwrap();
        }
        // The writer continues once the other side has read.
        let (more, _) = tokio::join!(writer.write_all(&[7; 1000]), async {
            let mut all = vec![0; taken];
            reader.read_exact(&mut all).await.unwrap();
        });
        more.unwrap();
        taken
    }

    #[tokio::test]
    async fn a_lean_socket_takes_little_and_goes_on_when_there_is_room() {
        let (lean, full) = (taken(Some(UNSENT)).await, taken(None).await);
        assert!(lean + 100_000 < full, "{lean} bytes lean, {full} full");
    }
}
