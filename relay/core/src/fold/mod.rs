//! Decides one command.

mod event;
mod hash;
mod join;
mod loaded;
mod mark;
mod member;
mod post;
mod relay;
mod sends;
mod step;

use quip_protocol::{Code, UserId, conversation::Outcome};

pub use self::{hash::check, loaded::Loaded};
use self::{sends::Numbered, step::Step};
use crate::{
    Action, By, Command, EventRecord, JoinAs, Key, Record, Timestamp,
    record::{self, ConversationKey, EditsKey, EventKey, MarkKey, MemberKey, ReactionsKey, SendsKey, UserKey},
};

/// A record to write under its key; `None` removes it.
pub type Write = (Key, Option<Record>);

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folded {
    /// The records to write, each key once and at most 256.
    pub writes: Vec<Write>,
    /// The loaded records that did not change, for reuse.
    pub unchanged: Vec<Write>,
    /// The event that it became; it is among the writes.
    pub event: Option<NewEvent>,
    /// The answer to the submitter; `None` for read marks and a relay's own commands.
    pub outcome: Option<Outcome>,
    /// Other effects.
    pub effects: Vec<Effect>,
}

/// A new event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its seq.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
    /// Its time.
    pub at: Timestamp,
    /// `event::kind`.
    pub kind: u64,
    /// The stored record; `record.frame` is sent.
    pub record: EventRecord,
}

/// An effect of a command besides its writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A user's membership changed. They may see the events `from` up to and including `to`.
    Visible {
        /// Who.
        user: UserId,
        /// The first event.
        from: u64,
        /// The last event; `u64::MAX` = open-ended.
        to: u64,
        /// The role now; 0 = no longer a member.
        role: u8,
        /// What the conversation is called for them, see [`Naming::shown`](crate::Naming::shown).
        name: String,
    },
    /// A direct conversation has a new message for this user.
    Touched {
        /// Who.
        user: UserId,
        /// The other user of the conversation.
        other: UserId,
    },
    /// A user's read mark moved, or they said something, which they have read.
    Marked {
        /// Who.
        user: UserId,
        /// Read up to this event.
        seq: u64,
        /// How many of the messages up to the newest are not unread, see
        /// [`MarkRecord::read_number`](crate::MarkRecord::read_number).
        number: u64,
    },
    /// When a user was last heard from; reported even if it did not change.
    Seen {
        /// Who.
        user: UserId,
        /// When.
        at: Timestamp,
    },
    /// An event was replaced by a tombstone.
    Rewritten {
        /// Its seq.
        seq: u64,
        /// The tombstone; it is among the writes.
        record: EventRecord,
    },
    /// Events were trimmed: from `from` up to but excluding `until`.
    Trimmed {
        /// The first one.
        from: u64,
        /// The oldest event that is kept now.
        until: u64,
    },
}

/// The keys of the records that a command needs, from its own fields alone.
pub fn keys(command: &Command) -> Vec<Key> {
    let id = command.conversation;
    let By::Device { user, device, n } = &command.by else {
        return match &command.action {
            Action::Seen { user, .. } => vec![UserKey(user.clone()).into()],
            Action::Forget { user, device, .. } => vec![SendsKey(id, *device, user.clone()).into()],
            _ => vec![ConversationKey(id).into()],
        };
    };
    let mut keys = Vec::with_capacity(6);
    keys.extend([ConversationKey(id).into(), MemberKey(id, user.clone()).into()]);
    if *n > 0 {
        keys.push(SendsKey(id, *device, user.clone()).into());
    }
    let About { user: other, event, edits, reactions } = about(&command.action);
    keys.extend(other.filter(|other| *other != user).map(|other| MemberKey(id, other.clone()).into()));
    keys.extend(event.map(|seq| EventKey(id, seq).into()));
    keys.extend(edits.map(|seq| EditsKey(id, seq).into()));
    keys.extend(reactions.map(|seq| ReactionsKey(id, seq).into()));
    if let Action::Mark { .. } | Action::Post { .. } = &command.action {
        keys.push(MarkKey(user.clone(), id).into());
    }
    keys
}

/// The target of a device's command, besides its conversation and its user.
#[derive(Default)]
struct About<'a> {
    user: Option<&'a UserId>,
    event: Option<u64>,
    /// The message whose edits it adds to or removes.
    edits: Option<u64>,
    /// The message whose reactions it changes or removes.
    reactions: Option<u64>,
}

fn about(action: &Action) -> About<'_> {
    match action {
        Action::Join(JoinAs::Direct(user))
        | Action::Add { user }
        | Action::Remove { user, .. }
        | Action::SetRole { user, .. } => About { user: Some(user), ..About::default() },
        Action::Edit { target, .. } => About { event: Some(*target), edits: Some(*target), ..About::default() },
        Action::Delete { target } => {
            About { event: Some(*target), edits: Some(*target), reactions: Some(*target), ..About::default() }
        }
        Action::React { target, .. } => About { event: Some(*target), reactions: Some(*target), ..About::default() },
        Action::Join(_)
        | Action::Post { .. }
        | Action::Leave
        | Action::SetTitle { .. }
        | Action::Mark { .. }
        | Action::SetPolicy { .. }
        | Action::Trim { .. }
        | Action::Forget { .. }
        | Action::Seen { .. } => About::default(),
    }
}

/// Decides one command. No IO, no clock, no state of its own.
///
/// `loaded` are the current records of the [`keys`]. They come back in [`Folded::writes`] or [`Folded::unchanged`]. A
/// refusal changes nothing but the send numbers.
///
/// # Panics
/// If the records contradict each other, which means that the fold did not write them.
pub fn fold(command: &Command, at: Timestamp, loaded: Loaded) -> Folded {
    let id = command.conversation;
    match (&command.by, &command.action) {
        (By::Relay, Action::Seen { user, at: heard }) => relay::seen(user, *heard, at, loaded),
        (By::Relay, Action::Forget { user, device, before }) => {
            relay::forget(SendsKey(id, *device, user.clone()), *before, loaded)
        }
        (By::Relay, action) => relay::fold(id, action, loaded),
        (By::Device { user, .. }, Action::Mark { seq, number }) => mark::mark(id, user, *seq, *number, loaded),
        (By::Device { user, device, n }, action) => numbered(Step::new(command, user, *device, *n, at, loaded), action),
    }
}

/// Returns the recorded outcome of the send number, or decides it and records the outcome. Of a conversation that does not exist
/// nothing is recorded, so a refusal there uses no number up. One whose record is damaged does exist.
fn numbered(mut step: Step<'_>, action: &Action) -> Folded {
    let hash = hash::action(action);
    let (n, at) = (step.n, step.at);
    let found = sends::look_up(step.sends.get(), n, hash);
    let outcome = match found {
        Numbered::Decided(recorded) => sends::outcome(n, &recorded),
        Numbered::Refused(code, info) => Outcome { n, code, seq: info, number: 0, at, check: record::check(hash) },
        Numbered::Next => {
            let verdict = if step.is_damaged { Err(Code::STORED_DAMAGED) } else { decide(&mut step, action) };
            let recorded = step::record(verdict, at, hash);
            if step.exists() || step.is_damaged {
                step.sends.change().get_or_insert_default().push(recorded);
            }
            sends::outcome(n, &recorded)
        }
    };
    step.finish(outcome)
}

fn decide(step: &mut Step<'_>, action: &Action) -> step::Verdict {
    match action {
        Action::Join(how) => join::join(step, how),
        Action::Post { kind, body } => post::post(step, *kind, body),
        Action::Edit { target, body } => post::edit(step, *target, body),
        Action::Delete { target } => post::delete(step, *target),
        Action::React { target, add, reaction } => post::react(step, *target, *add, reaction),
        Action::Leave => member::leave(step),
        Action::Add { user } => member::add(step, user),
        Action::Remove { user, ban } => member::remove(step, user, *ban),
        Action::SetRole { user, role } => member::set_role(step, user, *role),
        Action::SetTitle { title } => member::set_title(step, title),
        Action::SetPolicy { .. } | Action::Trim { .. } | Action::Forget { .. } | Action::Seen { .. } => {
            Err(Code::FORBIDDEN)
        }
        Action::Mark { .. } => unreachable!("read marks carry no number"),
    }
}
