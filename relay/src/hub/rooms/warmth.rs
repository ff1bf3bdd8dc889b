//! Whether the sequencer may have to wait for the disk for a command's records. Pure.

use quip_core::Key;

/// What one stream's commands need, and in which epoch of the sequencer's cache it was used last. The sequencer begins a
/// new epoch when it forgets old records ([`quip_store::Committed::cache_epoch`] counts them).
#[derive(Debug, Default)]
pub(super) struct Warmth {
    /// Conversation, membership and send numbers.
    sends: Option<u64>,
    /// Conversation, membership and read mark.
    mark: Option<u64>,
}

impl Warmth {
    /// True when the rows of a command may be on the disk alone, so that a reader has to read them first. An event or
    /// another member that it names is nobody's last use, and such commands are few: these always go by a reader.
    pub(super) fn is_cold(&self, keys: &[Key], epoch: u64) -> bool {
        let members = keys.iter().filter(|key| matches!(key, Key::Member(_))).count();
        let is_forgotten = |key: &Key| match key {
            Key::Sends(_) => self.sends != Some(epoch),
            Key::Mark(_) => self.mark != Some(epoch),
            Key::Event(_) => true,
            _ => false,
        };
        members > 1 || keys.iter().any(is_forgotten)
    }

    /// A command that needs send numbers was submitted. The sequencer uses its rows in this epoch or a later one and keeps them
    /// for one epoch more, which is time for what is submitted in the same epoch to get there.
    pub(super) fn used_sends(&mut self, epoch: u64) {
        self.sends = Some(epoch);
    }

    /// A command that needs the read mark was submitted.
    pub(super) fn used_mark(&mut self, epoch: u64) {
        self.mark = Some(epoch);
    }
}

#[cfg(test)]
mod tests {
    use quip_core::{Action, Authority, By, Command, JoinAs};
    use quip_protocol::{ConversationId, DeviceId, UserId};

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn is_cold(warmth: &Warmth, action: Action, epoch: u64) -> bool {
        let n = u64::from(!matches!(action, Action::Mark { .. }));
        let by = By::Device { user: user("ann"), device: DeviceId([1; 16]), n };
        let conversation = ConversationId::direct(&user("ann"), &user("ben"));
        let command = Command { conversation, by, authority: Authority::default(), action };
        warmth.is_cold(&quip_core::keys(&command), epoch)
    }

    fn post() -> Action {
        Action::Post { kind: 1, body: "x".into() }
    }

    fn mark() -> Action {
        Action::Mark { seq: 1, number: 1 }
    }

    /// What a message leaves behind.
    fn posted(warmth: &mut Warmth, epoch: u64) {
        warmth.used_sends(epoch);
        warmth.used_mark(epoch);
    }

    #[test]
    fn the_first_command_of_a_stream_is_cold_and_those_behind_it_are_not() {
        let mut warmth = Warmth::default();
        assert!(is_cold(&warmth, post(), 0));
        posted(&mut warmth, 0);
        assert!(!is_cold(&warmth, post(), 0));
        assert!(!is_cold(&warmth, Action::Leave, 0));
        assert!(!is_cold(&warmth, mark(), 0));
    }

    #[test]
    fn in_a_new_epoch_everything_is_cold_once() {
        let mut warmth = Warmth::default();
        posted(&mut warmth, 7);
        assert!(!is_cold(&warmth, post(), 7) && !is_cold(&warmth, mark(), 7));
        assert!(is_cold(&warmth, post(), 8) && is_cold(&warmth, mark(), 8));
        posted(&mut warmth, 8);
        assert!(!is_cold(&warmth, post(), 8));
    }

    #[test]
    fn a_message_needs_both_what_other_commands_and_what_marks_need() {
        let mut warmth = Warmth::default();
        warmth.used_sends(0);
        assert!(!is_cold(&warmth, Action::Leave, 0) && is_cold(&warmth, mark(), 0) && is_cold(&warmth, post(), 0));
        let mut warmth = Warmth::default();
        warmth.used_mark(0);
        assert!(is_cold(&warmth, Action::Leave, 0) && !is_cold(&warmth, mark(), 0) && is_cold(&warmth, post(), 0));
    }

    #[test]
    fn what_names_an_event_or_another_member_is_always_cold() {
        let mut warmth = Warmth::default();
        posted(&mut warmth, 0);
        let ben = || user("ben");
        for action in [
            Action::Edit { target: 1, body: "x".into() },
            Action::Delete { target: 1 },
            Action::React { target: 1, add: true, reaction: "x".to_owned() },
            Action::Add { user: ben() },
            Action::Remove { user: ben(), ban: false },
            Action::SetRole { user: ben(), role: 1 },
            Action::Join(JoinAs::Direct(ben())),
        ] {
            assert!(is_cold(&warmth, action.clone(), 0), "{action:?}");
        }
    }
}
