//! Commands that more than one benchmark uses.

use bytes::Bytes;
use quip_core::{Action, Authority, By, Command, JoinAs};
use quip_protocol::{ConversationId, DeviceId, UserId, event::kind};

/// A device of a user who is in a direct conversation of his own.
pub(crate) struct Sender {
    user: UserId,
    other: UserId,
    conversation: ConversationId,
    n: u64,
}

impl Sender {
    /// The sender with that number.
    pub(crate) fn new(number: u64) -> Self {
        let user = |name: &str| UserId::parse(&format!("{name}-{number}")).expect("the name is well-formed");
        let (user, other) = (user("sender"), user("receiver"));
        let conversation = ConversationId::direct(&user, &other);
        Self { user, other, conversation, n: 0 }
    }

    /// His first command: it makes the conversation.
    pub(crate) fn join(&mut self) -> Command {
        self.command(Action::Join(JoinAs::Direct(self.other.clone())))
    }

    /// A message of 32 bytes.
    pub(crate) fn post(&mut self) -> Command {
        self.command(Action::Post { kind: kind::TEXT, body: Bytes::from_static(&[b'.'; 32]) })
    }

    /// Any command, with the next number.
    pub(crate) fn command(&mut self, action: Action) -> Command {
        self.n += 1;
        Command {
            conversation: self.conversation,
            by: By::Device { user: self.user.clone(), device: DeviceId([7; 16]), n: self.n },
            authority: Authority { join: true, post: true, create: true, ..Authority::default() },
            action,
        }
    }
}
