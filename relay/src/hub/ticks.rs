//! What is done in ticks: marks, looks at connections, presence, notifications, forgetting.

use std::collections::BTreeMap;

use bytes::Bytes;
use quip_protocol::{Code, frame};
use quip_store::ReadError;

use super::{
    Hub,
    deadlines::Tick,
    keys::ConnectionKey,
    people::Notification,
    port::Port,
    reads::{GroupPage, Read, Wanted},
};

impl<P: Port> Hub<P> {
    /// Does what is due in one tick.
    pub(super) fn do_tick(&mut self, tick: Tick) {
        self.submit_marks();
        for stream in tick.ahead {
            let opening = self.rooms.look_again(stream);
            self.go_on_opening(stream, opening);
        }
        self.give_up_unanswered();
        if self.phase.serves() {
            self.write_last_seen();
            self.forget_expired();
        }
        self.people.tick();
        self.read_members();
        let shown = self.people.expire(self.now);
        self.show(shown);
        if tick.sweep {
            self.begin_sweep();
        }
        self.deadlines.swept().into_iter().for_each(|at| self.look_at(at));
    }

    /// Ends streams whose commands do not come back: an order may lose one. The client opens again, sees what was
    /// decided, and sends the rest again.
    fn give_up_unanswered(&mut self) {
        while let Some((stream, since)) = self.deadlines.unanswered(self.now) {
            match self.rooms.overdue(stream, since) {
                Some(true) => self.end_after(stream, Code::LOST, 0),
                Some(false) => self.deadlines.await_answer(stream, self.now),
                None => {}
            }
        }
    }

    fn begin_sweep(&mut self) {
        self.links.share_send_window(&mut self.port);
        self.links.forget_users(self.now);
        self.deadlines.begin_sweep(self.links.connections());
        self.rooms.sweep();
    }

    fn look_at(&mut self, at: ConnectionKey) {
        let time = self.time();
        let Some(change) = self.links.look_at(at, self.now, time, &mut self.port) else { return };
        let shown = self.people.reachable(&change.user, at, change.reachable, change.heard);
        self.show(shown);
    }

    /// Has send numbers forgotten that are not used any more, a few at a time.
    fn forget_expired(&mut self) {
        let port = &mut self.port;
        self.forgetting.submit(|command| port.submit(command).is_ok());
        let Some(page) = self.forgetting.next(self.now, self.time()) else { return };
        if self.port.read(Read(Wanted::Expired(page))).is_err() {
            self.forgetting.put_off(self.now);
        }
    }

    /// Has members of groups with new messages read, if it is time for some.
    fn read_members(&mut self) {
        let Some((places, most)) = self.people.next_groups(self.now) else { return };
        if self.port.read(Read(Wanted::GroupMembers { places, most })).is_err() {
            self.people.put_off();
        }
    }

    /// Members of groups with new messages were read.
    pub(super) fn notify(&mut self, pages: Vec<Result<GroupPage, ReadError>>) {
        for Notification { id, title, about, members } in self.people.notify(pages, self.now) {
            // The same bytes for all who have the same role.
            let mut frames = BTreeMap::<u8, Bytes>::new();
            for (user, role) in members {
                for at in self.elsewhere(&user, id) {
                    let changed = || frame::to_bytes(&about.changed(id, role, &title));
                    let frame = frames.entry(role).or_insert_with(changed);
                    self.links.tell_frame(at, frame, &mut self.port);
                }
            }
        }
        self.read_members();
    }
}
