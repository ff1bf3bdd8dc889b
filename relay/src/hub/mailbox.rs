//! What other threads leave for the hub: committed batches and answers to its reads.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use quip_core::Effect;
use quip_store::{Change, Committed, Job, Sink};
use tokio::sync::Notify;

use super::reads::{Read, ReadDone};

/// One piece of mail.
#[derive(Debug)]
pub enum Mail {
    /// A batch is durable.
    Committed(Arc<Committed>),
    /// A read is done.
    Read(ReadDone),
}

/// Where the sequencer and the readers leave mail. Cheap to clone; made before the hub.
///
/// Batches are bounded in bytes: when too much waits, the frames of events are left out, and their followers read from
/// the store. Answers are bounded by the reads that the hub has under way.
#[derive(Debug, Clone)]
pub struct Mailbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Waiting>,
    wake: Arc<Notify>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    mail: VecDeque<Mail>,
    bytes: usize,
}

impl Mailbox {
    /// An empty mailbox that keeps about `limit` bytes of frames.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { waiting: Mutex::default(), wake: Arc::default(), limit }))
    }

    /// The end that the sequencer gets.
    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(MailboxSink(self.clone()))
    }

    /// Notified when mail arrives in an empty mailbox.
    pub fn wake(&self) -> &Arc<Notify> {
        &self.0.wake
    }

    /// The oldest piece of mail.
    pub fn take(&self) -> Option<Mail> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mail = waiting.mail.pop_front()?;
        if let Mail::Committed(batch) = &mail {
            waiting.bytes = waiting.bytes.saturating_sub(batch.bytes);
        }
        Some(mail)
    }

    /// A job for the readers that leaves its answer here.
    pub fn job(&self, read: Read) -> Job {
        let mailbox = self.clone();
        Box::new(move |view| mailbox.put(Mail::Read(read.run(view)), 0))
    }

    fn put(&self, mail: Mail, bytes: usize) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mail = match mail {
            Mail::Committed(batch) if waiting.bytes + bytes > self.0.limit => Mail::Committed(without_frames(&batch)),
            mail => {
                waiting.bytes += bytes;
                mail
            }
        };
        let first = waiting.mail.is_empty();
        waiting.mail.push_back(mail);
        drop(waiting);
        if first {
            self.0.wake.notify_one();
        }
    }
}

#[derive(Debug)]
struct MailboxSink(Mailbox);

impl Sink for MailboxSink {
    fn committed(&self, batch: &Arc<Committed>) {
        self.0.put(Mail::Committed(Arc::clone(batch)), batch.bytes);
    }
}

fn without_frames(batch: &Committed) -> Arc<Committed> {
    let strip = |change: &Change| {
        let mut change = change.clone();
        if let Some(event) = &mut change.event {
            event.record.frame = Bytes::new();
        }
        // The ring starts over behind an event without a frame. Pages that are being read must still learn of it.
        for effect in &mut change.effects {
            if let Effect::Rewritten { record, .. } = effect {
                record.frame = Bytes::new();
            }
        }
        change
    };
    let changes = batch.changes.iter().map(strip).collect();
    Arc::new(Committed { changes, bytes: 0, ..*batch })
}

#[cfg(test)]
mod tests {
    use quip_core::{By, EventRecord, NewEvent};
    use quip_protocol::{ConversationId, DeviceId, UserId};

    use super::*;

    fn deletion() -> Arc<Committed> {
        let user = UserId::parse("ann").unwrap();
        let record = EventRecord { user, device: DeviceId([1; 16]), n: 1, frame: Bytes::from_static(b"frame") };
        let effects = vec![
            Effect::Touched { user: record.user.clone(), other: record.user.clone() },
            Effect::Rewritten { seq: 1, record: record.clone() },
            Effect::Rewritten { seq: 2, record: record.clone() },
        ];
        let event = Some(NewEvent { seq: 3, number: 1, at: 9, kind: 4, record });
        let change =
            Change { conversation: ConversationId::group([7; 15]), by: By::Relay, outcome: None, event, effects };
        Arc::new(Committed { partition: 0, position: 7, changes: vec![change], bytes: 100, cache_epoch: 2 })
    }

    #[test]
    fn over_its_limit_it_keeps_what_happened_and_no_frames() {
        let mailbox = Mailbox::new(150);
        let sink = mailbox.sink();
        (0..2).for_each(|_| sink.committed(&deletion()));
        let taken = || match mailbox.take() {
            Some(Mail::Committed(batch)) => batch,
            other => panic!("{other:?}"),
        };
        assert_eq!(taken(), deletion());
        let stripped = taken();
        let change = &stripped.changes[0];
        assert_eq!(change.event.as_ref().map(|event| (event.seq, event.record.frame.len())), Some((3, 0)));
        let rewritten = change.effects.iter().filter_map(|effect| match effect {
            Effect::Rewritten { seq, record } => Some((*seq, record.frame.len())),
            _ => None,
        });
        assert_eq!(rewritten.collect::<Vec<_>>(), [(1, 0), (2, 0)]);
        sink.committed(&deletion());
        assert_eq!(taken(), deletion(), "there is room again");
    }
}
