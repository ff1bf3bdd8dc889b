//! Users who write, and remember exactly what they were told was accepted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Blob, Event, ToClient, UserId,
    conversation::{Opened, Post, Start, Target},
    event::kind,
    request::{History, Page},
};

use crate::{
    raw::{Raw, RawStream},
    relay::Relay,
};

/// A user who writes into a direct conversation of their own.
#[derive(Debug)]
pub struct Writer {
    user: String,
    /// Send number and seq of everything that was accepted.
    accepted: Vec<(u64, u64)>,
    progress: Arc<AtomicUsize>,
}

/// What writers may have unanswered.
const WINDOW: u64 = 16;

impl Writer {
    /// A user by number.
    pub fn new(number: usize) -> Self {
        Self { user: format!("writer-{number}"), accepted: Vec::new(), progress: Arc::default() }
    }

    /// How many messages were accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// The same, to look at while it writes.
    pub fn progress(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.progress)
    }

    fn target(&self) -> Result<Target<'static>> {
        Ok(Target::Direct(UserId::parse(&format!("{}-friend", self.user))?))
    }

    /// Writes until the relay is gone.
    ///
    /// # Errors
    /// When the relay has forgotten something that it accepted.
    pub async fn write(&mut self, relay: &Relay) -> Result<()> {
        let Ok(client) = Raw::login(relay, &self.user).await else { return Ok(()) };
        let target = self.target()?;
        let join = u64::from(self.accepted.is_empty());
        let Ok((mut stream, first)) = client.open(&target, join, Start::Now).await else { return Ok(()) };
        let Some(opened) = first.to::<Opened<'_>>() else {
            ensure!(self.accepted.is_empty(), "{} had messages accepted and cannot open: {first:?}", self.user);
            return Ok(());
        };
        let last = self.accepted.last().map_or(0, |(n, _)| *n);
        ensure!(opened.last_n >= last, "{}: n {last} was accepted, and the relay knows {}", self.user, opened.last_n);
        // Until the relay is gone; everything told before that counts.
        let _ = self.post(&mut stream, opened.last_n + 1).await;
        Ok(())
    }

    async fn post(&mut self, stream: &mut RawStream, mut next: u64) -> Result<()> {
        let mut answered = next - 1;
        loop {
            while next <= answered + WINDOW {
                let body = body(&self.user, next);
                stream.send(&Post { n: next, kind: kind::DATA, body: Blob(&body) }).await?;
                next += 1;
            }
            let frame = stream.frame().await?;
            let (n, seq) = match frame.message()? {
                ToClient::Accepted(accepted) => (accepted.n, accepted.seq),
                ToClient::Ack(ack) => (ack.n, ack.seq),
                _ => continue,
            };
            answered = answered.max(n);
            self.accepted.push((n, seq));
            self.progress.store(self.accepted.len(), Ordering::Relaxed);
        }
    }

    /// Reads everything back and compares.
    ///
    /// # Errors
    /// When anything that was accepted is missing, elsewhere or different.
    pub async fn verify(&self, relay: &Relay) -> Result<()> {
        let Some((_, last)) = self.accepted.last() else { return Ok(()) };
        let client = Raw::login(relay, &self.user).await?;
        let (_stream, first) = client.open(&self.target()?, 0, Start::Now).await?;
        let opened = first.to::<Opened<'_>>().with_context(|| format!("{} cannot open: {first:?}", self.user))?;
        ensure!(opened.head >= *last, "{}: seq {last} was accepted, the head is {}", self.user, opened.head);
        let mut accepted = self.accepted.iter().copied().peekable();
        let mut seq = 0;
        while seq < opened.head {
            let mut request = client.stream().await?;
            let ask = History { conversation: opened.conversation, forward: true, from: seq, limit: 100 };
            request.send(&ask).await?;
            let page = request.frame().await?.to::<Page>().context("a page")?;
            ensure!(page.count > 0, "{}: nothing after seq {seq} of {}", self.user, opened.head);
            for _ in 0..page.count {
                let frame = request.frame().await?;
                let event = frame.to::<Event<'_>>().context("an event")?;
                ensure!(event.seq == seq + 1, "{}: seq {} follows {seq}", self.user, event.seq);
                seq = event.seq;
                if let Some((n, _)) = accepted.next_if(|(_, at)| *at == seq) {
                    ensure!(event.body.0 == body(&self.user, n), "{}: other bytes at seq {seq}", self.user);
                }
            }
        }
        ensure!(accepted.peek().is_none(), "{}: {:?} is missing", self.user, accepted.peek());
        Ok(())
    }
}

/// The content that a user gives to a number: 32 bytes to 16 KiB, most of them short.
fn body(user: &str, n: u64) -> Vec<u8> {
    let seed = blake3::hash(format!("{user} {n}").as_bytes());
    let draw = u64::from(u16::from_le_bytes([seed.as_bytes()[0], seed.as_bytes()[1]]));
    let size = if draw % 8 == 0 { 16 << 10 } else { 32 + draw % 400 };
    let mut body = vec![0; size as usize];
    blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof().fill(&mut body);
    body
}
