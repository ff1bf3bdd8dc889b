//! A relay that has something to lose while others break the rules.

use anyhow::{Result, ensure};
use quip_protocol::ConversationId;

use crate::{
    raw::{Raw, RawStream},
    relay::Relay,
    talk::room,
};

/// A relay with a room, `calm:room`, of ten messages, and someone in it who must not notice anything.
#[derive(Debug)]
pub struct Calm {
    /// The relay.
    pub relay: Relay,
    witness: Raw,
    stream: RawStream,
    room: ConversationId,
    n: u64,
}

impl Calm {
    /// Starts it with these lines in its config file.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn new(config: &str) -> Result<Self> {
        let relay = Relay::with(config)?;
        let witness = Raw::login(&relay, "witness").await?;
        let (stream, opening) = witness.enter(&room("calm:room")).await?;
        let mut calm = Self { relay, witness, stream, room: opening.id, n: 1 };
        for _ in 0..10 {
            calm.still().await?;
        }
        Ok(calm)
    }

    /// The witness can post and is answered at once.
    ///
    /// # Errors
    /// When something else comes.
    pub async fn still(&mut self) -> Result<()> {
        self.n += 1;
        let accepted = self.stream.post_accepted(self.n, "still here").await?;
        ensure!(accepted.seq == self.n, "somebody else is in the room: {accepted:?}");
        Ok(())
    }

    /// Everything that was stored is still there, and the relay ends well.
    ///
    /// # Errors
    /// When not.
    pub async fn whole(mut self) -> Result<()> {
        self.still().await?;
        let history = self.witness.history(self.room).await?;
        ensure!(history.len() as u64 == self.n, "{} of {} events", history.len(), self.n);
        ensure!(history[1..].iter().all(|event| event.body == b"still here"));
        ensure!(self.relay.terminate()?.success(), "the relay ended badly: {}", self.relay.log());
        ensure!(!self.relay.log().contains("panicked"), "{}", self.relay.log());
        Ok(())
    }
}
