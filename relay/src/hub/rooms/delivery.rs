//! From a conversation's events to the streams that follow it.

use quip_protocol::{
    Code,
    conversation::{Skip, skip},
    frame,
};
use quip_store::EventPage;

use super::{Rooms, follower::Follower, sends::Answer};
use crate::hub::{keys::StreamKey, out::Out, port::Priority, reads::PageOf};

/// What a stream does after it was given what is in memory.
#[derive(Debug)]
pub(in crate::hub) enum Filled {
    /// It writes what it has, and nothing else changes.
    Same,
    /// It writes with this priority.
    Follows(Priority),
    /// It also needs events that are not in memory.
    Behind(PageOf),
    /// It ends: everything visible was delivered.
    Complete,
}

/// Streams written to before everything else on the thread has its turn.
const WRITES_A_TURN: usize = 8;

impl Rooms {
    /// The followers that have the next turns: some that a page was read for, and those of conversations that may be
    /// behind.
    pub(in crate::hub) fn next_turns(&mut self) -> Vec<StreamKey> {
        let most = if self.behind.is_empty() { WRITES_A_TURN } else { WRITES_A_TURN / 2 };
        let mut turns: Vec<_> = self.paged.drain(..most.min(self.paged.len())).collect();
        while turns.len() < WRITES_A_TURN
            && let Some(key) = self.behind.pop_front()
        {
            let Some(conversation) = self.conversations.get_mut(key) else { continue };
            if conversation.take_turns(WRITES_A_TURN - turns.len(), &mut turns) {
                self.behind.push_back(key);
            } else {
                conversation.queued = false;
            }
        }
        turns
    }

    /// True when more followers wait for a turn.
    pub(in crate::hub) fn has_turns(&self) -> bool {
        !self.behind.is_empty() || !self.paged.is_empty()
    }

    /// Puts what is in memory for a stream, which has nothing being written: its control frames, then events.
    pub(in crate::hub) fn fill(&mut self, stream: StreamKey, out: &mut Out) -> Filled {
        let Some(follower) = self.followers.get_mut(stream) else {
            out.put_control();
            return Filled::Same;
        };
        follower.put_answers(out);
        let key = follower.conversation;
        let Some(conversation) = self.conversations.get_mut(key) else { return Filled::Same };
        if !follower.is_following() || follower.delivery.reading {
            return Filled::Same;
        }
        let last = conversation.head.min(follower.delivery.until);
        while out.has_room() {
            if let Some(to) = follower.delivery.pass_hole() {
                out.put(frame::to_bytes(&Skip { to, why: skip::NOT_VISIBLE }));
                continue;
            }
            if follower.delivery.cursor >= last {
                break;
            }
            let Some(event) = self.memory.get(key, follower.delivery.cursor + 1) else {
                conversation.audience.leave(&mut follower.delivery.place);
                self.memory.set_needed(key, conversation.audience.needs_memory());
                return Filled::Behind(catch_up(follower, last, out));
            };
            follower.delivery.cursor += 1;
            out.put(match follower.sends.take_in_place(follower.delivery.cursor) {
                Some(accepted) => frame::to_bytes(&accepted),
                None => event.clone(),
            });
            follower.put_answers(out);
        }
        if follower.delivery.cursor >= follower.delivery.until && out.is_empty() {
            return Filled::Complete;
        }
        let has_everything = follower.delivery.cursor >= last;
        conversation.audience.take(&mut follower.delivery.place, has_everything);
        self.memory.set_needed(key, conversation.audience.needs_memory());
        // What memory has of a catch-up is no more urgent than the rest of it.
        Filled::Follows(if has_everything { Priority::Live } else { Priority::CatchingUp })
    }

    /// Has a follower wait for a page that is being read for others at its cursor. False when there is none.
    pub(in crate::hub) fn share_page(&mut self, stream: StreamKey, page: PageOf) -> bool {
        self.pages.share(stream, page)
    }

    /// A page is being read for a follower.
    pub(in crate::hub) fn begin_page(&mut self, stream: StreamKey, page: PageOf) {
        self.pages.begin(stream, page);
    }

    /// The page that was read for a follower is here. Gives all that wait for it.
    pub(in crate::hub) fn end_page(&mut self, stream: StreamKey, page: PageOf) -> Vec<StreamKey> {
        self.pages.end(stream, page)
    }

    /// A follower's next events were read: puts them. It writes in its next turn.
    ///
    /// # Errors
    /// The code with which the stream ends.
    pub(in crate::hub) fn page(
        &mut self,
        stream: StreamKey,
        page: Result<&EventPage, Code>,
        out: &mut Out,
    ) -> Result<(), Code> {
        let Some(follower) = self.followers.get_mut(stream) else { return Ok(()) };
        follower.delivery.reading = false;
        let page = page?;
        if page.count == 0 {
            // Trimmed meanwhile. Opening again finds what is kept.
            return Err(Code::BUSY);
        }
        self.paged.push_back(stream);
        // A membership that ended meanwhile may have ended within the page. What may still be seen is read again.
        if page.last <= follower.delivery.until {
            if page.first > follower.delivery.cursor + 1 {
                out.put(frame::to_bytes(&Skip { to: page.first - 1, why: skip::TRIMMED }));
            }
            follower.delivery.cursor = page.last;
            out.put(page.frames.clone());
        }
        Ok(())
    }
}

impl Follower {
    /// Puts the control frames, and the answers that do not stand in an event's place.
    fn put_answers(&mut self, out: &mut Out) {
        while let Some(answer) = self.sends.next_answer() {
            match answer {
                Answer::Accepted(accepted) => out.control(&accepted),
                Answer::Ack(ack) => out.control(&ack),
                Answer::Rejected(rejected) => out.control(&rejected),
            }
        }
        out.put_control();
    }
}

/// A follower goes on from the store, up to event `last` or the next hole. Its commands are answered at once from now on.
fn catch_up(follower: &mut Follower, last: u64, out: &mut Out) -> PageOf {
    follower.delivery.reading = true;
    follower.sends.give_up_places();
    follower.put_answers(out);
    let last = follower.delivery.before_hole(last);
    PageOf { id: follower.id, first: follower.delivery.cursor + 1, last }
}
