//! `quip chat`.

use std::{collections::VecDeque, future::Future};

use anyhow::bail;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::tz::TimeZone;
use quip_client::{
    Accepted, Client, ClientEvent, Code, ConnectionState, ConversationEvent, OwnedEvent, PresenceState, Receipt,
    ReceiptError, SendError, Sender, Start, UserId, kind,
};
use tokio::sync::watch;

use crate::{
    args::{ChatArgs, Common},
    connect,
    people::people,
    show,
};

mod editor;
mod screen;
mod typed;

use screen::{Input, Screen};
use typed::{HELP, Typed, parse};

/// Shows events and sends typed lines, until the input or the conversation ends.
pub(crate) async fn run(common: &Common, client: &Client, args: &ChatArgs) -> anyhow::Result<()> {
    let mut others = client.events();
    let conversation = connect::open(client, &args.target, Start::Last(RECENT)).await?;
    let (sender, mut events) = conversation.split();
    let (screen, mut input) = screen::open(format!("<{}>", client.user()))?;
    let mut state = client.state();
    let mut chat = Chat {
        client: client.clone(),
        sender,
        screen,
        zone: TimeZone::system(),
        json: common.json,
        typed: VecDeque::new(),
        receipts: FuturesUnordered::new(),
        at: Place::default(),
        online: true,
        typing: true,
    };
    chat.greet(&args.target.to_string())?;
    while chat.typing || !chat.is_settled() {
        tokio::select! {
            event = events.next() => if !chat.event(event)? { break },
            Some(result) = chat.receipts.next() => chat.receipt(result)?,
            typed = input.recv(), if chat.typing && chat.typed.len() < WINDOW => chat.input(typed)?,
            Some(event) = others.next() => chat.outside(event)?,
            Ok(()) = state.changed() => chat.connection(&mut state)?,
        }
        chat.work().await?;
    }
    events.acknowledge();
    Ok(())
}

struct Chat {
    client: Client,
    sender: Sender,
    screen: Screen,
    zone: TimeZone,
    json: bool,
    /// Typed lines that are not processed yet.
    typed: VecDeque<String>,
    /// Unanswered commands.
    receipts: FuturesUnordered<BoxFuture<'static, Result<Accepted, ReceiptError>>>,
    at: Place,
    online: bool,
    /// The input has not ended.
    typing: bool,
}

/// The position of the view in the conversation.
#[derive(Default)]
struct Place {
    /// The events that existed at the start were shown.
    caught_up: bool,
    /// The last event shown.
    shown: u64,
    /// The user's own last message.
    own: u64,
    /// The last message of another user.
    other: u64,
    /// The highest seq of an accepted command.
    accepted: u64,
}

impl Chat {
    fn greet(&mut self, target: &str) -> anyhow::Result<()> {
        let Some(opened) = self.sender.opened() else { return Ok(()) };
        let name = if opened.name.is_empty() { target.to_owned() } else { show::plain(&opened.name) };
        let unread = opened.unread();
        let unread = if unread == 0 { String::new() } else { format!(", {unread} unread") };
        self.screen.note(&format!("-- {name} (#{}){unread}; /help lists the commands", opened.conversation))?;
        Ok(())
    }

    /// Whether recent history is shown, and all typed lines are accepted and shown.
    fn is_settled(&self) -> bool {
        self.typed.is_empty() && self.receipts.is_empty() && self.at.caught_up && self.at.shown >= self.at.accepted
    }

    /// Returns false after the last event.
    fn event(&mut self, event: Option<ConversationEvent>) -> anyhow::Result<bool> {
        match event {
            Some(ConversationEvent::Event(event)) => self.show(&event)?,
            Some(ConversationEvent::CaughtUp) => {
                self.at.caught_up = true;
                self.at.shown = self.at.shown.max(self.sender.opened().map_or(0, |opened| opened.head));
            }
            Some(ConversationEvent::Skipped { to, why }) => {
                self.at.shown = self.at.shown.max(to);
                self.screen.note(&format!("-- {}", show::skipped(to, why)))?;
            }
            Some(ConversationEvent::Reset { first, .. }) => {
                self.at = Place { shown: first.saturating_sub(1), ..Place::default() };
                self.screen.note("-- the relay was restored from a backup; earlier lines may be out of date")?;
            }
            Some(ConversationEvent::Ended(Code::ENDED)) => {
                self.screen.note("-- you are no longer a member")?;
                return Ok(false);
            }
            Some(ConversationEvent::Ended(code)) => bail!("conversation closed: {code}"),
            Some(_) => {}
            None => return Ok(false),
        }
        Ok(true)
    }

    fn show(&mut self, event: &OwnedEvent) -> anyhow::Result<()> {
        let mine = event.user == *self.client.user();
        self.at.shown = event.seq;
        match event.kind {
            kind::TEXT | kind::DATA if mine => self.at.own = event.seq,
            kind::TEXT | kind::DATA => self.at.other = event.seq,
            _ => {}
        }
        self.sender.mark_read(event.seq, event.number);
        let line = if self.json { show::object(event).to_string() } else { show::line(event, &self.zone) };
        self.screen.show(&line)?;
        Ok(())
    }

    fn receipt(&mut self, result: Result<Accepted, ReceiptError>) -> anyhow::Result<()> {
        match result {
            Ok(Accepted { seq: 0, .. }) => self.screen.note("-- nothing to change: it is so already")?,
            Ok(accepted) => self.at.accepted = self.at.accepted.max(accepted.seq),
            Err(error) => self.screen.note(&format!("-- failed: {error}"))?,
        }
        Ok(())
    }

    fn input(&mut self, input: Option<Input>) -> anyhow::Result<()> {
        self.typing = match input {
            Some(input) => self.screen.take(input, &mut self.typed)?,
            None => false,
        };
        Ok(())
    }

    /// Processes typed lines while commands may be sent.
    async fn work(&mut self) -> anyhow::Result<()> {
        while self.receipts.len() < WINDOW
            && let Some(line) = self.typed.pop_front()
        {
            self.line(&line).await?;
        }
        self.screen.waiting(self.receipts.len())?;
        Ok(())
    }

    async fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let sender = self.sender.clone();
        match parse(line) {
            Typed::Nothing => {}
            Typed::Quit => (self.typing, self.typed) = (false, VecDeque::new()),
            Typed::Help => self.screen.note(HELP)?,
            Typed::Wrong(why) => self.screen.note(&format!("-- {why}"))?,
            Typed::Who => self.who().await?,
            Typed::Text(text) => self.submit(sender.send(text)).await?,
            Typed::Edit(_) | Typed::Delete if self.at.own == 0 => {
                self.screen.note("-- you have not sent a message yet")?
            }
            Typed::Edit(text) => self.submit(sender.edit(self.at.own, text.to_owned())).await?,
            Typed::Delete => self.submit(sender.delete(self.at.own)).await?,
            Typed::React(_) if self.at.other == 0 => self.screen.note("-- no message to react to yet")?,
            Typed::React(reaction) => self.submit(sender.react(self.at.other, reaction, true)).await?,
        }
        Ok(())
    }

    async fn submit(&mut self, command: impl Future<Output = Result<Receipt, SendError>>) -> anyhow::Result<()> {
        match command.await {
            Ok(receipt) => self.receipts.push(Box::pin(receipt.accepted())),
            Err(SendError::Invalid(error)) => self.screen.note(&format!("-- not sent: {error}"))?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn who(&mut self) -> anyhow::Result<()> {
        match people(&self.client, self.sender.id(), MOST_PEOPLE).await {
            Ok((people, more)) => {
                let mut lines: Vec<_> = people.iter().map(|person| format!("   {}", person.line())).collect();
                lines.extend(more.then(|| "   ...".to_owned()));
                self.screen.note(&lines.join("\n"))?;
            }
            Err(error) => self.screen.note(&format!("-- could not list the members: {error}"))?,
        }
        Ok(())
    }

    fn outside(&mut self, event: ClientEvent) -> anyhow::Result<()> {
        match event {
            ClientEvent::Presence(presence) if self.concerns(&presence.user) => {
                let user = show::plain(presence.user.as_str());
                let how = match presence.state {
                    PresenceState::Online => "is online",
                    PresenceState::Unreachable => "is unreachable",
                    PresenceState::Offline => "is offline",
                };
                self.screen.note(&format!("-- {user} {how}"))?;
            }
            ClientEvent::Notice { code, text } => {
                self.screen.note(&format!("-- relay notice: {} ({code})", show::plain(&text)))?;
            }
            other => {
                if let Some(note) = show::behind(&other, None) {
                    self.screen.note(&format!("-- {note}"))?;
                }
            }
        }
        Ok(())
    }

    /// Presence comes from members of the open conversation only, so any user but oneself is of interest.
    fn concerns(&self, user: &UserId) -> bool {
        user != self.client.user()
    }

    fn connection(&mut self, state: &mut watch::Receiver<ConnectionState>) -> anyhow::Result<()> {
        let state = state.borrow_and_update().clone();
        match state {
            ConnectionState::Connecting { .. } if self.online => {
                self.online = false;
                self.screen.note("-- disconnected; reconnecting (what you type is queued)")?;
            }
            ConnectionState::Online { .. } if !self.online => {
                self.online = true;
                self.screen.note("-- reconnected")?;
            }
            ConnectionState::Closed(reason) => bail!("disconnected: {reason}"),
            _ => {}
        }
        Ok(())
    }
}

/// Events shown at the start.
const RECENT: u64 = 20;
/// Unanswered commands at once; a few below the conversation's limit, so that sending never blocks the view.
const WINDOW: usize = quip_protocol::limit::UNANSWERED as usize - 4;
/// Maximum members that /who lists.
const MOST_PEOPLE: usize = 200;
