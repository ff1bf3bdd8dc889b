//! Handshakes without a protocol: what one costs a bare QUIC server.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use quinn::{Connection, Endpoint, VarInt};

use super::{Server, wire::ALPN};
use crate::transport;

/// One socket, from which any number of clients connect, see [`transport::crowd_config`].
#[derive(Clone)]
pub(crate) struct Handshakes {
    endpoint: Endpoint,
    server: SocketAddr,
}

impl Handshakes {
    pub(crate) fn new(server: &Server) -> Result<Self> {
        let mut endpoint = transport::endpoint((Ipv4Addr::LOCALHOST, 0).into(), None)?;
        endpoint.set_default_client_config(transport::crowd_config(server.pin, ALPN, 1)?);
        Ok(Self { endpoint, server: server.address })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.endpoint.connect(self.server, "localhost")?.await.context("the bare forwarder does not answer")
    }

    pub(crate) async fn close(self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
        self.endpoint.wait_idle().await;
    }
}
