//! The forwarder process: one thread, one endpoint, a task per stream, on either QUIC library.

mod quinn;
mod s2n;

use std::{
    collections::HashMap,
    io::{self, Write},
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use rcgen::CertifiedKey;

use super::{
    Library,
    wire::{ACK, READY, Role, Splitter},
};
use crate::transport;

/// The half of a stream that a client writes.
trait Source: Send + 'static {
    /// The next bytes, or nothing at the end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

/// The half of a stream that a client reads.
trait Sink: Send + 'static {
    /// Moves all chunks out.
    fn write(&mut self, chunks: &mut [Bytes]) -> impl Future<Output = Result<()>> + Send;

    fn finish(&mut self) -> Result<()>;
}

/// Streams of receivers whose sender has not come yet, by pair.
struct Receivers<T>(Arc<Mutex<HashMap<u32, Vec<T>>>>);

/// Listens on loopback, says where on standard output, and serves until standard input closes.
pub(crate) fn run(library: Library) -> Result<()> {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    super::runtime()?.block_on(async {
        match library {
            Library::Quinn => quinn::serve(identity).await,
            Library::S2n => s2n::serve(identity).await,
        }
    })
}

/// Says where clients connect and which certificate they find.
fn announce<K>(address: SocketAddr, identity: &CertifiedKey<K>) -> Result<()>
where
    K: rcgen::SigningKey,
{
    let pin = transport::fingerprint(identity.cert.der());
    let pin: String = pin.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{address} {pin}");
    io::stdout().flush()?;
    exit_with_parent();
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

/// Serves a stream that a client has opened.
async fn serve_stream<T: Sink>(mut from: impl Source, mut to: T, receivers: &Receivers<T>) -> Result<()> {
    let mut header = BytesMut::new();
    while header.len() < Role::LEN {
        header.extend_from_slice(&from.chunk().await?.context("a stream without a header")?);
    }
    to.write(&mut [Bytes::from_static(&[READY])]).await?;
    // A client waits for the answer before it sends more.
    match Role::decode(header[..].try_into().context("more than a header")?)? {
        Role::Receiver(pair) => receivers.add(pair, to),
        Role::Sender(pair) => {
            let receivers = receivers.take(pair).context("a sender connected before its receiver")?;
            tokio::spawn(forward(from, receivers));
        }
        Role::Ingest => {
            tokio::spawn(acknowledge(from, to));
        }
    }
    Ok(())
}

impl<T> Receivers<T> {
    fn add(&self, pair: u32, receiver: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(pair).or_default().push(receiver);
    }

    fn take(&self, pair: u32) -> Option<Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pair)
    }
}

impl<T> Default for Receivers<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Receivers<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Moves every frame on to all; ends with any of the streams, whose owner notices missing messages.
async fn forward(mut from: impl Source, mut to: Vec<impl Sink>) -> Result<()> {
    let (mut splitter, mut frames, mut copy) = (Splitter::default(), Vec::new(), Vec::new());
    while let Some(chunk) = from.chunk().await? {
        splitter.push(chunk, &mut frames)?;
        for receiver in &mut to {
            // Writing moves the chunks out; what they share is counted, not copied.
            copy.clone_from(&frames);
            receiver.write(&mut copy).await?;
        }
        frames.clear();
    }
    to.iter_mut().try_for_each(Sink::finish)
}

/// Answers every frame with the start of its payload.
async fn acknowledge(mut from: impl Source, mut to: impl Sink) -> Result<()> {
    let (mut splitter, mut frames) = (Splitter::default(), Vec::<Bytes>::new());
    let mut answers = Vec::new();
    while let Some(chunk) = from.chunk().await? {
        splitter.push(chunk, &mut frames)?;
        for frame in frames.drain(..) {
            answers.push(ACK as u8);
            answers.extend_from_slice(frame.get(1..=ACK).context("a frame without a number")?);
        }
        to.write(&mut [mem::take(&mut answers).into()]).await?;
    }
    to.finish()
}
