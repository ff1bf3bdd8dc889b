//! From a conversation's events to the streams that follow it.

use quip_protocol::{
    Code,
    conversation::{Skip, skip},
    frame,
};
use quip_store::{EventPage, ReadError};

use super::{Rooms, follower::Follower, sends::Answer};
use crate::hub::{
    keys::StreamKey,
    out::Out,
    port::Priority,
    reads::{Query, read_code},
};

/// What a stream does after it was given what is in memory.
#[derive(Debug)]
pub(in crate::hub) enum Filled {
    /// It writes what it has, and nothing else changes.
    Same,
    /// It writes with this priority.
    Follows(Priority),
    /// It also needs events that are only in the store.
    Behind(Query),
    /// It ends: everything visible was delivered.
    Complete,
}

/// Streams written to before everything else on the thread has its turn.
const WRITES_A_TURN: usize = 8;
/// Bytes of one page for a follower that catches up.
const PAGE_BYTES: usize = 16 << 10;

impl Rooms {
    /// The followers that have the next turns, of conversations that may be behind.
    pub(in crate::hub) fn next_turns(&mut self) -> Vec<StreamKey> {
        let mut turns = Vec::new();
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
        !self.behind.is_empty()
    }

    /// Puts what is in memory for a stream, which has nothing being written: its control frames, then events.
    pub(in crate::hub) fn fill(&mut self, stream: StreamKey, out: &mut Out) -> Filled {
        let Some(follower) = self.followers.get_mut(stream) else {
            out.put_control();
            return Filled::Same;
        };
        follower.put_answers(out);
        let Some(conversation) = self.conversations.get(follower.conversation) else { return Filled::Same };
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
            let Some(event) = conversation.ring.get(follower.delivery.cursor + 1) else {
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
        follower.delivery.live = true;
        // What memory has of a catch-up is no more urgent than the rest of it.
        let has_everything = follower.delivery.cursor >= last;
        Filled::Follows(if has_everything { Priority::Live } else { Priority::CatchingUp })
    }

    /// A follower's next events were read: puts them.
    ///
    /// # Errors
    /// The code with which the stream ends.
    pub(in crate::hub) fn page(
        &mut self,
        stream: StreamKey,
        page: Result<EventPage, ReadError>,
        out: &mut Out,
    ) -> Result<(), Code> {
        let Some(follower) = self.followers.get_mut(stream) else { return Ok(()) };
        follower.delivery.reading = false;
        let cursor = follower.delivery.cursor;
        match page {
            Ok(page) if page.count > 0 => {
                follower.delivery.cursor = page.last;
                if page.first > cursor + 1 {
                    out.put(frame::to_bytes(&Skip { to: page.first - 1, why: skip::TRIMMED }));
                }
                out.put(page.frames);
                Ok(())
            }
            // Trimmed meanwhile. Opening again finds what is kept.
            Ok(_) => Err(Code::BUSY),
            Err(error) => {
                tracing::error!(%error, "a follower cannot catch up");
                Err(read_code(&error))
            }
        }
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
fn catch_up(follower: &mut Follower, last: u64, out: &mut Out) -> Query {
    follower.delivery.live = false;
    follower.delivery.reading = true;
    follower.sends.give_up_places();
    follower.put_answers(out);
    let last = follower.delivery.before_hole(last);
    Query::Page { id: follower.id, first: follower.delivery.cursor + 1, last, bytes: PAGE_BYTES }
}
