//! Random histories: the fold against the model, and a log applied twice.

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};
use quip_core::{
    Action, Authority, By, Command, ConversationRecord, JoinAs, MarkRecord, MemberRecord, MemberState, NO_CONVERSATION,
    Naming, Policy, ReactionsRecord,
    record::{MemberKey, ReactionsKey},
};
use quip_protocol::{ConversationId, UserId, event::kind};

use crate::{
    model::{Model, Standing, Talk},
    world::{GRANTED, ROOM, World, device, group, room, user},
};

const NAMES: [&str; 4] = ["ann", "bob", "cat", "dan"];
const DEVICES: u8 = 2;

/// One line of a log: what is asked, and which number it carries.
#[derive(Debug, Clone)]
enum Line {
    /// A device's next command, one after a gap, or an earlier number for new content.
    New { at: u64, place: u8, who: u8, device: u8, number: Number, authority: Authority, action: Action },
    /// An earlier line again, byte for byte, by another relay with another view of the authority.
    Again { at: u64, line: Index, authority: Authority },
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Next,
    Gap(u64),
    Back(u64),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&NAMES[..])
}

fn place(number: u8) -> ConversationId {
    match number {
        0 => group(),
        1 => room(),
        2 => ConversationId::direct(&user("ann"), &user("bob")),
        _ => ConversationId::direct(&user("cat"), &user("cat")),
    }
}

fn authority() -> impl Strategy<Value = Authority> {
    let often = || prop::bool::weighted(0.9);
    let group_members = prop_oneof![Just(100), 1..5u32];
    (often(), often(), often(), prop::bool::weighted(0.15), often(), policy(), group_members).prop_map(
        |(join, post, create, moderate, add, policy, group_members)| Authority {
            join,
            post,
            create,
            moderate,
            add,
            policy,
            group_members,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    any::<(bool, bool)>().prop_map(|(history_open, joins_shown)| Policy { history_open, joins_shown })
}

fn action() -> impl Strategy<Value = Action> {
    let seq = || prop_oneof![20 => 0..50u64, 1 => Just(u64::MAX)];
    let who = || name().prop_map(user);
    let body = || "[a-c]{1,3}".prop_map(Bytes::from);
    prop_oneof![
        3 => Just(Action::Join(JoinAs::Existing)),
        1 => Just(Action::Join(JoinAs::NewGroup)),
        2 => Just(Action::Join(JoinAs::Room(ROOM.into()))),
        1 => who().prop_map(|peer| Action::Join(JoinAs::Direct(peer))),
        10 => (prop_oneof![Just(kind::TEXT), Just(kind::DATA)], body()).prop_map(|(kind, body)| Action::Post { kind, body }),
        6 => (seq(), "[ab]").prop_map(|(target, body)| Action::Edit { target, body: body.into() }),
        3 => seq().prop_map(|target| Action::Delete { target }),
        6 => (seq(), prop::bool::weighted(0.7), "[+-]")
            .prop_map(|(target, add, reaction)| Action::React { target, add, reaction }),
        2 => Just(Action::Leave),
        4 => who().prop_map(|user| Action::Add { user }),
        3 => (who(), any::<bool>()).prop_map(|(user, ban)| Action::Remove { user, ban }),
        4 => (who(), 1..4u8).prop_map(|(user, role)| Action::SetRole { user, role }),
        1 => "[a-c]{0,3}".prop_map(|title| Action::SetTitle { title }),
        3 => (seq(), 0..30u64).prop_map(|(seq, number)| Action::Mark { seq, number }),
        1 => policy().prop_map(|policy| Action::SetPolicy { policy }),
        1 => seq().prop_map(|first_kept| Action::Trim { first_kept }),
        3 => (who(), 0..1000u64).prop_map(|(user, at)| Action::Seen { user, at }),
        3 => (who(), 0..DEVICES, 0..1000u64).prop_map(|(user, of, before)| {
            Action::Forget { user, device: device(of), before }
        }),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    let number = prop_oneof![
        20 => Just(Number::Next),
        1 => (1..4u64).prop_map(Number::Gap),
        2 => (0..70u64).prop_map(Number::Back),
    ];
    let new = (
        0..1000u64,
        prop_oneof![4 => 0..2u8, 1 => 2..4u8],
        0..NAMES.len() as u8,
        0..DEVICES,
        number,
        authority(),
        action(),
    );
    prop_oneof![
        8 => new.prop_map(|(at, place, who, device, number, authority, action)| {
            Line::New { at, place, who, device, number, authority, action }
        }),
        1 => (0..1000u64, any::<Index>(), authority())
            .prop_map(|(at, line, authority)| Line::Again { at, line, authority }),
    ]
}

/// A start in which everyone is everywhere, so that not all that follows is refused.
fn prelude(policy: Policy) -> Vec<Line> {
    let authority = Authority { policy, ..GRANTED };
    let new = |place, who, action| Line::New { at: 0, place, who, device: 0, number: Number::Next, authority, action };
    let mut lines = vec![
        new(0, 0, Action::Join(JoinAs::NewGroup)),
        new(2, 0, Action::Join(JoinAs::Direct(user("bob")))),
        new(3, 2, Action::Join(JoinAs::Direct(user("cat")))),
    ];
    lines.extend(NAMES[1..].iter().map(|name| new(0, 0, Action::Add { user: user(name) })));
    lines.push(new(0, 0, Action::SetRole { user: user("bob"), role: 2 }));
    lines.extend((0..4).map(|who| new(1, who, Action::Join(JoinAs::Room(ROOM.into())))));
    lines
}

/// Most numbers of events stand for one of the latest messages, half of these for an own one. Edits are deleted too.
fn aim(action: Action, talk: Option<&Talk>, user: &UserId) -> Action {
    let Some(talk) = talk else { return action };
    let last = if matches!(action, Action::Delete { .. }) { kind::EDITED } else { kind::DATA };
    let of = |seq: u64| {
        let own = seq.is_multiple_of(2);
        let messages = talk.events.iter().rev().filter(|event| event.kind <= last && (!own || event.user == *user));
        let found = messages.map(|event| event.seq).nth(seq as usize / 10);
        if seq < 40 { found.unwrap_or(seq) } else { seq }
    };
    match action {
        Action::Edit { target, body } => Action::Edit { target: of(target), body },
        Action::Delete { target } => Action::Delete { target: of(target) },
        Action::React { target, add, reaction } => Action::React { target: of(target), add, reaction },
        other => other,
    }
}

/// The log with its numbers, as the model counts them.
fn log(lines: &[Line], model: &mut Model, mut check: impl FnMut(&Command, u64, &mut Model)) -> Vec<(Command, u64)> {
    let mut log: Vec<(Command, u64)> = Vec::new();
    for line in lines {
        let (command, at) = match line {
            Line::Again { line, at, authority } if !log.is_empty() => {
                (Command { authority: *authority, ..line.get(&log).0.clone() }, *at)
            }
            Line::Again { .. } => continue,
            Line::New { at, place: number, who, device: of, number: n, authority, action } => {
                let (id, user, device) = (place(*number), user(NAMES[*who as usize]), device(*of));
                let last = model.told.get(&(id, user.clone(), device)).map_or(0, |told| told.len() as u64);
                let n = match (action, n) {
                    (Action::Mark { .. }, _) => 0,
                    (_, Number::Next) => last + 1,
                    (_, Number::Gap(more)) => last + 1 + more,
                    (_, Number::Back(back)) => last.saturating_sub(*back).max(1),
                };
                let action = aim(action.clone(), model.talks.get(&id), &user);
                // Half of what is a relay's to ask is asked by one.
                let by = match action {
                    Action::SetPolicy { .. } | Action::Trim { .. } | Action::Forget { .. } | Action::Seen { .. }
                        if at % 2 == 0 =>
                    {
                        By::Relay
                    }
                    _ => By::Device { user, device, n },
                };
                let about_a_user = matches!((&by, &action), (By::Relay, Action::Seen { .. }));
                let id = if about_a_user { NO_CONVERSATION } else { id };
                (Command { conversation: id, by, authority: *authority, action }, *at)
            }
        };
        check(&command, at, model);
        log.push((command, at));
    }
    log
}

fn assert_same(world: &World, model: &Model) {
    let conversations = world.keys_of::<ConversationRecord>().len();
    assert_eq!(conversations, model.talks.len());
    for (&id, talk) in &model.talks {
        let conversation = world.conversation(id).unwrap();
        let row = &conversation;
        assert_eq!(
            (row.created_at, row.head, row.number, row.first_kept, row.last_at, row.policy),
            (talk.began, talk.head(), talk.number(), talk.first_kept, talk.last_at(), talk.policy)
        );
        assert_eq!((row.members, row.owners), (talk.members() as u64, talk.owners() as u64));
        assert!(matches!(row.naming, Naming::Direct(..)) || title(&row.naming) == talk.title);
        for event in &talk.events {
            assert_eq!(world.event(id, event.seq).as_ref(), Some(event), "numbered without holes");
        }
        assert_eq!(world.event_record(id, talk.head() + 1), None);
        assert_eq!(row.reverted, talk.reverted.last().copied().unwrap_or_default());
        let noted = world.keys_of::<ReactionsRecord>().into_iter().filter(|ReactionsKey(of, _)| *of == id);
        let noted = noted.map(|ReactionsKey(_, message)| (message, world.reactions(id, message).unwrap().hashes.len()));
        let there = talk.reactions.iter().filter(|(_, there)| !there.is_empty());
        assert!(
            noted.eq(there.map(|(message, there)| (*message, there.len()))),
            "each reaction, and nothing of others"
        );
        let members = world.keys_of::<MemberRecord>().iter().filter(|MemberKey(of, _)| *of == id).count();
        assert_eq!(members, talk.people.len());
        for (name, person) in &talk.people {
            let row = world.member(id, name).unwrap();
            let state = match person.standing {
                Standing::Member => MemberState::Member,
                Standing::Left => MemberState::Left,
                Standing::Banned => MemberState::Banned,
            };
            assert_eq!(
                (row.state, row.role, row.from, row.to, row.number),
                (state, person.role, person.from, person.to, person.unread_from),
                "{name} in {id}"
            );
            assert_eq!(
                (row.parting.number, &row.parting.title),
                (person.parting.0, &person.parting.1),
                "{name} in {id}"
            );
            for seq in talk.first_kept..=talk.head() {
                assert_eq!(row.sees(seq), person.sees(seq), "{name} and event {seq} of {id}");
            }
            assert_same_mark(&conversation, &row, world.read_mark(id, name), talk, name);
        }
    }
    for name in NAMES {
        let seen = world.user_record(name).map_or(0, |row| row.seen);
        assert_eq!(seen, model.seen.get(name).copied().unwrap_or_default(), "{name}: the latest of all");
    }
    for ((id, user, device), told) in &model.told {
        let row = world.sends(*id, user.as_str(), device.0[0]);
        assert_eq!(row.as_ref().map_or(0, |row| row.last), told.len() as u64);
        let latest = told.iter().rev().take(64).rev();
        let rows = row.map(|row| row.latest).unwrap_or_default();
        let rows = rows.iter().map(|row| (row.code, row.seq, row.number, row.at));
        assert!(rows.eq(latest.map(|(_, outcome)| (outcome.code, outcome.seq, outcome.number, outcome.at))));
    }
}

/// Unread are as many as a look at every event finds, as long as the records know all that was deleted and said.
fn assert_same_mark(
    conversation: &ConversationRecord,
    member: &MemberRecord,
    mark: Option<MarkRecord>,
    talk: &Talk,
    name: &str,
) {
    let mark = mark.unwrap_or_default();
    let unread = member.last_number(conversation) - mark.read_number(conversation, member);
    let person = &talk.people[name];
    if talk.deleted() <= ConversationRecord::DELETED && person.own_runs <= MarkRecord::OWN {
        assert_eq!((mark.seq, unread), (person.mark.0, talk.unread(name)), "{name}: {mark:?} {person:?}");
    } else {
        assert!(unread >= talk.unread(name), "{name}: {mark:?} {person:?}");
    }
}

fn title(naming: &Naming) -> &str {
    match naming {
        Naming::Direct(..) => "",
        Naming::Group(title) | Naming::Room(_, title) => title,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Outcome by outcome and row by row, the fold does what the model says, and twice the same.
    #[test]
    fn the_fold_is_the_model(start in prop::option::weighted(0.8, policy()), rest in prop::collection::vec(line(), 0..250)) {
        let lines = [start.map(prelude).unwrap_or_default(), rest].concat();
        let (mut world, mut model) = (World::default(), Model::default());
        let log = log(&lines, &mut model, |command, at, model| {
            let outcome = world.apply(command, at).outcome;
            assert_eq!(outcome, model.apply(command, at), "{command:?}");
        });
        assert_same(&world, &model);

        let mut again = World::default();
        for (command, at) in &log {
            let bytes = command.encode();
            again.apply(&Command::decode(&bytes).unwrap(), *at);
        }
        prop_assert_eq!(&again.stored, &world.stored, "one log, one result, to the byte");
    }
}
