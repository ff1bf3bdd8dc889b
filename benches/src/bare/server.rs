//! The forwarder process: one thread, one endpoint, a task per stream.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::wire::{ACK, ALPN, READY, Role, Splitter};
use crate::transport;

/// Streams of receivers whose sender has not come yet, by pair.
type Receivers = Arc<Mutex<HashMap<u32, Vec<SendStream>>>>;

/// Listens on loopback, says where on standard output, and serves until standard input closes.
pub(crate) fn run() -> Result<()> {
    super::runtime()?.block_on(serve())
}

async fn serve() -> Result<()> {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = identity.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    let pin = transport::fingerprint(&certificate);
    let config = transport::server_config(certificate, key.into(), ALPN)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoint = transport::endpoint(address, Some(config))?;
    let pin: String = pin.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {pin}", endpoint.local_addr()?);
    io::stdout().flush()?;
    exit_with_parent();

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

/// A harness that is killed must not leave the forwarder behind.
fn exit_with_parent() {
    std::thread::spawn(|| {
        // Standard input never carries anything: reading it ends when the parent does.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}

async fn serve_connection(connection: &Connection, receivers: &Receivers) -> Result<()> {
    while let Ok((mut to, mut from)) = connection.accept_bi().await {
        let mut header = [0; Role::LEN];
        from.read_exact(&mut header).await?;
        to.write_all(&[READY]).await?;
        match Role::decode(header)? {
            Role::Receiver(pair) => {
                receivers.lock().unwrap_or_else(PoisonError::into_inner).entry(pair).or_default().push(to);
            }
            Role::Sender(pair) => {
                let mut receivers = receivers.lock().unwrap_or_else(PoisonError::into_inner);
                let receivers = receivers.remove(&pair).context("a sender connected before its receiver")?;
                tokio::spawn(forward(from, receivers));
            }
            Role::Ingest => {
                tokio::spawn(acknowledge(from, to));
            }
        }
    }
    Ok(())
}

/// Moves every frame on to all; ends with any of the streams, whose owner notices missing messages.
async fn forward(mut from: RecvStream, mut to: Vec<SendStream>) -> Result<()> {
    let (mut splitter, mut frames, mut copy) = (Splitter::default(), Vec::new(), Vec::new());
    while let Some(chunk) = from.read_chunk(usize::MAX, true).await? {
        splitter.push(chunk.bytes, &mut frames)?;
        for receiver in &mut to {
            // Writing moves the chunks out; what they share is counted, not copied.
            copy.clone_from(&frames);
            receiver.write_all_chunks(&mut copy).await?;
        }
        frames.clear();
    }
    to.iter_mut().try_for_each(SendStream::finish)?;
    Ok(())
}

/// Answers every frame with the start of its payload.
async fn acknowledge(mut from: RecvStream, mut to: SendStream) -> Result<()> {
    let (mut splitter, mut frames) = (Splitter::default(), Vec::<Bytes>::new());
    let mut answers = Vec::new();
    while let Some(chunk) = from.read_chunk(usize::MAX, true).await? {
        splitter.push(chunk.bytes, &mut frames)?;
        for frame in frames.drain(..) {
            answers.push(ACK as u8);
            answers.extend_from_slice(frame.get(1..=ACK).context("a frame without a number")?);
        }
        to.write_all(&answers).await?;
        answers.clear();
    }
    Ok(to.finish()?)
}
