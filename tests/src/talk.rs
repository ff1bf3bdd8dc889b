//! Steps that most conversations of a test begin or end with, on top of [`crate::raw`].

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use quip_protocol::{
    Blob, Code, ConversationId, DeviceId, Event, InstanceId, Message, Retry, RoomName, ToClient, UserId,
    conversation::{Accepted, Ack, End, Opened, Post, Rejected, Start, Target},
    event::kind,
    request::{History, Page},
};
use tokio::time::Instant;

use crate::{
    raw::{OwnedFrame, Raw, RawOptions, RawStream},
    relay::{PATIENCE, Relay},
};

/// What `Opened` said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The conversation.
    pub id: ConversationId,
    /// Identity of the log.
    pub generation: u64,
    /// The oldest event that is kept and visible.
    pub first_kept: u64,
    /// The newest visible one.
    pub head: u64,
    /// The first one to be delivered.
    pub start: u64,
    /// The user's role; 0 = none.
    pub role: u8,
    /// The device's last decided number.
    pub last_n: u64,
    /// The latest outcomes: n, code, seq.
    pub outcomes: Vec<(u64, Code, u64)>,
    /// The read mark.
    pub read: u64,
}

/// One event as it was delivered. An `Accepted` stands for an event whose content the client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its place.
    pub seq: u64,
    /// Who; empty for an `Accepted`.
    pub user: String,
    /// What; 0 for an `Accepted`.
    pub kind: u64,
    /// The content; empty for an `Accepted`.
    pub body: Vec<u8>,
    /// The number that an `Accepted` answers.
    pub n: Option<u64>,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `Accepted`, in the event's place.
    Accepted(Accepted),
    /// `Ack`.
    Ack(Ack),
    /// `Rejected`.
    Rejected(Rejected),
}

impl Answer {
    /// The code of a refusal; `DONE` otherwise.
    pub fn code(&self) -> Code {
        match self {
            Self::Rejected(rejected) => rejected.code,
            _ => Code::DONE,
        }
    }

    /// The number that is answered.
    pub fn n(&self) -> u64 {
        match self {
            Self::Accepted(accepted) => accepted.n,
            Self::Ack(ack) => ack.n,
            Self::Rejected(rejected) => rejected.n,
        }
    }
}

/// A room by its name.
///
/// # Panics
/// When it is none.
pub fn room(name: &str) -> Target<'_> {
    Target::Room(RoomName::parse(name).expect("a room's name"))
}

/// The direct conversation with a user.
///
/// # Panics
/// When it is no user id.
pub fn direct(user: &str) -> Target<'static> {
    Target::Direct(UserId::parse(user).expect("a user id"))
}

/// From the first event that is kept.
pub const FROM_THE_START: Start = Start::After { generation: 0, seq: 0 };

/// Tries again until `check` is true.
///
/// # Errors
/// When that takes too long, or `check` fails.
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !check().await? {
        ensure!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

impl OwnedFrame {
    /// What `Opened` said.
    ///
    /// # Errors
    /// When it is another message.
    pub fn opened(&self) -> Result<Opening> {
        let opened = self.to::<Opened<'_>>().with_context(|| format!("instead of Opened came {self:?}"))?;
        Ok(Opening {
            id: opened.conversation,
            generation: opened.generation,
            first_kept: opened.first_kept,
            head: opened.head,
            start: opened.start,
            role: opened.role,
            last_n: opened.last_n,
            outcomes: opened.outcomes.iter().map(|outcome| (outcome.n, outcome.code, outcome.seq)).collect(),
            read: opened.read,
        })
    }

    /// Code and info of an `End`.
    ///
    /// # Errors
    /// When it is another message.
    pub fn end(&self) -> Result<(Code, u64)> {
        let end = self.to::<End<'_>>().with_context(|| format!("instead of End came {:?}", self.message()))?;
        Ok((end.code, end.info))
    }

    /// The event, or the `Accepted` in its place.
    pub fn seen(&self) -> Option<Seen> {
        let event = |event: Event<'_>| Seen {
            seq: event.seq,
            user: event.user.to_owned(),
            kind: event.kind,
            body: event.body.0.to_owned(),
            n: None,
        };
        let accepted = |accepted: Accepted| Seen {
            seq: accepted.seq,
            user: String::new(),
            kind: 0,
            body: Vec::new(),
            n: Some(accepted.n),
        };
        self.to::<Event<'_>>().map(event).or_else(|| self.to::<Accepted>().map(accepted))
    }

    /// The answer to a command.
    pub fn answer(&self) -> Option<Answer> {
        match self.message().ok()? {
            ToClient::Accepted(accepted) => Some(Answer::Accepted(accepted)),
            ToClient::Ack(ack) => Some(Answer::Ack(ack)),
            ToClient::Rejected(rejected) => Some(Answer::Rejected(rejected)),
            _ => None,
        }
    }
}

impl Raw {
    /// Connects and says hello with this device and a new instance.
    ///
    /// # Errors
    /// When the relay does not welcome the user.
    pub async fn login_as(relay: &Relay, user: &str, device: u8, options: RawOptions) -> Result<Self> {
        let mut raw = Self::connect_with(relay, options).await?;
        raw.hello(&relay.token(user)?, DeviceId([device; 16]), InstanceId(rand::random())).await?;
        Ok(raw)
    }

    /// The next message of type `M` on the session stream, passing over others.
    ///
    /// # Errors
    /// When the connection ends or nothing comes in time.
    pub async fn told<M: Message>(&mut self) -> Result<OwnedFrame> {
        let session = self.session.as_mut().context("no hello was said")?;
        loop {
            let frame = session.frame().await?;
            if frame.kind == M::TYPE {
                return Ok(frame);
            }
        }
    }

    /// Opens and joins with n = 1, and takes the event of the joining where it is shown.
    ///
    /// # Errors
    /// When the relay refuses.
    pub async fn enter(&self, target: &Target<'_>) -> Result<(RawStream, Opening)> {
        let (mut stream, first) = self.open(target, 1, Start::Now).await?;
        let opening = first.opened()?;
        if opening.head >= opening.start {
            stream.seen().await?;
        }
        Ok((stream, opening))
    }

    /// Opens without joining.
    ///
    /// # Errors
    /// When the relay refuses.
    pub async fn reopen(&self, target: &Target<'_>, start: Start) -> Result<(RawStream, Opening)> {
        let (stream, first) = self.open(target, 0, start).await?;
        let opening = first.opened()?;
        Ok((stream, opening))
    }

    /// Why an open is refused.
    ///
    /// # Errors
    /// When it is not.
    pub async fn refused(&self, target: &Target<'_>, join: u64, start: Start) -> Result<(Code, u64)> {
        let (mut stream, first) = self.open(target, join, start).await?;
        let end = first.end()?;
        ensure!(stream.try_frame().await?.is_none(), "a frame after End");
        Ok(end)
    }

    /// A request's answer: the frames, and code and info of its end.
    ///
    /// # Errors
    /// When the stream ends otherwise.
    pub async fn ask<M: Message>(&self, request: &M) -> Result<(Vec<OwnedFrame>, (Code, u64))> {
        let mut stream = self.stream().await?;
        stream.send(request).await?;
        let mut frames = Vec::new();
        while let Some(frame) = stream.try_frame().await? {
            frames.push(frame);
        }
        let last = frames.pop().context("an answer without an end")?;
        Ok((frames, last.end()?))
    }

    /// Everything that the user may read of a conversation, by pages of history; it must be without holes. Waits where the
    /// rate has no room.
    ///
    /// # Errors
    /// When a page is refused or has a hole.
    pub async fn history(&self, conversation: ConversationId) -> Result<Vec<Seen>> {
        let mut events: Vec<Seen> = Vec::new();
        loop {
            let from = events.last().map_or(0, |event| event.seq);
            let (frames, end) = self.ask(&History { conversation, forward: true, from, limit: 1000 }).await?;
            if end.0 == Code::RATE {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            let head = frames.first().and_then(OwnedFrame::to::<Page>).with_context(|| format!("no page: {end:?}"))?;
            for frame in &frames[1..] {
                let event = frame.seen().context("not an event")?;
                let expected = events.last().map_or(head.first, |last| last.seq + 1);
                ensure!(event.seq == expected, "history has {} where {expected} belongs", event.seq);
                events.push(event);
            }
            match end {
                (Code::DONE, 0) => return Ok(events),
                (Code::DONE, 1) => {}
                other => bail!("a page ended with {other:?}"),
            }
        }
    }
}

impl RawStream {
    /// The next event, or the `Accepted` in its place; anything else is a failure.
    ///
    /// # Errors
    /// When something else comes.
    pub async fn seen(&mut self) -> Result<Seen> {
        let frame = self.frame().await?;
        frame.seen().with_context(|| format!("instead of an event came {:?}", frame.message()))
    }

    /// The answer to a command, passing over events.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn answer(&mut self) -> Result<Answer> {
        loop {
            if let Some(answer) = self.frame().await?.answer() {
                return Ok(answer);
            }
        }
    }

    /// Sends a command and returns its answer, passing over events.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn command<M: Message>(&mut self, command: &M) -> Result<Answer> {
        self.send(command).await?;
        self.answer().await
    }

    /// Sends a command until it is accepted, again where it is refused for now.
    ///
    /// # Errors
    /// When it is refused for good.
    pub async fn done<M: Message>(&mut self, command: &M) -> Result<()> {
        loop {
            match self.command(command).await? {
                Answer::Rejected(rejected) if rejected.code.retry() == Retry::Later => {
                    tokio::time::sleep(Duration::from_millis(rejected.retry_after)).await;
                }
                Answer::Rejected(rejected) => bail!("refused: {rejected:?}"),
                _ => return Ok(()),
            }
        }
    }

    /// Posts bytes as data.
    ///
    /// # Errors
    /// When the stream or connection is gone.
    pub async fn data(&mut self, n: u64, body: &[u8]) -> Result<()> {
        self.send(&Post { n, kind: kind::DATA, body: Blob(body) }).await
    }

    /// Everything up to the relay's end of the stream: the last frame must be an `End`, whose code is returned.
    ///
    /// # Errors
    /// When there is none.
    pub async fn rest(&mut self) -> Result<(Vec<OwnedFrame>, Code)> {
        let mut frames = Vec::new();
        while let Some(frame) = self.try_frame().await? {
            frames.push(frame);
        }
        let (code, _) = frames.pop().context("the stream ended without a word")?.end()?;
        Ok((frames, code))
    }
}
