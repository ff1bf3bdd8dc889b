//! What other threads tell a worker: committed batches and answers to its reads.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use quip_store::{Change, Committed, Sink};
use tokio::sync::Notify;

use super::reads::Reply;

/// One message to a worker.
#[derive(Debug)]
pub(super) enum Mail {
    /// A batch is durable.
    Committed(Arc<Committed>),
    /// A read is done.
    Read(Reply),
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
            event.row.frame = Bytes::new();
        }
        change
    };
    let changes = batch.changes.iter().map(strip).collect();
    Arc::new(Committed { changes, bytes: 0, turnovers: batch.turnovers })
}
