//! The forwarder on quinn, the relay's library.

use std::net::Ipv4Addr;

use anyhow::Result;
use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rcgen::{CertifiedKey, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::{Receivers, Sink, Source};
use crate::{bare::wire::ALPN, transport};

pub(super) async fn serve(identity: CertifiedKey<KeyPair>) -> Result<()> {
    let key = PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    let config = transport::server_config(identity.cert.der().clone(), key.into(), ALPN)?;
    let endpoint = transport::endpoint((Ipv4Addr::LOCALHOST, 0).into(), Some(config))?;
    super::announce(endpoint.local_addr()?, &identity)?;

    let receivers = Receivers::default();
    while let Some(incoming) = endpoint.accept().await {
        let receivers = receivers.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            if let Err(error) = serve_connection(&connection, &receivers).await {
                eprintln!("bare forwarder: {error:#}");
                connection.close(VarInt::from_u32(1), b"");
            }
        });
    }
    Ok(())
}

async fn serve_connection(connection: &Connection, receivers: &Receivers<SendStream>) -> Result<()> {
    while let Ok((to, from)) = connection.accept_bi().await {
        super::serve_stream(from, to, receivers).await?;
    }
    Ok(())
}

impl Source for RecvStream {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        Ok(self.read_chunk(usize::MAX, true).await?.map(|chunk| chunk.bytes))
    }
}

impl Sink for SendStream {
    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<()> {
        Ok(self.write_all_chunks(chunks).await?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(SendStream::finish(self)?)
    }
}
