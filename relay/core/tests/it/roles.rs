//! Who may do what, where: the whole table.

use bytes::Bytes;
use quip_core::{Action, Authority, JoinAs, MemberState, Policy};
use quip_protocol::{Code, ConversationId, event::role};

use crate::world::{GRANTED, World, room, text, user};

/// `ok` = accepted with an event, `-` = accepted without one, otherwise the code:
/// `NF` not found, `NM` not a member, `BN` banned, `FB` forbidden, `NT` no target, `WK` wrong kind.
/// Columns are what the acting user is; `mod` is a member whose token lets them moderate, `mute` one whose token
/// lets them neither join nor post.
const TABLE: &str = "
                      direct     | group                             | room
action                never memb | never left bann memb admin owner | never left bann memb mute mod admin owner
join by id            NF    -    | NF    NF   BN   -    -     -     | ok    ok   BN   -    -    -   -     -
join by name          NF    -    | NF    NF   BN   -    -     -     | ok    ok   BN   -    -    -   -     -
post                  NF    ok   | NF    NM   BN   ok   ok    ok    | NF    NM   BN   ok   FB   ok  ok    ok
edit own              NF    ok   | NF    NM   BN   ok   ok    ok    | NF    NM   BN   ok   FB   ok  ok    ok
edit other's          NF    FB   | NF    NM   BN   FB   FB    FB    | NF    NM   BN   FB   FB   FB  FB    FB
delete own            NF    ok   | NF    NM   BN   ok   ok    ok    | NF    NM   BN   ok   ok   ok  ok    ok
delete other's        NF    FB   | NF    NM   BN   FB   ok    ok    | NF    NM   BN   FB   FB   ok  ok    ok
delete a join         NF    NT   | NF    NM   BN   NT   NT    NT    | NF    NM   BN   NT   NT   NT  NT    NT
react                 NF    ok   | NF    NM   BN   ok   ok    ok    | NF    NM   BN   ok   ok   ok  ok    ok
leave                 NF    WK   | NF    NM   BN   ok   ok    ok    | NF    NM   BN   ok   ok   ok  ok    ok
add stranger          NF    WK   | NF    NM   BN   FB   ok    ok    | NF    NM   BN   FB   FB   NT  NT    NT
add member            NF    WK   | NF    NM   BN   FB   -     -     | NF    NM   BN   FB   FB   NT  NT    NT
add banned            NF    WK   | NF    NM   BN   FB   ok    ok    | NF    NM   BN   FB   FB   -   -     -
remove stranger       NF    WK   | NF    NM   BN   FB   NT    NT    | NF    NM   BN   FB   FB   NT  NT    NT
remove member         NF    WK   | NF    NM   BN   FB   ok    ok    | NF    NM   BN   FB   FB   ok  ok    ok
remove admin          NF    WK   | NF    NM   BN   FB   FB    ok    | NF    NM   BN   FB   FB   ok  FB    ok
remove owner          NF    WK   | NF    NM   BN   FB   FB    ok    | NF    NM   BN   FB   FB   ok  FB    ok
remove oneself        NF    WK   | NF    NM   BN   WK   WK    WK    | NF    NM   BN   WK   WK   WK  WK    WK
ban stranger          NF    WK   | NF    NM   BN   FB   -     -     | NF    NM   BN   FB   FB   -   -     -
ban member            NF    WK   | NF    NM   BN   FB   ok    ok    | NF    NM   BN   FB   FB   ok  ok    ok
ban banned            NF    WK   | NF    NM   BN   FB   -     -     | NF    NM   BN   FB   FB   -   -     -
role of member        NF    WK   | NF    NM   BN   FB   FB    ok    | NF    NM   BN   FB   FB   FB  FB    ok
role of owner         NF    WK   | NF    NM   BN   FB   FB    ok    | NF    NM   BN   FB   FB   FB  FB    ok
role of stranger      NF    WK   | NF    NM   BN   FB   FB    NT    | NF    NM   BN   FB   FB   FB  FB    NT
own role              NF    WK   | NF    NM   BN   FB   FB    ok    | NF    NM   BN   FB   FB   FB  FB    ok
role held already     NF    WK   | NF    NM   BN   FB   FB    -     | NF    NM   BN   FB   FB   FB  FB    -
title                 NF    WK   | NF    NM   BN   FB   ok    ok    | NF    NM   BN   FB   FB   ok  ok    ok
policy                FB    FB   | FB    FB   FB   FB   FB    FB    | FB    FB   FB   FB   FB   FB  FB    FB
trim                  FB    FB   | FB    FB   FB   FB   FB    FB    | FB    FB   FB   FB   FB   FB  FB    FB
";

#[test]
fn every_action_of_every_role_in_every_kind() {
    let mut cells = 0;
    for line in TABLE.lines().skip(3) {
        let (action, verdicts) = line.split_at(22);
        let verdicts = verdicts.split('|').map(|kind| kind.split_whitespace().collect::<Vec<_>>());
        for (kind, verdicts) in KINDS.iter().zip(verdicts) {
            let (kind, roles) = kind;
            assert_eq!(verdicts.len(), roles.len(), "{action} in {kind}");
            for (role, verdict) in roles.iter().zip(verdicts) {
                assert_eq!(decide(kind, role, action.trim()), verdict, "{action} as {role} in {kind}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 29 * (2 + 6 + 8), "the table is whole");
}

const KINDS: [(&str, &[&str]); 3] = [
    ("direct", &["never", "member"]),
    ("group", &["never", "left", "banned", "member", "admin", "owner"]),
    ("room", &["never", "left", "banned", "member", "mute", "mod", "admin", "owner"]),
];

/// Seq of the messages of the acting user (if it ever was a member) and of another.
struct Scene {
    world: World,
    id: ConversationId,
    own: u64,
    others: u64,
    join: u64,
}

fn decide(kind: &str, role: &str, action: &str) -> String {
    let mut scene = set(kind, role);
    let before = scene.world.clone();
    let action = scene.action(kind, action);
    let authority = match role {
        "mod" => Authority { moderate: true, ..GRANTED },
        "mute" => Authority { join: false, post: false, ..GRANTED },
        _ => GRANTED,
    };
    let outcome = scene.world.act(scene.id, "actor", authority, action);
    if outcome.code != Code::DONE {
        assert_eq!(
            before.stored.len() + usize::from(before.sends(scene.id, "actor", 1).is_none()),
            scene.world.stored.len()
        );
    }
    let name = match (outcome.code, outcome.seq) {
        (Code::DONE, 0) => "-",
        (Code::DONE, _) => "ok",
        (Code::NOT_FOUND, 0) => "NF",
        (Code::NOT_A_MEMBER, 0) => "NM",
        (Code::BANNED, 0) => "BN",
        (Code::FORBIDDEN, 0) => "FB",
        (Code::NO_TARGET, 0) => "NT",
        (Code::WRONG_KIND, 0) => "WK",
        other => panic!("{other:?}"),
    };
    name.to_owned()
}

/// A conversation of `first` (an owner), `member`, `admin`, and `banned`, with the acting user as `role`.
fn set(kind: &str, role: &str) -> Scene {
    let mut world = World::default();
    let never = role == "never";
    let id = match kind {
        "direct" => world.direct_of(if never { "third" } else { "actor" }, "first"),
        "group" => world.group_of("first", &["member", "admin", "banned"]),
        _ => world.room_of(&["first", "member", "admin", "banned"]),
    };
    let mut join = 0;
    if kind != "direct" {
        set_role(&mut world, id, "admin", role::ADMIN);
        world.ok(id, "first", Action::Remove { user: user("banned"), ban: true });
        join = match (never, kind) {
            (true, _) => 1,
            (_, "group") => world.ok(id, "first", Action::Add { user: user("actor") }).seq,
            _ => world.ok(id, "actor", Action::Join(JoinAs::Existing)).seq,
        };
    }
    let own = if never { 1 } else { world.ok(id, "actor", text("own")).seq };
    let others = world.ok(id, "first", text("other's")).seq;
    match role {
        "left" => drop(world.ok(id, "actor", Action::Leave)),
        "banned" => drop(world.ok(id, "first", Action::Remove { user: user("actor"), ban: true })),
        "admin" => set_role(&mut world, id, "actor", role::ADMIN),
        "owner" => set_role(&mut world, id, "actor", role::OWNER),
        _ => {}
    }
    Scene { world, id, own, others, join }
}

fn set_role(world: &mut World, id: ConversationId, name: &str, role: u8) {
    world.ok(id, "first", Action::SetRole { user: user(name), role });
}

impl Scene {
    fn action(&self, kind: &str, action: &str) -> Action {
        let body = Bytes::from_static(b"new");
        let add = |name| Action::Add { user: user(name) };
        let remove = |name, ban| Action::Remove { user: user(name), ban };
        let role = |name, role| Action::SetRole { user: user(name), role };
        match action {
            "join by id" => Action::Join(JoinAs::Existing),
            "join by name" => Action::Join(match kind {
                "direct" => JoinAs::Direct(user("first")),
                "group" => JoinAs::NewGroup,
                _ => JoinAs::Room(crate::world::ROOM.into()),
            }),
            "post" => text("new"),
            "edit own" => Action::Edit { target: self.own, body },
            "edit other's" => Action::Edit { target: self.others, body },
            "delete own" => Action::Delete { target: self.own },
            "delete other's" => Action::Delete { target: self.others },
            "delete a join" => Action::Delete { target: self.join },
            "react" => Action::React { target: self.others, add: true, reaction: "+1".into() },
            "leave" => Action::Leave,
            "add stranger" => add("stranger"),
            "add member" => add("member"),
            "add banned" => add("banned"),
            "remove stranger" => remove("stranger", false),
            "remove member" => remove("member", false),
            "remove admin" => remove("admin", false),
            "remove owner" => remove("first", false),
            "remove oneself" => remove("actor", false),
            "ban stranger" => remove("stranger", true),
            "ban member" => remove("member", true),
            "ban banned" => remove("banned", true),
            "role of member" => role("member", role::ADMIN),
            "role of owner" => role("first", role::MEMBER),
            "role of stranger" => role("stranger", role::MEMBER),
            "own role" => role("actor", role::ADMIN),
            "role held already" => role("admin", role::ADMIN),
            "title" => Action::SetTitle { title: "new".into() },
            "policy" => Action::SetPolicy { policy: Policy::default() },
            "trim" => Action::Trim { first_kept: 2 },
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_room_that_is_not_there_yet() {
    let by_name = || Action::Join(JoinAs::Room(crate::world::ROOM.into()));
    for (join, create, by_id, by_its_name) in [
        (false, false, Code::NOT_FOUND, Code::FORBIDDEN),
        (false, true, Code::NOT_FOUND, Code::FORBIDDEN),
        (true, false, Code::NOT_FOUND, Code::NOT_FOUND),
        (true, true, Code::NOT_FOUND, Code::DONE),
    ] {
        let authority = Authority { join, create, ..GRANTED };
        let mut world = World::default();
        assert_eq!(world.act(room(), "a", authority, Action::Join(JoinAs::Existing)).code, by_id);
        assert_eq!(world.act(room(), "a", authority, by_name()).code, by_its_name);
        assert_eq!(world.conversation(room()).is_some(), by_its_name == Code::DONE);
    }
}

#[test]
fn a_room_that_one_may_not_join() {
    let denied = Authority { join: false, ..GRANTED };
    let mut world = World::default();
    let id = world.room_of(&["a", "b", "c"]);
    world.ok(id, "b", Action::Leave);
    world.ok(id, "a", Action::Remove { user: user("c"), ban: true });
    let existing = || Action::Join(JoinAs::Existing);
    assert_eq!(world.act(id, "stranger", denied, existing()).code, Code::NOT_FOUND, "as if it were not there");
    assert_eq!(world.act(id, "b", denied, existing()).code, Code::FORBIDDEN, "it is no secret to b");
    assert_eq!(world.act(id, "c", denied, existing()).code, Code::BANNED);
    assert_eq!(world.member(id, "b").unwrap().state, MemberState::Left);
}
