//! What is done with typed lines.

use std::future::Future;

use quip_client::{Receipt, SendError};

use super::{
    Answer, Chat, Line, WINDOW,
    latest::brief,
    lines,
    screen::Input,
    typed::{HELP, Typed, parse},
};
use crate::people::{self, people};

impl Chat {
    /// Returns false when the user quits without waiting.
    pub(super) fn input(&mut self, input: Option<Input>) -> anyhow::Result<bool> {
        let Some(input) = input else {
            (self.input, self.typing) = (false, false);
            return Ok(true);
        };
        let mut lines = Vec::new();
        let mut ends = self.screen.take(input, &mut lines)?;
        if self.typing {
            let other = self.latest.other();
            self.typed.extend(lines.into_iter().map(|text| Line { text, other: other.clone() }));
        }
        if ends > 0 && self.typing {
            self.quit()?;
            ends -= 1;
        }
        Ok(ends == 0)
    }

    fn quit(&mut self) -> anyhow::Result<()> {
        self.typing = false;
        let waiting = self.unanswered();
        if waiting > 0 && self.screen.is_terminal() {
            self.screen.note(&format!("waiting until {} sent; Ctrl-C quits at once", lines(waiting, "is", "are")))?;
        }
        Ok(())
    }

    /// Processes typed lines while commands may be sent.
    pub(super) async fn work(&mut self) -> anyhow::Result<()> {
        while self.sender.unanswered() < WINDOW
            && let Some(line) =
                self.typed.pop_front_if(|line| !self.latest.is_sending() || !parse(&line.text).is_of_own())
        {
            self.line(line).await?;
        }
        self.screen.waiting(self.answers.len())?;
        Ok(())
    }

    async fn line(&mut self, line: Line) -> anyhow::Result<()> {
        let sender = self.sender.clone();
        match parse(&line.text) {
            Typed::Nothing => {}
            Typed::Quit => {
                self.typed.clear();
                self.quit()?;
            }
            Typed::Help => self.screen.note(HELP)?,
            Typed::Wrong(why) => self.failed(&why)?,
            Typed::Who => self.who().await?,
            Typed::Text(text) => match self.submit(format!("sending {}", brief(text)), sender.send(text)).await? {
                Some(n) => self.latest.sending(n, text),
                None => self.latest.not_sent(),
            },
            Typed::Edit(text) => match self.latest.own() {
                Ok(own) => {
                    let what = format!("editing {} to {}", own.brief(), brief(text));
                    self.announce(what, sender.edit(own.seq, text)).await?;
                }
                Err(why) => self.failed(&format!("nothing edited: {why}"))?,
            },
            Typed::Delete => match self.latest.own() {
                Ok(own) => {
                    self.latest.deleting();
                    self.announce(format!("deleting {}", own.brief()), sender.delete(own.seq)).await?;
                }
                Err(why) => self.failed(&format!("nothing deleted: {why}"))?,
            },
            Typed::React(reaction) => match line.other {
                Some(other) => {
                    let what = format!("reacting to {} with {}", other.brief_by(), brief(reaction));
                    self.announce(what, sender.react(other.seq, reaction, true)).await?;
                }
                None => self.failed("nobody else has written anything here to react to")?,
            },
        }
        Ok(())
    }

    /// Says what a command is about, and submits it.
    async fn announce(&mut self, what: String, command: impl Submitted) -> anyhow::Result<()> {
        self.screen.note(&what)?;
        self.submit(what, command).await.map(drop)
    }

    /// Returns the number of the command; `None` if it is invalid.
    async fn submit(&mut self, what: String, command: impl Submitted) -> anyhow::Result<Option<u64>> {
        match command.await {
            Ok(receipt) => {
                let n = receipt.n();
                self.answers.push(Box::pin(async move { Answer { n, what, result: receipt.accepted().await } }));
                Ok(Some(n))
            }
            Err(SendError::Invalid(error)) => {
                self.failed(&format!("not done: {what}: {error}"))?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn who(&mut self) -> anyhow::Result<()> {
        match people(&self.client, self.sender.id(), MOST_PEOPLE).await {
            Ok((people, more)) => {
                let mut lines = vec!["the members:".to_owned()];
                lines.extend(people.iter().map(people::Person::line));
                lines.extend(more.then(|| format!("(only the first {MOST_PEOPLE} are listed)")));
                self.screen.note(&lines.join("\n"))?;
            }
            Err(error) => self.screen.note(&format!("could not list the members: {error}"))?,
        }
        Ok(())
    }
}

/// A command that is being queued.
trait Submitted: Future<Output = Result<Receipt, SendError>> {}

impl<T: Future<Output = Result<Receipt, SendError>>> Submitted for T {}

/// Maximum members that /who lists.
const MOST_PEOPLE: usize = 200;
