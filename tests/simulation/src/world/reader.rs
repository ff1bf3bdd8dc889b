//! An app's handler of one conversation's events.

use std::{sync::Arc, time::Duration};

use quip_client::{ConversationEvent, Cursor, Events, OwnedEvent, SkipReason};
use quip_protocol::ConversationId;
use tokio::{sync::watch, time::sleep};

use super::shared::{Process, lock};
use crate::{
    history::{App, Reading},
    plant::Plant,
};

/// A handler that takes events one after the other.
pub(super) struct Reader {
    pub process: Arc<Process>,
    pub id: ConversationId,
    pub reading: Reading,
    /// How long it may take for an event, in milliseconds.
    pub pace: u64,
    /// True or gone when the app lets the events go.
    pub stop: watch::Receiver<bool>,
    /// As far as was handled.
    pub at: Cursor,
    /// Kept back by a planted fault.
    pub kept_back: Option<OwnedEvent>,
}

impl Reader {
    /// From where it was opened.
    pub(super) fn new(process: Arc<Process>, id: ConversationId, reading: Reading, at: Cursor) -> Self {
        let pace = [0, 0, 20, 300, 2000][process.host.draw(5) as usize];
        // Replaced by the caller, who keeps the other end.
        let stop = watch::channel(false).1;
        Self { process, id, reading, pace, stop, at, kept_back: None }
    }

    /// Handles events until the app lets them go or they end; whether they ended.
    pub(super) async fn run(mut self, mut events: Events) -> bool {
        self.came_to(self.at.seq);
        let ended = loop {
            let event = tokio::select! {
                biased;
                _ = self.stop.changed() => break false,
                event = events.next() => event,
            };
            match event {
                None => break true,
                Some(event) => {
                    if !self.handle(event).await {
                        break false;
                    }
                }
            }
            // Some apps say that they are done; most just ask for the next event.
            if self.process.host.draw(8) == 0 {
                events.acknowledge();
            }
        };
        self.process.note(App::Left { reading: self.reading });
        self.process.shared.progress(self.process.device, self.id, None);
        ended
    }

    /// False when the app let the events go meanwhile.
    async fn handle(&mut self, event: ConversationEvent) -> bool {
        let reading = self.reading;
        match event {
            ConversationEvent::Event(event) => {
                let seq = event.seq;
                if self.deliver(event) && !self.work().await {
                    return false;
                }
                self.handled(seq);
            }
            ConversationEvent::Skipped { to, why } => {
                self.skip(to, why);
                self.handled(to);
            }
            ConversationEvent::Reset { generation, first } => {
                if !self.process.planted(Plant::ResetLost, 2) {
                    self.process.note(App::Reset { reading, generation, first });
                }
                if !self.work().await {
                    return false;
                }
                self.at.generation = generation;
                self.handled(0);
            }
            ConversationEvent::Ended(code) => self.process.note(App::Ended { reading, code }),
            _ => {}
        }
        true
    }

    async fn work(&mut self) -> bool {
        let pace = if self.process.shared.is_calm() { self.pace.min(20) } else { self.pace };
        if pace == 0 {
            return true;
        }
        let time = Duration::from_millis(self.process.host.draw(pace));
        tokio::select! {
            biased;
            _ = self.stop.changed() => false,
            () = sleep(time) => true,
        }
    }

    fn handled(&mut self, seq: u64) {
        self.process.note(App::Handled { reading: self.reading, seq });
        self.came_to(seq);
    }

    fn came_to(&mut self, seq: u64) {
        self.at.seq = seq;
        self.process.shared.progress(self.process.device, self.id, Some(self.at));
    }

    /// False when a planted fault swallowed it.
    fn deliver(&mut self, event: OwnedEvent) -> bool {
        let (process, reading) = (self.process.clone(), self.reading);
        if process.planted(Plant::EventLost, 300) {
            return false;
        }
        if process.planted(Plant::SkippedKept, 300) {
            process.note(App::Skipped { reading, to: event.seq, why: SkipReason::Trimmed });
            return false;
        }
        if self.kept_back.is_none() && process.planted(Plant::EventsSwapped, 300) {
            self.kept_back = Some(event);
            return false;
        }
        if process.planted(Plant::EventRepeated, 300) {
            process.note(App::Delivered { reading, event: event.clone() });
        }
        process.note(App::Delivered { reading, event });
        if let Some(event) = self.kept_back.take() {
            process.note(App::Delivered { reading, event });
        }
        true
    }

    fn skip(&mut self, to: u64, why: SkipReason) {
        let reading = self.reading;
        if why == SkipReason::NotVisible && self.process.planted(Plant::EventLeaked, 3) {
            let logs = lock(&self.process.shared.logs);
            let known = logs.current().truth.conversations.get(&self.id);
            let hidden = known.and_then(|known| known.events.get(self.at.seq as usize..to as usize));
            let hidden = hidden.unwrap_or_default().to_vec();
            drop(logs);
            for event in hidden {
                self.process.note(App::Delivered { reading, event: event.to_event() });
            }
        } else {
            self.process.note(App::Skipped { reading, to, why });
        }
    }
}
