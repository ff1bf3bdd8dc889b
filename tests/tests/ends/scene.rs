//! A relay, a group, and commands that have it open.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quip_protocol::{
    Blob, Code, ConversationId,
    conversation::{Add, Post, Target},
    event::kind,
    request::PresenceIn,
    session::{Presence, presence},
};
use quip_tests::{
    raw::{Raw, RawOptions, RawStream},
    relay::Relay,
    talk::{Answer, Seen},
};

use super::quip::{How, Quip, line};

/// The user whose command ends. Each command has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Tail,
    Send,
    /// With pipes.
    Chat,
    /// On a terminal.
    Screen,
}

pub(super) const ALL: [Command; 4] = [Command::Tail, Command::Send, Command::Chat, Command::Screen];

impl Command {
    pub(super) fn user(self) -> String {
        format!("{self:?}")
    }

    pub(super) fn args(self, group: &str) -> Vec<&str> {
        match self {
            Self::Tail => vec!["tail", group, "--from", "beginning"],
            Self::Send => vec!["send", group, "-"],
            Self::Chat | Self::Screen => vec!["chat", group],
        }
    }
}

/// A relay, and a group of all who run commands.
pub(super) struct Scene {
    pub(super) relay: Relay,
    owner: Raw,
    /// The owner's, with the next number.
    pub(super) stream: RawStream,
    pub(super) n: u64,
    pub(super) id: ConversationId,
    pub(super) group: String,
}

impl Scene {
    pub(super) async fn new(config: &str) -> Result<Self> {
        let relay = Relay::with(config)?;
        let alive = RawOptions { keepalive: Some(Duration::from_millis(200)), ..RawOptions::default() };
        let owner = Raw::login_as(&relay, "owner", 1, alive).await?;
        let id = ConversationId::group(rand::random());
        let (mut stream, _) = owner.enter(&Target::NewGroup(id)).await?;
        for (n, command) in (2..).zip(ALL) {
            stream.done(&Add { n, user: &command.user() }).await?;
        }
        let n = 2 + ALL.len() as u64;
        Ok(Self { relay, owner, stream, id, group: id.to_string(), n })
    }

    /// A command that has opened the group. `login`: how, unless by the relay's own key.
    pub(super) async fn start(&self, command: Command, closes: bool, login: &[&str]) -> Result<Quip> {
        let how = match command {
            Command::Screen => How::Terminal,
            _ if closes => How::Unread,
            _ => How::Read,
        };
        let mut args = line(&self.relay, &command.user(), &command.args(&self.group));
        if login.contains(&"--token") {
            args.truncate(args.len() - 2);
        }
        args.extend(login.iter().map(|arg| (*arg).to_owned()));
        let mut quip = Quip::start(&args, how)?;
        if command == Command::Send {
            quip.input(b"first\n")?;
        }
        quip.until("any output", || !quip.output().is_empty()).await.with_context(|| format!("{command:?}"))?;
        ensure!(quip.is_raw()? == (command == Command::Screen), "{command:?}");
        Ok(quip)
    }

    /// The seq of a text that the owner sends.
    pub(super) async fn post(&mut self, text: &str) -> Result<u64> {
        self.n += 1;
        match self.stream.command(&Post { n: self.n - 1, kind: kind::TEXT, body: Blob(text.as_bytes()) }).await? {
            Answer::Accepted(accepted) => Ok(accepted.seq),
            other => bail!("{other:?}"),
        }
    }

    /// The texts of the group.
    pub(super) async fn texts(&self) -> Result<Vec<String>> {
        let texts = self.owner.history(self.id).await?.into_iter().filter(|event| event.kind == kind::TEXT);
        texts.map(|Seen { body, .. }| Ok(String::from_utf8(body)?)).collect()
    }

    /// What others see of a user.
    pub(super) async fn state_of(&self, user: &str) -> Result<u8> {
        let query = PresenceIn { conversation: self.id, after: "", limit: 100 };
        let frames = loop {
            match self.owner.ask(&query).await? {
                (frames, (Code::DONE, _)) => break frames,
                (_, (Code::RATE, _)) => tokio::time::sleep(Duration::from_millis(50)).await,
                (_, end) => bail!("{end:?}"),
            }
        };
        let mut states = frames.iter().filter_map(|frame| frame.to::<Presence<'_>>());
        states.find(|presence| presence.user == user).map(|presence| presence.state).context("a member")
    }

    /// A goodbye shows at once, and its absence only after the idle timeout, which is far longer.
    pub(super) async fn is_offline_at_once(&self, user: &str) -> Result<()> {
        let since = Instant::now();
        while self.state_of(user).await? != presence::OFFLINE {
            ensure!(since.elapsed() < AT_ONCE, "{user} is still online");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// The idle timeout is 30 s.
const AT_ONCE: Duration = Duration::from_secs(4);
