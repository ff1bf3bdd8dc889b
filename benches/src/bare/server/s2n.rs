//! The forwarder on s2n-quic.

use anyhow::Result;
use bytes::Bytes;
use rcgen::{CertifiedKey, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use s2n_quic::{
    Connection,
    stream::{ReceiveStream, SendStream},
};

use super::{Receivers, Sink, Source};
use crate::{bare::wire::ALPN, transport};

pub(super) async fn serve(identity: CertifiedKey<KeyPair>) -> Result<()> {
    let key = PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    let mut server = transport::s2n_server(identity.cert.der().clone(), key.into(), ALPN)?;
    super::announce(server.local_addr()?, &identity)?;

    let receivers = Receivers::default();
    while let Some(mut connection) = server.accept().await {
        let receivers = receivers.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_connection(&mut connection, &receivers).await {
                eprintln!("bare forwarder: {error:#}");
                connection.close(1_u8.into());
            }
        });
    }
    Ok(())
}

async fn serve_connection(connection: &mut Connection, receivers: &Receivers<SendStream>) -> Result<()> {
    while let Ok(Some(stream)) = connection.accept_bidirectional_stream().await {
        let (from, to) = stream.split();
        super::serve_stream(from, to, receivers).await?;
    }
    Ok(())
}

impl Source for ReceiveStream {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        Ok(self.receive().await?)
    }
}

impl Sink for SendStream {
    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<()> {
        Ok(self.send_vectored(chunks).await?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(SendStream::finish(self)?)
    }
}
