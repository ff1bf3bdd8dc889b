//! What the sequencer hands out of each batch.

use std::sync::Arc;

use quip_core::{By, Effect, NewEvent};
use quip_protocol::{ConversationId, conversation::Outcome};

/// One batch of commands that is durable now, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// Of which partition of the log.
    pub partition: u16,
    /// The position of its last command.
    pub position: u64,
    /// What each command came to; commands that changed nothing and answer nobody are left out.
    pub changes: Vec<Change>,
    /// Memory that the batch holds, about, in bytes; what bounded inboxes count.
    pub bytes: usize,
    /// How often the sequencer had forgotten old records when it began with this batch. What it uses at one count it has until
    /// the count has gone up by two; [`crate::View::warm`] is for what it may not have.
    pub cache_epoch: u64,
}

/// What one command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub conversation: ConversationId,
    /// Who submitted the command, and as which `n`.
    pub by: By,
    /// What the submitter gets to know; `None` for read marks and a relay's own commands.
    pub outcome: Option<Outcome>,
    /// The event that it became.
    pub event: Option<NewEvent>,
    /// What else follows from it.
    pub effects: Vec<Effect>,
}

/// Takes every committed batch.
pub trait Sink: Send {
    /// Called by the sequencer thread, once for each batch, in order, after the batch is durable. A read of any
    /// [`crate::View`] that begins later sees it. Must not block, or read a view itself: the commit waits for it.
    fn committed(&self, batch: &Arc<Committed>);
}

impl Change {
    /// Memory that the change holds, about, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let event = self.event.as_ref().map_or(0, |event| event.record.frame.len());
        let effects: usize = self.effects.iter().map(effect_weight).sum();
        size_of::<Self>() + event + effects
    }
}

fn effect_weight(effect: &Effect) -> usize {
    let bytes = if let Effect::Rewritten { record, .. } = effect { record.frame.len() } else { 0 };
    size_of::<Effect>() + bytes
}
