//! Unanswered commands, and their numbers.

use std::collections::VecDeque;

use bytes::Bytes;
use quip_protocol::{Code, ConversationId, conversation::Outcome};
use tokio::sync::oneshot;

use super::frames;
use crate::{Accepted, Change, ReceiptError, SavedConversation};

/// Resolves the receipt of a command.
pub(crate) type Ticket = oneshot::Sender<Result<Accepted, ReceiptError>>;

/// The outbox of one conversation: commands in order of `n`.
pub(super) struct Outbox {
    id: ConversationId,
    items: VecDeque<Item>,
    next_n: u64,
    changes: Vec<Change>,
    settled: usize,
    /// What became of commands of an earlier run.
    restored: Vec<(u64, Result<Accepted, ReceiptError>)>,
}

struct Item {
    n: u64,
    frame: Bytes,
    ticket: Option<Ticket>,
    /// Begins a stream of its own.
    is_join: bool,
    /// Counts for the number of unanswered commands that an app may have.
    counts: bool,
    /// Sent on the current stream, without an answer.
    sent: bool,
    /// Sent at least once under this number, on any stream.
    tried: bool,
    /// Sent on an earlier stream or by an earlier process, without an answer: it may have been decided.
    doubtful: bool,
    /// Its `n` is used by other content: it needs another one.
    displaced: bool,
}

impl Outbox {
    /// What was saved, of which `room` commands count: there may be more than this relay allows.
    pub(super) fn new(id: ConversationId, saved: &SavedConversation, room: usize) -> Self {
        let item = |(place, (n, frame)): (usize, &(u64, Bytes))| Item {
            n: *n,
            frame: frame.clone(),
            ticket: None,
            is_join: frames::is_join(frame),
            counts: place < room,
            sent: false,
            tried: true,
            doubtful: true,
            displaced: false,
        };
        let items = saved.outbox.iter().enumerate().map(item).collect();
        Self { id, items, next_n: saved.last_n + 1, changes: Vec::new(), settled: 0, restored: Vec::new() }
    }

    /// How many commands count for the number that an app may have unanswered.
    pub(super) fn counted(&self) -> usize {
        self.items.iter().filter(|item| item.counts).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether a command sent on this stream is unanswered.
    pub(super) fn unanswered(&self) -> bool {
        self.items.iter().any(|item| item.sent)
    }

    pub(super) fn next_n(&self) -> u64 {
        self.next_n
    }

    /// Adds a command that is already stored under [`Self::next_n`].
    pub(super) fn push(&mut self, frame: Bytes, ticket: Ticket) {
        self.add(frame, Some(ticket));
    }

    /// Adds the join, which must be stored before it is sent.
    pub(super) fn push_join(&mut self, frame: Bytes) {
        self.changes.push(Change::Queued(self.id, self.next_n, frame.clone()));
        self.add(frame, None);
    }

    /// The `n` of the join, if it is the first command. It is sent with `Open`.
    pub(super) fn join(&self) -> Option<u64> {
        self.items.front().filter(|item| item.is_join).map(|item| item.n)
    }

    /// Whether a join waits, first or behind other commands.
    pub(super) fn has_join(&self) -> bool {
        self.items.iter().any(|item| item.is_join)
    }

    pub(super) fn frame(&self, n: u64) -> Option<&Bytes> {
        self.find(n).map(|at| &self.items[at].frame)
    }

    pub(super) fn has(&self, n: u64) -> bool {
        self.find(n).is_some()
    }

    /// The size of the first waiting command, unless that is a join, which begins a stream of its own.
    pub(super) fn next_size(&self) -> Option<usize> {
        let next = self.items.iter().find(|item| !item.sent);
        next.filter(|item| !item.is_join).map(|item| item.frame.len())
    }

    /// How many commands were sent on this stream and are unanswered.
    pub(super) fn sent(&self) -> usize {
        self.items.iter().filter(|item| item.sent).count()
    }

    /// Appends the first waiting command and marks it as sent.
    pub(super) fn write_next(&mut self, out: &mut Vec<u8>) {
        if let Some(item) = self.items.iter_mut().find(|item| !item.sent) {
            out.extend_from_slice(&item.frame);
            (item.sent, item.tried) = (true, true);
        }
    }

    /// Bytes of the commands that were sent on this stream and are unanswered.
    pub(super) fn sent_bytes(&self) -> usize {
        self.items.iter().filter(|item| item.sent).map(|item| item.frame.len()).sum()
    }

    /// Marks the join as sent with `Open`.
    pub(super) fn mark_sent(&mut self, n: u64) {
        self.at(n, |item| (item.sent, item.tried) = (true, true));
    }

    /// The stream was lost: outcomes of commands sent on it are unknown.
    pub(super) fn lost(&mut self) {
        for item in &mut self.items {
            item.doubtful |= std::mem::take(&mut item.sent);
        }
    }

    /// The command was refused without being decided: it waits to be sent again.
    pub(super) fn wait_again(&mut self, n: u64) {
        self.at(n, |item| item.sent = false);
    }

    /// The command was refused before anything was decided, and the relay drops the later ones: all wait to be sent again.
    pub(super) fn go_back_to(&mut self, n: u64) {
        self.items.iter_mut().filter(|item| item.n >= n).for_each(|item| item.sent = false);
    }

    /// This and the later commands were certainly not decided.
    pub(super) fn clear_doubt(&mut self, n: u64) {
        self.items.iter_mut().filter(|item| item.n >= n).for_each(|item| item.doubtful = false);
    }

    /// The outcome of the command is unknown to the relay.
    pub(super) fn doubt(&mut self, n: u64) {
        self.at(n, |item| (item.sent, item.doubtful) = (false, true));
    }

    /// The `n` of a command is used by other content.
    pub(super) fn displace(&mut self, n: u64) {
        self.at(n, |item| (item.sent, item.displaced) = (false, true));
    }

    pub(super) fn is_sent(&self, n: u64) -> bool {
        self.find(n).is_some_and(|at| self.items[at].sent)
    }

    /// Whether the command was sent, on this stream or before.
    pub(super) fn was_sent(&self, n: u64) -> bool {
        self.find(n).is_some_and(|at| self.items[at].tried)
    }

    /// Whether the command may have been decided on an earlier stream.
    pub(super) fn is_doubtful(&self, n: u64) -> bool {
        self.find(n).is_some_and(|at| self.items[at].doubtful)
    }

    /// The lowest unanswered `n`.
    pub(super) fn first_n(&self) -> Option<u64> {
        self.items.front().map(|item| item.n)
    }

    /// Resolves a command; returns false if it is not in the outbox.
    pub(super) fn settle(&mut self, n: u64, fate: Result<Accepted, ReceiptError>) -> bool {
        let Some(item) = self.find(n).and_then(|at| self.items.remove(at)) else { return false };
        self.forget(item, fate);
        true
    }

    /// Resolves all commands with an error: the stream ended for good.
    pub(super) fn give_up(&mut self, fate: ReceiptError) {
        for item in std::mem::take(&mut self.items) {
            self.forget(item, Err(fate));
        }
    }

    /// Resolves all commands before the join as unknown.
    pub(super) fn give_up_before_join(&mut self) {
        let join = self.items.iter().find(|item| item.is_join).map(|item| item.n);
        self.give_up_where(|item| join.is_none_or(|join| item.n < join), ReceiptError::Unknown);
    }

    /// Drops the commands of a conversation that the relay does not open, except those that may have been decided earlier.
    pub(super) fn refuse_unsent(&mut self, code: Code) {
        self.give_up_where(|item| !item.sent && !item.doubtful, ReceiptError::Refused(code));
        self.close();
    }

    /// Resolves every receipt with [`ReceiptError::Closed`]; the commands stay stored.
    pub(super) fn close(&mut self) {
        for item in &mut self.items {
            item.ticket.take().map(|ticket| ticket.send(Err(ReceiptError::Closed)));
        }
    }

    /// Takes the join back if it is the only command and was certainly not decided.
    pub(super) fn withdraw_join(&mut self) {
        let may_be_decided = self.items.iter().any(|item| item.sent || item.doubtful);
        if let (Some(n), 1, false) = (self.join(), self.items.len(), may_be_decided) {
            self.items.clear();
            self.next_n = n;
            self.changes.push(Change::Outbox(self.id, n - 1, Vec::new()));
        }
    }

    /// Renumbers the join, which is the first command, to `n`, and those behind it, which were not sent yet.
    pub(super) fn renumber_join(&mut self, n: u64) {
        self.next_n = n;
        self.renumber();
    }

    /// Applies the relay's last decided `n` and recent outcomes. `same_log`: the numbers are of the relay's current log.
    pub(super) fn opened(&mut self, last_n: u64, outcomes: impl Iterator<Item = Outcome>, same_log: bool) {
        for outcome in outcomes {
            let Some(item) = self.find(outcome.n).map(|at| &mut self.items[at]).filter(|item| !item.displaced) else {
                continue;
            };
            if frames::check(&item.frame) == Some(outcome.check) {
                self.settle(outcome.n, fate(outcome));
            } else if same_log {
                // A copy of it that is still on its way is refused for the same reason.
                (item.displaced, item.doubtful) = (true, false);
            }
        }
        if same_log {
            self.give_up_where(|item| item.n <= last_n && !item.displaced, ReceiptError::Unknown);
        }
        let follows = self.items.front().is_none_or(|item| item.n == last_n + 1);
        let displaced = self.items.iter().any(|item| item.displaced);
        if same_log && (!follows || displaced) {
            self.give_up_where(|item| item.doubtful, ReceiptError::Unknown);
        }
        self.next_n = last_n + 1;
        // None may be left out: the relay would miss it for ever.
        let gapless = self.items.iter().zip(self.next_n..).all(|(item, n)| item.n == n);
        if !gapless || displaced {
            self.renumber();
        }
        self.next_n = last_n + 1 + self.items.len() as u64;
    }

    /// Changes to save, and how many commands that count were resolved since the last call.
    pub(super) fn take_effects(&mut self) -> (Vec<Change>, usize) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.settled))
    }

    /// Takes what became of commands of an earlier run.
    pub(super) fn take_restored(&mut self) -> Vec<(u64, Result<Accepted, ReceiptError>)> {
        std::mem::take(&mut self.restored)
    }

    /// The change to save before a command with this frame is pushed.
    pub(super) fn queued(&self, frame: Bytes) -> Change {
        Change::Queued(self.id, self.next_n, frame)
    }

    /// A command that counts is one of the app, a join is not.
    fn add(&mut self, frame: Bytes, ticket: Option<Ticket>) {
        let (n, counts) = (self.next_n, ticket.is_some());
        self.next_n += 1;
        let item = Item {
            n,
            frame,
            ticket,
            is_join: !counts,
            counts,
            sent: false,
            tried: false,
            doubtful: false,
            displaced: false,
        };
        self.items.push_back(item);
    }

    /// Renumbers all commands from `next_n` on.
    fn renumber(&mut self) {
        self.items.retain_mut(|item| match frames::renumber(&item.frame, self.next_n) {
            Some(frame) => {
                (item.n, item.frame) = (self.next_n, frame);
                (item.sent, item.tried, item.doubtful, item.displaced) = (false, false, false, false);
                self.next_n += 1;
                true
            }
            None => false,
        });
        let items = self.items.iter().map(|item| (item.n, item.frame.clone())).collect();
        self.changes.push(Change::Outbox(self.id, self.next_n - 1, items));
    }

    fn give_up_where(&mut self, condition: impl Fn(&Item) -> bool, fate: ReceiptError) {
        let (gone, kept): (VecDeque<_>, _) = std::mem::take(&mut self.items).into_iter().partition(condition);
        self.items = kept;
        for item in gone {
            self.forget(item, Err(fate));
        }
    }

    fn forget(&mut self, item: Item, fate: Result<Accepted, ReceiptError>) {
        self.changes.push(Change::Settled(self.id, item.n));
        self.settled += usize::from(item.counts);
        match item.ticket {
            Some(ticket) => drop(ticket.send(fate)),
            None if item.is_join => {}
            None => self.restored.push((item.n, fate)),
        }
    }

    fn at(&mut self, n: u64, change: impl FnOnce(&mut Item)) {
        if let Some(at) = self.find(n) {
            change(&mut self.items[at]);
        }
    }

    fn find(&self, n: u64) -> Option<usize> {
        self.items.binary_search_by_key(&n, |item| item.n).ok()
    }
}

fn fate(Outcome { code, seq, number, at, .. }: Outcome) -> Result<Accepted, ReceiptError> {
    if code == Code::DONE { Ok(Accepted { seq, number, at }) } else { Err(ReceiptError::Refused(code)) }
}
