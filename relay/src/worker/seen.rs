//! Writing down when users were last heard, so that it outlives this process.

use std::sync::Arc;

use quip_core::{Action, Command, Timestamp};
use quip_protocol::{UserId, session::presence};

use super::{TICK, Worker};
use crate::presence::State;

/// Users who are written down in one tick, so that many who come or go together do not fill the order's queue.
const SEEN_A_TICK: usize = 64;

impl Worker {
    /// What others see of a user, of whom the store says that they were last seen at `stored`.
    pub(super) fn presence_of(&self, user: &UserId, stored: Timestamp) -> State {
        let mut now = self.roster.state(user);
        if now.state == presence::OFFLINE {
            now.last_seen = now.last_seen.max(stored).max(self.ledger.heard(user));
        }
        now
    }

    /// Submits what is due, by way of a reader: the users' rows may be on the disk alone.
    pub(super) fn write_seen(&mut self) {
        let commands = self.due();
        if commands.is_empty() {
            return;
        }
        let inbox = Arc::clone(&self.inbox);
        let users: Vec<_> = commands.iter().filter_map(user_of).cloned().collect();
        let job = move |view: &quip_store::View| {
            commands.iter().for_each(|command| view.warm(&quip_core::keys(command)));
            inbox.seen(commands);
        };
        if self.shared.readers.run(Box::new(job)).is_err() {
            users.iter().for_each(|user| self.ledger.again(user, self.now + TICK));
        }
    }

    /// Gives these to the order; false when it did not take all of them, of which the rest is due again.
    pub(super) fn submit_seen(&mut self, commands: Vec<Command>) -> bool {
        let mut all = true;
        for command in commands {
            let user = user_of(&command).cloned();
            if self.shared.submit.submit(command).is_err() {
                all = false;
                user.iter().for_each(|user| self.ledger.again(user, self.now));
            }
        }
        all
    }

    /// The relay is going down: everyone is written, as fast as the order takes it and without a look at the rows first.
    pub(super) fn write_all_seen(&mut self) {
        loop {
            let commands = self.due();
            if commands.is_empty() {
                return self.shared.all_seen.notify_one();
            }
            // The next commit makes room, and brings the worker back here.
            if !self.submit_seen(commands) {
                return;
            }
        }
    }

    fn due(&mut self) -> Vec<Command> {
        let (roster, connections) = (&self.roster, &self.connections);
        let heard = |user: &UserId| {
            let theirs = roster.connections(user).filter_map(|key| connections.get(key));
            theirs.map(|connection| connection.heard.time).max().unwrap_or(0)
        };
        let due = self.ledger.take(self.now, SEEN_A_TICK, heard);
        due.into_iter().map(|(user, at)| Command::seen(user, at)).collect()
    }
}

fn user_of(command: &Command) -> Option<&UserId> {
    match &command.action {
        Action::Seen { user, .. } => Some(user),
        _ => None,
    }
}
