//! `quip chat`.

use std::collections::VecDeque;

use anyhow::bail;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::tz::TimeZone;
use quip_client::{
    Accepted, Client, ClientEvent, Code, ConnectionState, ConversationEvent, OwnedEvent, PresenceState, ReceiptError,
    Sender, Start,
};
use tokio::sync::watch;

use crate::{
    args::{ChatArgs, Common},
    connect,
    contact::Contact,
    people, show,
    stop::{Stop, Stopping},
};

mod commands;
mod editor;
mod frame;
mod latest;
mod screen;
mod typed;

use latest::{Latest, Message};
use screen::Screen;

/// Shows events and sends typed lines, until the input or the conversation ends.
pub(crate) async fn run(
    common: &Common,
    client: &Client,
    args: &ChatArgs,
    mut stopping: Stopping,
) -> anyhow::Result<()> {
    let mut others = client.events();
    let conversation = connect::open(client, &args.target, Start::Last(RECENT)).await?;
    let stranger = people::stranger(client, &args.target).await;
    let (sender, mut events) = conversation.split();
    let (screen, mut input) = screen::open(client.user().as_str())?;
    let mut state = client.state();
    let mut chat = Chat {
        client: client.clone(),
        sender,
        screen,
        zone: TimeZone::system(),
        json: common.json,
        typed: VecDeque::new(),
        answers: FuturesUnordered::new(),
        latest: Latest::default(),
        at: Place::default(),
        contact: Contact::default(),
        failures: 0,
        input: true,
        typing: true,
    };
    chat.greet(stranger)?;
    while chat.typing || !chat.is_settled() {
        tokio::select! {
            // A flood of events does not keep keys waiting.
            biased;
            stop = stopping.told() => return Err(chat.stopped(stop)),
            typed = input.recv(), if chat.reads() => if !chat.input(typed)? { break },
            Some(answer) = chat.answers.next() => chat.answer(answer)?,
            Ok(()) = state.changed() => chat.connection(&mut state)?,
            Some(event) = others.next() => chat.outside(event)?,
            event = events.next() => if !chat.event(event)? { break },
        }
        chat.work().await?;
    }
    events.acknowledge();
    if chat.unanswered() > 0 {
        // While the conversation is open this does not wait for answers.
        client.close().await;
        bail!("quit early{}", chat.unsent());
    }
    if chat.failures > 0 && !chat.screen.is_terminal() {
        bail!("{} not done", lines(chat.failures, "was", "were"));
    }
    Ok(())
}

struct Chat {
    client: Client,
    sender: Sender,
    screen: Screen,
    zone: TimeZone,
    json: bool,
    /// Typed lines that are not processed yet.
    typed: VecDeque<Line>,
    /// Commands without an answer.
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    latest: Latest,
    at: Place,
    contact: Contact,
    /// Lines that were not done.
    failures: usize,
    /// The input has not ended.
    input: bool,
    /// The user has not asked to quit.
    typing: bool,
}

/// A typed line.
struct Line {
    text: String,
    /// The last message of another user that was on the screen then.
    other: Option<Message>,
}

/// What became of a command.
struct Answer {
    n: u64,
    /// The command, as in "not done: deleting ...".
    what: String,
    result: Result<Accepted, ReceiptError>,
}

/// The position of the view in the conversation.
#[derive(Default)]
struct Place {
    /// The events that existed at the start were shown.
    caught_up: bool,
    /// The last event shown.
    shown: u64,
    /// The highest seq of an accepted command.
    accepted: u64,
}

impl Chat {
    fn greet(&mut self, stranger: Option<String>) -> anyhow::Result<()> {
        let Some(opened) = self.sender.opened() else { return Ok(()) };
        let id = opened.conversation;
        let name = show::conversation(id, &opened.name);
        let unread = opened.unread();
        let unread = if unread == 0 { String::new() } else { format!(", {unread} unread") };
        self.screen.note(&format!("{name} (#{id}){unread}; /help lists the commands"))?;
        if let Some(stranger) = stranger {
            self.screen.note(&stranger)?;
        }
        Ok(())
    }

    /// Whether recent history is shown, and all typed lines are accepted and shown.
    fn is_settled(&self) -> bool {
        self.unanswered() == 0 && self.at.caught_up && self.at.shown >= self.at.accepted
    }

    fn unanswered(&self) -> usize {
        self.typed.len() + self.answers.len()
    }

    /// What an ending says of lines without an answer.
    fn unsent(&self) -> String {
        match self.unanswered() {
            0 => String::new(),
            count => format!("; {} perhaps not sent", lines(count, "was", "were")),
        }
    }

    /// Says that a line was not done.
    fn failed(&mut self, note: &str) -> anyhow::Result<()> {
        self.failures += 1;
        self.screen.note(note)?;
        Ok(())
    }

    /// What ends the chat, and what it leaves.
    fn stopped(&self, stop: Stop) -> anyhow::Error {
        let error = anyhow::Error::from(stop);
        match self.unanswered() {
            0 => error,
            count => error.context(format!("{} perhaps not sent", lines(count, "was", "were"))),
        }
    }

    /// Keys are always read, since one of them quits. A pipe waits until what it reacts to is shown, and for answers.
    fn reads(&self) -> bool {
        self.input && (self.screen.is_terminal() || self.at.caught_up && self.typed.len() < WINDOW)
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
                self.screen.note(&show::skipped(to, why))?;
            }
            Some(ConversationEvent::Reset { first, .. }) => {
                self.at = Place { shown: first.saturating_sub(1), ..Place::default() };
                self.latest.reset();
                self.screen.note("the relay was restored from a backup; earlier lines may be out of date")?;
            }
            Some(ConversationEvent::Ended(Code::ENDED)) => bail!("you are no longer a member{}", self.unsent()),
            Some(ConversationEvent::Ended(code)) => bail!("the relay closed the conversation: {code}{}", self.unsent()),
            Some(_) => {}
            None => return Ok(false),
        }
        Ok(true)
    }

    fn show(&mut self, event: &OwnedEvent) -> anyhow::Result<()> {
        self.at.shown = event.seq;
        self.latest.shown(event, event.user == *self.client.user());
        self.sender.mark_read(event.seq, event.number);
        let line = if self.json { show::object(event).to_string() } else { show::line(event, &self.zone) };
        self.screen.show(&line)?;
        Ok(())
    }

    fn answer(&mut self, answer: Answer) -> anyhow::Result<()> {
        let Answer { n, what, result } = answer;
        self.latest.answered(n, result.as_ref().ok().map(|accepted| accepted.seq));
        match result {
            Ok(Accepted { seq: 0, .. }) => self.screen.note(&format!("nothing to do for {what}: it is so already"))?,
            Ok(accepted) => self.at.accepted = self.at.accepted.max(accepted.seq),
            Err(ReceiptError::Refused(code)) => self.failed(&format!("not done: {what}: {code}"))?,
            Err(error) => self.failed(&format!("perhaps not done: {what}: {error}"))?,
        }
        Ok(())
    }

    fn outside(&mut self, event: ClientEvent) -> anyhow::Result<()> {
        match event {
            // It comes from members of the open conversation only, so that of any other user is of interest.
            ClientEvent::Presence(presence) if presence.user != *self.client.user() => {
                let how = match presence.state {
                    PresenceState::Online => "is online",
                    PresenceState::Unreachable => "is unreachable",
                    PresenceState::Offline => "is offline",
                };
                self.screen.note(&format!("{} {how}", show::name(presence.user.as_str())))?;
            }
            ClientEvent::Notice { code, text } => self.screen.note(&format!("the relay says: {text} ({code})"))?,
            other => {
                if let Some(note) = show::behind(&other, None) {
                    self.screen.note(&note)?;
                }
            }
        }
        Ok(())
    }

    fn connection(&mut self, state: &mut watch::Receiver<ConnectionState>) -> anyhow::Result<()> {
        let state = state.borrow_and_update().clone();
        if let Some(text) = self.contact.take(&state) {
            let queued = if self.contact.is_good() { "" } else { "; what you type is queued" };
            self.screen.note(&format!("{text}{queued}"))?;
        }
        Ok(())
    }
}

/// A number of typed lines, with the verb.
fn lines(count: usize, one: &str, more: &str) -> String {
    if count == 1 { format!("1 line {one}") } else { format!("{count} lines {more}") }
}

/// Events shown at the start.
const RECENT: u64 = 20;
/// Unanswered commands at once; a few below the conversation's limit, so that sending never blocks the view.
const WINDOW: usize = connect::OUTBOX - 4;
