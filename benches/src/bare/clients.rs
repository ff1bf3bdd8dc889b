//! Clients of the bare forwarder.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use quinn::{Connection, Endpoint, RecvStream, SendStream};

use super::{
    Server,
    wire::{ALPN, READY, Role},
};
use crate::transport;

/// One socket, from which any number of clients connect.
pub(super) struct Clients {
    endpoint: Endpoint,
    server: SocketAddr,
}

/// A connection with its one stream, which the server has accepted.
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
}

impl Clients {
    pub(super) fn new(server: &Server) -> Result<Self> {
        let mut endpoint = transport::endpoint((Ipv4Addr::LOCALHOST, 0).into(), None)?;
        endpoint.set_default_client_config(transport::client_config(server.pin, ALPN, 1)?);
        Ok(Self { endpoint, server: server.address })
    }

    /// The UDP port that all of them have.
    pub(super) fn port(&self) -> Result<u16> {
        Ok(self.endpoint.local_addr()?.port())
    }

    pub(super) async fn open(&self, role: Role) -> Result<Client> {
        let connecting = self.endpoint.connect(self.server, "localhost")?;
        let connection = connecting.await.context("the bare forwarder does not answer")?;
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&role.encode()).await?;
        let mut ready = [0];
        receive.read_exact(&mut ready).await?;
        ensure!(ready == [READY], "the forwarder answered {ready:?}");
        Ok(Client { connection, send, receive })
    }
}
