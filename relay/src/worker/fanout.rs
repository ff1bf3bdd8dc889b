//! From a committed batch to the streams of those who follow.

use std::sync::Arc;

use quip_protocol::{
    Code,
    conversation::{Skip, skip},
    frame,
};
use quip_store::{Committed, Page, ReadError};

use super::{
    StreamKey, Worker,
    conversation::Conversation,
    reads::{self, Read, read_code},
    stream::{Flushed, Role, Stream, priority},
};

/// Streams written to before everything else on the thread has its turn.
const WRITES_A_TURN: usize = 8;
/// Bytes of one page for a follower that catches up.
const PAGE_BYTES: usize = 16 << 10;

/// What a stream needs after it was given what is in memory.
enum Needs {
    Nothing,
    /// Events that are only in the store: those after its cursor, up to this one.
    Page(u64),
    /// Its end: everything visible was delivered.
    End,
}

impl Worker {
    /// A batch is durable.
    pub(super) fn committed(&mut self, batch: &Arc<Committed>) {
        self.turnovers = batch.cache_epoch;
        for change in &batch.changes {
            self.note(change);
            if let Some(event) = &change.event
                && let Some(conversation) = self.conversations.get_mut(&change.conversation)
            {
                let limits = &self.shared.config.limits;
                let before = conversation.ring.bytes();
                conversation.head = event.seq;
                if event.record.frame.is_empty() {
                    conversation.ring.clear();
                } else {
                    conversation.ring.push(event.seq, event.record.frame.clone(), limits.ring_bytes_per_conversation);
                }
                self.ring_bytes = self.ring_bytes + conversation.ring.bytes() - before;
                if self.ring_bytes > limits.ring_bytes {
                    self.ring_bytes -= conversation.ring.bytes();
                    conversation.ring.clear();
                }
                self.fall_behind(change.conversation);
            }
            if let Some(outcome) = &change.outcome {
                self.decided(change, outcome);
            }
            for effect in &change.effects {
                self.effect(change, effect);
            }
        }
    }

    /// Gives some of the followers that may be behind their turn. True when there are more.
    pub(super) fn go_round(&mut self) -> bool {
        let mut budget = WRITES_A_TURN;
        while budget > 0 {
            let Some(id) = self.behind.pop_front() else { return false };
            let Some(conversation) = self.conversations.get_mut(&id) else { continue };
            let turns = conversation.left.min(budget);
            budget -= turns.min(budget);
            conversation.left -= turns;
            let keys: Vec<StreamKey> = (0..turns).filter_map(|_| conversation.next_follower()).collect();
            if conversation.left > 0 {
                self.behind.push_back(id);
            } else {
                conversation.queued = false;
            }
            keys.into_iter().for_each(|key| self.pump(key));
        }
        !self.behind.is_empty()
    }

    /// A stream can take more again.
    pub(super) fn writable(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.out.unblock();
        self.pump(key);
        if self.streams.contains_key(key) {
            self.unread.push(key);
        }
    }

    /// Writes what a stream has to say, as long as it takes it.
    pub(super) fn pump(&mut self, key: StreamKey) {
        loop {
            let Some(stream) = self.streams.get_mut(key) else { return };
            if stream.out.blocked() {
                return;
            }
            if stream.out.is_empty() {
                match fill(stream, &self.conversations) {
                    Needs::Nothing => {}
                    Needs::Page(to) => self.want_page(key, to),
                    Needs::End => return self.end(key, Code::ENDED, 0),
                }
            }
            let Some(stream) = self.streams.get_mut(key) else { return };
            if stream.out.is_empty() {
                if matches!(stream.role, Role::Ending) {
                    stream.finish();
                    self.drop_stream(key);
                }
                return;
            }
            let connection = &mut self.connections[stream.connection];
            let unsent = if stream.is_live() { Some(connection.unsent()) } else { None };
            match stream.flush(key, &self.ready, unsent) {
                Flushed::All => {}
                Flushed::Blocked => return,
                Flushed::Gone => return self.drop_stream(key),
            }
        }
    }

    /// Asks for a follower's next events.
    fn want_page(&mut self, key: StreamKey, to: u64) {
        let stream = &mut self.streams[key];
        stream.set_priority(priority::CATCHING_UP);
        let Some(follower) = stream.follower() else { return };
        follower.live = false;
        follower.reading = true;
        let (id, from) = (follower.id, follower.cursor + 1);
        let acks: Vec<_> = follower.sends.give_up_places().collect();
        acks.iter().for_each(|ack| stream.out.control(ack));
        stream.out.put_control();
        self.ask(key, move |view| Read::Page(reads::page(view, id, from..=to, PAGE_BYTES)));
    }

    /// A follower's next events were read.
    pub(super) fn page(&mut self, key: StreamKey, page: Result<Page, ReadError>) {
        let stream = &mut self.streams[key];
        let Some(follower) = stream.follower() else { return };
        follower.reading = false;
        let cursor = follower.cursor;
        match page {
            Ok(page) if page.count > 0 => {
                follower.cursor = page.last;
                if page.first > cursor + 1 {
                    stream.out.put(frame::to_bytes(&Skip { to: page.first - 1, why: skip::TRIMMED }));
                }
                stream.out.put(page.frames);
                self.pump(key);
            }
            // Trimmed meanwhile: opening again finds what is kept.
            Ok(_) => self.end(key, Code::BUSY, 0),
            Err(error) => {
                tracing::error!(%error, "a follower cannot catch up");
                self.end(key, read_code(&error), 0);
            }
        }
    }
}

impl Conversation {
    fn next_follower(&mut self) -> Option<StreamKey> {
        self.next = if self.next >= self.followers.len() { 0 } else { self.next };
        let key = self.followers.get(self.next).copied();
        self.next += 1;
        key
    }
}

/// Puts what is in memory for a stream: its control frames, then events.
fn fill(
    stream: &mut Stream,
    conversations: &std::collections::HashMap<quip_protocol::ConversationId, Conversation>,
) -> Needs {
    stream.out.put_control();
    let Some(conversation) = stream.follower().and_then(|follower| conversations.get(&follower.id)) else {
        return Needs::Nothing;
    };
    let Stream { role: Role::Conversation(follower), out, .. } = stream else { return Needs::Nothing };
    if !follower.following() || follower.reading {
        return Needs::Nothing;
    }
    let last = conversation.head.min(follower.until);
    while follower.cursor < last && out.has_room() {
        let Some(event) = conversation.ring.get(follower.cursor + 1) else { return Needs::Page(last) };
        follower.cursor += 1;
        out.put(match follower.sends.take_in_place(follower.cursor) {
            Some(accepted) => frame::to_bytes(&accepted),
            None => event.clone(),
        });
    }
    if follower.cursor >= follower.until && out.is_empty() {
        return Needs::End;
    }
    follower.live = true;
    // What memory has of a catch-up is no more urgent than the rest of it.
    let has_everything = follower.cursor >= last;
    stream.set_priority(if has_everything { priority::LIVE } else { priority::CATCHING_UP });
    Needs::Nothing
}
