//! Commands as bytes. Each golden value is what logs hold: it changes only with a new version byte.

use bytes::Bytes;
use proptest::prelude::*;
use quip_core::{Action, Authority, By, Command, CommandError, JoinAs, Policy, command};
use quip_protocol::event::kind;

use crate::world::{device, group, user};

fn by_device(action: Action) -> Command {
    let by = By::Device { user: user("ann"), device: device(0xdd), n: 300 };
    let policy = Policy { history_open: false, joins_shown: true };
    let authority =
        Authority { join: true, post: true, create: false, moderate: true, add: false, policy, group_members: 200 };
    Command { conversation: group(), by, authority, action }
}

fn by_relay(action: Action) -> Command {
    Command { conversation: group(), by: By::Relay, authority: Authority::default(), action }
}

fn actions() -> Vec<(Action, &'static str)> {
    let body = || Bytes::from_static(b"hi");
    let bob = || user("bob");
    vec![
        (Action::Join(JoinAs::Existing), "01 00"),
        (Action::Join(JoinAs::Direct(bob())), "01 01 03 626f62"),
        (Action::Join(JoinAs::Room("a:b".into())), "01 02 03 613a62"),
        (Action::Join(JoinAs::NewGroup), "01 03"),
        (Action::Post { kind: kind::TEXT, body: body() }, "02 01 02 6869"),
        (Action::Post { kind: kind::DATA, body: body() }, "02 02 02 6869"),
        (Action::Edit { target: 300, body: body() }, "03 ac02 02 6869"),
        (Action::Delete { target: 300 }, "04 ac02"),
        (Action::React { target: 1, add: true, reaction: "+1".into() }, "05 01 01 02 2b31"),
        (Action::React { target: 1, add: false, reaction: "+1".into() }, "05 01 00 02 2b31"),
        (Action::Leave, "06"),
        (Action::Add { user: bob() }, "07 03 626f62"),
        (Action::Remove { user: bob(), ban: true }, "08 03 626f62 01"),
        (Action::SetRole { user: bob(), role: 3 }, "09 03 626f62 03"),
        (Action::SetTitle { title: "Us".into() }, "0a 02 5573"),
        (Action::Mark { seq: 300, number: 2 }, "0b ac02 02"),
        (Action::SetPolicy { policy: Policy { history_open: true, joins_shown: false } }, "0c 01"),
        (Action::Trim { first_kept: 300 }, "0d ac02"),
        (Action::Seen { user: bob(), at: 300 }, "0e 03 626f62 ac02"),
        (
            Action::Forget { user: bob(), device: device(0xee), before: 300 },
            "0f 03 626f62 eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee ac02",
        ),
    ]
}

/// What stands before the action.
const DEVICE: &str =
    "01 02070707070707070707070707070707 01 03 616e6e dddddddddddddddddddddddddddddddd ac02 0b 02 c801";
const RELAY: &str = "01 02070707070707070707070707070707 00 00 00 00";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_commands() {
    for (action, bytes) in actions() {
        for (command, head) in [(by_device(action.clone()), DEVICE), (by_relay(action.clone()), RELAY)] {
            assert_eq!(hex(&command.encode()), format!("{head}{bytes}").replace(' ', ""), "{action:?}");
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }
}

#[test]
fn a_command_about_a_user_has_zeros_for_a_conversation() {
    let seen = Command::seen(user("bob"), 300);
    assert_eq!(hex(&seen.encode()), "01".to_owned() + &"00".repeat(16) + "00000000" + "0e03626f62ac02");
    assert_eq!(seen.conversation.kind(), None, "no conversation has that id");
    assert_eq!(Command::decode(&seen.encode()), Ok(seen));
}

#[test]
fn authority_bits() {
    let none = Authority::default();
    for (authority, bits) in [
        (Authority { join: true, ..none }, [1, 0]),
        (Authority { post: true, ..none }, [2, 0]),
        (Authority { create: true, ..none }, [4, 0]),
        (Authority { moderate: true, ..none }, [8, 0]),
        (Authority { add: true, ..none }, [16, 0]),
        (Authority { policy: Policy { history_open: true, joins_shown: false }, ..none }, [0, 1]),
        (Authority { policy: Policy { history_open: false, joins_shown: true }, ..none }, [0, 2]),
    ] {
        let command = Command { authority, ..by_relay(Action::Leave) };
        assert_eq!(command.encode()[18..20], bits);
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

#[test]
fn a_join_creates_only_what_its_user_may_create() {
    let join = |how| by_relay(Action::Join(how));
    let may = |command: Command, join, create| {
        Command { authority: Authority { join, create, ..Authority::default() }, ..command }.may_create()
    };
    assert!(may(join(JoinAs::NewGroup), true, true));
    assert!(!may(join(JoinAs::NewGroup), true, false) && !may(join(JoinAs::NewGroup), false, true));
    assert!(!may(join(JoinAs::Existing), true, true) && !may(by_relay(Action::Leave), true, true));
}

#[test]
fn an_unknown_action_or_version_stops_the_log() {
    let mut bytes = by_relay(Action::Leave).encode();
    let last = bytes.len() - 1;
    for action in [0, 16, 0x7f] {
        bytes[last] = action;
        assert_eq!(Command::decode(&bytes), Err(CommandError::UnknownAction(action.into())));
    }
    bytes[last] = 0x82;
    bytes.push(2);
    assert_eq!(Command::decode(&bytes), Err(CommandError::UnknownAction(0x102)), "not taken for a post");
    for version in [0, command::VERSION + 1, 255] {
        bytes[0] = version;
        assert_eq!(Command::decode(&bytes), Err(CommandError::UnknownVersion(version)));
    }
    let mut join = by_relay(Action::Join(JoinAs::Existing)).encode();
    *join.last_mut().unwrap() = 4;
    assert_eq!(Command::decode(&join), Err(CommandError::UnknownAction(1)), "a new way to join");
    let post = by_relay(Action::Post { kind: kind::EDITED, body: Bytes::from_static(b"x") });
    assert_eq!(Command::decode(&post.encode()), Err(CommandError::UnknownAction(2)), "a new kind of message");
    for role in [0, 4, 255] {
        let set = by_relay(Action::SetRole { user: user("bob"), role });
        assert_eq!(Command::decode(&set.encode()), Err(CommandError::UnknownAction(9)), "a new role");
    }
}

#[test]
fn commands_that_are_too_short_or_too_long() {
    for (action, _) in actions() {
        let bytes = by_device(action.clone()).encode();
        for length in 0..bytes.len() {
            assert_eq!(Command::decode(&bytes[..length]), Err(CommandError::Malformed), "{action:?}, {length} bytes");
        }
        assert_eq!(Command::decode(&[&bytes[..], b"xyz"].concat()), Err(CommandError::Trailing(3)));
    }
}

#[test]
fn undefined_bits_are_refused() {
    let bytes = by_relay(Action::Leave).encode();
    for (at, value) in [(17, 2), (18, 0x20), (19, 4)] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        assert_eq!(Command::decode(&bytes), Err(CommandError::Malformed), "byte {at}");
    }
}

proptest! {
    #[test]
    fn damaged_commands_never_panic(which in 0..19usize, at: prop::sample::Index, byte: u8) {
        let (action, _) = actions().swap_remove(which);
        let mut bytes = by_device(action).encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(command) = Command::decode(&bytes) {
            // Whatever parses is a command that can be written again.
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }
}
