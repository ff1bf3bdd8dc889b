//! What other threads tell a worker: committed batches and answers to its reads.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use quip_core::{Command, Effect};
use quip_store::{Change, Committed, Members, ReadError, Sink};
use tokio::sync::Notify;

use super::reads::Reply;

/// One message to a worker.
#[derive(Debug)]
pub(super) enum Mail {
    /// A batch is durable.
    Committed(Arc<Committed>),
    /// A read is done.
    Read(Reply),
    /// The rows of these commands, which say when users were seen, are in memory.
    Seen(Vec<Command>),
    /// Members of groups with new messages were read.
    News(Vec<Result<Members, ReadError>>),
}

/// A worker's mailbox.
///
/// Batches are bounded in bytes: when too much waits, an event's frame is left out and its followers
/// read from the store. Answers to reads are bounded by the reads that the worker asked for.
#[derive(Debug)]
pub(super) struct Inbox {
    mail: Mutex<Waiting>,
    worker: Arc<Notify>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    mail: VecDeque<Mail>,
    bytes: usize,
}

impl Inbox {
    /// An empty inbox that notifies `worker` and keeps about `limit` bytes of frames.
    pub(super) fn new(worker: Arc<Notify>, limit: usize) -> Arc<Self> {
        Arc::new(Self { mail: Mutex::default(), worker, limit })
    }

    /// The next message.
    pub(super) fn take(&self) -> Option<Mail> {
        let mut waiting = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let mail = waiting.mail.pop_front()?;
        if let Mail::Committed(batch) = &mail {
            waiting.bytes = waiting.bytes.saturating_sub(batch.bytes);
        }
        Some(mail)
    }

    /// Delivers the answer to a read.
    pub(super) fn answer(&self, reply: Reply) {
        self.put(Mail::Read(reply), 0);
    }

    /// Delivers commands whose rows were read.
    pub(super) fn seen(&self, commands: Vec<Command>) {
        self.put(Mail::Seen(commands), 0);
    }

    /// Delivers members of groups with new messages.
    pub(super) fn news(&self, pages: Vec<Result<Members, ReadError>>) {
        self.put(Mail::News(pages), 0);
    }

    fn put(&self, mail: Mail, bytes: usize) {
        let mut waiting = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let mail = match mail {
            Mail::Committed(batch) if waiting.bytes + bytes > self.limit => Mail::Committed(without_frames(&batch)),
            mail => {
                waiting.bytes += bytes;
                mail
            }
        };
        let first = waiting.mail.is_empty();
        waiting.mail.push_back(mail);
        drop(waiting);
        if first {
            self.worker.notify_one();
        }
    }
}

/// The store's end of an inbox.
#[derive(Debug)]
pub(super) struct InboxSink(pub(super) Arc<Inbox>);

impl Sink for InboxSink {
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
        // The ring begins anew behind an event without a frame: nothing in it is left to be replaced.
        change.effects.retain(|effect| !matches!(effect, Effect::Rewritten { .. }));
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
            Effect::Touched { user: record.user.clone() },
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
        let inbox = Inbox::new(Arc::default(), 150);
        let sink = InboxSink(inbox.clone());
        (0..2).for_each(|_| sink.committed(&deletion()));
        let taken = || match inbox.take() {
            Some(Mail::Committed(batch)) => batch,
            other => panic!("{other:?}"),
        };
        assert_eq!(taken(), deletion());
        let stripped = taken();
        let change = &stripped.changes[0];
        assert_eq!(change.event.as_ref().map(|event| (event.seq, event.record.frame.len())), Some((3, 0)));
        assert!(
            matches!(change.effects[..], [Effect::Touched { .. }]),
            "nothing is replaced in a ring that was emptied"
        );
        sink.committed(&deletion());
        assert_eq!(taken(), deletion(), "there is room again");
    }
}
