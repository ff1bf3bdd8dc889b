//! Decides one command.

mod content;
mod event;
mod join;
mod mark;
mod member;
mod post;
mod relay;
mod sends;
mod step;

use quip_protocol::{Code, ConversationId, DeviceId, UserId, conversation::Outcome};

use self::{sends::Numbered, step::Step};
use crate::{
    Action, By, Command, ConversationRow, EditsRow, EventRow, JoinAs, MarkRow, MemberRow, SendsRow, Timestamp, UserRow,
};

/// The rows that a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys<'a> {
    /// The conversation's row.
    pub conversation: ConversationId,
    /// The acting user's member row.
    pub actor: Option<&'a UserId>,
    /// With this device, the send numbers row (only when the command carries an `n`).
    pub device: Option<DeviceId>,
    /// The member row of the user that the command is about; `None` when that is the acting user.
    pub target: Option<&'a UserId>,
    /// The event that the command is about.
    pub event: Option<u64>,
    /// The message whose edits it adds to or removes.
    pub edits: Option<u64>,
    /// The acting user's read mark.
    pub mark: bool,
    /// The row of this user, of a command about a user.
    pub user: Option<&'a UserId>,
}

/// Those rows, as they are before the command and, in [`Folded`], after it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// The conversation.
    pub conversation: Option<ConversationRow>,
    /// The acting user's membership.
    pub actor: Option<MemberRow>,
    /// The membership of the user that the command is about.
    pub target: Option<MemberRow>,
    /// The device's send numbers.
    pub sends: Option<SendsRow>,
    /// The event that the command is about.
    pub event: Option<EventRow>,
    /// The edits of that event.
    pub edits: Option<EditsRow>,
    /// The acting user's read mark.
    pub mark: Option<MarkRow>,
    /// What is known of the user that the command is about.
    pub user: Option<UserRow>,
    /// One of these, but for the send numbers, could not be read: the command is refused.
    pub damaged: bool,
}

/// Which of the rows the command changed and must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// [`Rows::conversation`].
    pub conversation: bool,
    /// [`Rows::actor`]; the membership-by-user row of the actor follows it.
    pub actor: bool,
    /// [`Rows::target`]; the membership-by-user row of the target follows it.
    pub target: bool,
    /// [`Rows::sends`].
    pub sends: bool,
    /// [`Rows::edits`]; none any more when the message was deleted.
    pub edits: bool,
    /// [`Rows::mark`].
    pub mark: bool,
    /// [`Rows::user`].
    pub user: bool,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The rows after the command.
    pub rows: Rows,
    /// Which of them to write.
    pub changed: Changed,
    /// The event that it became, to be written under its seq.
    pub event: Option<NewEvent>,
    /// What the submitter is told; `None` for read marks and a relay's own commands.
    pub outcome: Option<Outcome>,
    /// What else follows from it.
    pub effects: Vec<Effect>,
}

/// An event that has just been decided.
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
    /// What is stored; `row.frame` is what is sent.
    pub row: EventRow,
}

/// What follows from a command, besides rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// What a user may see of the conversation changed: from `from` up to and including `to`.
    Visible {
        /// Who.
        user: UserId,
        /// The first event.
        from: u64,
        /// The last event; `u64::MAX` = open-ended.
        to: u64,
        /// The role now; 0 = no longer a member.
        role: u8,
    },
    /// A direct conversation has something new for this user.
    Touched {
        /// Who.
        user: UserId,
    },
    /// A user's read mark moved.
    Marked {
        /// Who.
        user: UserId,
        /// To where.
        mark: MarkRow,
    },
    /// A user was heard last at this time, as far as is known; also when that was known before.
    Seen {
        /// Who.
        user: UserId,
        /// When.
        at: Timestamp,
    },
    /// An event was replaced by a tombstone, which is to be written in its place.
    Rewritten {
        /// Its seq.
        seq: u64,
        /// What is stored there now.
        row: EventRow,
    },
}

/// The rows that a command needs, from its own fields alone.
pub fn keys(command: &Command) -> Keys<'_> {
    let mut keys = Keys {
        conversation: command.conversation,
        actor: None,
        device: None,
        target: None,
        event: None,
        edits: None,
        mark: false,
        user: None,
    };
    let By::Device { user, device, n } = &command.by else {
        if let Action::Seen { user, .. } = &command.action {
            keys.user = Some(user);
        }
        return keys;
    };
    keys.actor = Some(user);
    keys.device = (*n > 0).then_some(*device);
    match &command.action {
        Action::Join(JoinAs::Direct(other))
        | Action::Add { user: other }
        | Action::Remove { user: other, .. }
        | Action::SetRole { user: other, .. } => keys.target = (other != user).then_some(other),
        Action::Edit { target, .. } | Action::Delete { target } => {
            (keys.event, keys.edits) = (Some(*target), Some(*target));
        }
        Action::React { target, .. } => keys.event = Some(*target),
        Action::Mark { .. } => keys.mark = true,
        Action::Join(_)
        | Action::Post { .. }
        | Action::Leave
        | Action::SetTitle { .. }
        | Action::SetPolicy { .. }
        | Action::Trim { .. }
        | Action::Seen { .. } => {}
    }
    keys
}

/// Decides one command. No IO, no clock, no state of its own.
///
/// `rows` are those that [`keys`] names, as they are; they come back in [`Folded::rows`], changed or not.
/// A refusal changes nothing but the send numbers.
///
/// # Panics
/// When the rows contradict each other, which means that they are not what the fold wrote.
pub fn fold(command: &Command, at: Timestamp, rows: Rows) -> Folded {
    let at = rows.conversation.as_ref().map_or(at, |conversation| at.max(conversation.last_at));
    match (&command.by, &command.action) {
        (By::Relay, Action::Seen { user, at: heard }) => relay::seen(user, (*heard).min(at), rows),
        (By::Relay, action) => relay::fold(action, rows),
        (By::Device { user, .. }, Action::Mark { seq, number }) => mark::mark(user, *seq, *number, rows),
        (By::Device { user, device, n }, action) => {
            let step = Step::new(command.conversation, &command.authority, user, *device, *n, at, rows);
            numbered(step, action)
        }
    }
}

/// Gives the send number its outcome: the recorded one, or a new one that is recorded.
fn numbered(mut step: Step<'_>, action: &Action) -> Folded {
    let hash = content::hash(action);
    let mut sends = step.rows.sends.take().unwrap_or_default();
    let (n, at) = (step.n, step.at);
    let outcome = match sends::look_up(&sends, n, hash) {
        Numbered::Decided(recorded) => sends::outcome(n, &recorded),
        Numbered::Refused(code, info) => Outcome { n, code, seq: info, number: 0, at },
        Numbered::Next => {
            let verdict = if step.rows.damaged { Err(Code::STORED_DAMAGED) } else { decide(&mut step, action) };
            let recorded = step::record(verdict, at, hash);
            sends.push(recorded);
            step.changed.sends = true;
            sends::outcome(n, &recorded)
        }
    };
    step.rows.sends = (sends.last > 0).then_some(sends);
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
        Action::SetPolicy { .. } | Action::Trim { .. } | Action::Seen { .. } => Err(Code::FORBIDDEN),
        Action::Mark { .. } => unreachable!("read marks carry no number"),
    }
}
