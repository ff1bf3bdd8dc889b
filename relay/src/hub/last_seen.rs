//! Writing when users were last seen, so that it outlives this process.

use quip_core::{Action, Command};
use quip_protocol::UserId;

use super::{
    Hub,
    deadlines::TICK,
    port::Port,
    reads::{Read, Wanted},
};

impl<P: Port> Hub<P> {
    /// Submits what is due. A reader has it first: the users' rows may be on the disk alone.
    pub(super) fn write_last_seen(&mut self) {
        let commands = self.due();
        if commands.is_empty() {
            return;
        }
        let users: Vec<_> = commands.iter().filter_map(user_of).cloned().collect();
        if self.port.read(Read(Wanted::LastSeen(commands))).is_err() {
            users.iter().for_each(|user| self.people.due_again(user, self.now + TICK));
        }
    }

    /// Gives these to the order. False when it did not take all of them; those are due again.
    pub(super) fn submit_last_seen(&mut self, commands: Vec<Command>) -> bool {
        let mut all = true;
        for command in commands {
            let user = user_of(&command).cloned();
            if self.port.submit(command).is_err() {
                all = false;
                user.iter().for_each(|user| self.people.due_again(user, self.now));
            }
        }
        all
    }

    /// The relay is going down: everyone is written, as fast as the order takes it and without a look at the rows first.
    pub(super) fn submit_all_last_seen(&mut self) {
        loop {
            let commands = self.due();
            if commands.is_empty() {
                return self.setup.last_seen_submitted.notify_one();
            }
            // The next commit makes room and brings the hub back here.
            if !self.submit_last_seen(commands) {
                return;
            }
        }
    }

    fn due(&mut self) -> Vec<Command> {
        let (time, links) = (self.time(), &self.links);
        self.people.due(self.now, time, |at| links.heard(at))
    }
}

fn user_of(command: &Command) -> Option<&UserId> {
    match &command.action {
        Action::Seen { user, .. } => Some(user),
        _ => None,
    }
}
