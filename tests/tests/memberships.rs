//! What remains of a membership when it ends, and when the next one begins.

use std::process::Command;

use anyhow::{Context, Result};
use quip_protocol::{
    Code, ConversationId, DeviceId, InstanceId,
    conversation::{Add, Delete, Leave, Open, Opened, Remove, SetRole, SetTitle, Skip, Start, Target, skip},
    event::{kind, role},
    request::{History, Member, Members, PresenceIn},
    session::{Presence, Refresh, Refreshed, presence},
};
use quip_relay::auth::TokenRequest;
use quip_tests::{
    raw::{Raw, RawOptions, RawStream},
    relay::{HOUR, Relay, binary},
    talk::{FROM_THE_START, room},
};

/// A group of alice and bob with the title "Us", events 1 to 3; alice's stream, which has seen all of it.
async fn group(alice: &Raw) -> Result<(ConversationId, RawStream)> {
    let id = ConversationId::group(rand::random());
    let (mut at_alice, _) = alice.enter(&Target::NewGroup(id)).await?;
    at_alice.done(&Add { n: 2, user: "bob" }).await?;
    at_alice.done(&SetTitle { n: 3, title: "Us" }).await?;
    Ok((id, at_alice))
}

/// The seqs of a page, and whether there is more.
async fn page(raw: &Raw, conversation: ConversationId, forward: bool, from: u64) -> Result<(Vec<u64>, u64)> {
    let (frames, (code, more)) = raw.ask(&History { conversation, forward, from, limit: 100 }).await?;
    assert_eq!(code, Code::DONE);
    Ok((frames.iter().filter_map(|frame| frame.seen()).map(|event| event.seq).collect(), more))
}

#[tokio::test]
async fn one_who_is_added_again_reads_both_memberships_and_deletes_what_they_wrote() -> Result<()> {
    let relay = Relay::start()?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (id, mut at_alice) = group(&alice).await?;
    let (mut at_bob, opening) = bob.reopen(&Target::Id(id), Start::Now).await?;
    assert_eq!(at_bob.post_accepted(1, "mine").await?.seq, 4);
    at_alice.seen().await?;
    at_alice.done(&Remove { n: 4, user: "bob", ban: false }).await?;
    assert_eq!(at_bob.rest().await?.1, Code::ENDED);
    at_alice.post_accepted(5, "between").await?;
    at_alice.done(&Add { n: 6, user: "bob" }).await?;
    at_alice.post_accepted(7, "back").await?;

    let mut at_bob = bob.reopen(&Target::Id(id), FROM_THE_START).await?.0;
    assert_eq!(at_bob.frame().await?.to::<Skip>(), Some(Skip { to: 1, why: skip::NOT_VISIBLE }));
    for seq in 2..=5 {
        assert_eq!(at_bob.seen().await?.seq, seq);
    }
    assert_eq!(at_bob.frame().await?.to::<Skip>(), Some(Skip { to: 6, why: skip::NOT_VISIBLE }));
    assert_eq!([at_bob.seen().await?.seq, at_bob.seen().await?.seq], [7, 8]);

    for (forward, from, seqs, more) in [
        (true, 0, vec![2, 3, 4, 5], 1),
        (true, 3, vec![4, 5], 1),
        (true, 5, vec![7, 8], 0),
        (true, 6, vec![7, 8], 0),
        (true, 8, vec![], 0),
        (false, 0, vec![7, 8], 1),
        (false, 8, vec![7], 1),
        (false, 7, vec![2, 3, 4, 5], 0),
        (false, 6, vec![2, 3, 4, 5], 0),
        (false, 2, vec![], 0),
    ] {
        assert_eq!(page(&bob, id, forward, from).await?, (seqs, more), "forward {forward} from {from}");
    }
    // From inside the hole, too, and the last three are those that bob can see.
    for (device, start, first) in [
        (2, Start::After { generation: opening.generation, seq: 5 }, 7),
        (3, Start::After { generation: opening.generation, seq: 6 }, 7),
        (4, Start::Last(3), 5),
    ] {
        let again = Raw::login_as(&relay, "bob", device, RawOptions::default()).await?;
        assert_eq!(again.reopen(&Target::Id(id), start).await?.1.start, first);
    }
    at_bob.done(&Delete { n: 2, target: 4 }).await?;
    let (frames, _) = bob.ask(&History { conversation: id, forward: true, from: 3, limit: 1 }).await?;
    assert_eq!(frames[1].seen().context("an event")?.kind, kind::TOMBSTONE);
    Ok(())
}

#[tokio::test]
async fn one_who_was_put_out_sees_the_group_as_it_was_then() -> Result<()> {
    let relay = Relay::start()?;
    let (alice, mut bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (id, mut at_alice) = group(&alice).await?;
    // A stream of which little is read: it is open for as long as that lasts.
    let slow = RawOptions { stream_window: 2048, ..RawOptions::default() };
    let mut reader = Raw::login_as(&relay, "bob", 2, slow).await?;
    let big = vec![b'x'; 4096];
    for n in 4..34 {
        at_alice.data(n, &big).await?;
        while at_alice.answer().await?.n() != n {}
    }
    let (mut unread, _) = reader.reopen(&Target::Id(id), FROM_THE_START).await?;
    at_alice.done(&Remove { n: 34, user: "bob", ban: true }).await?;
    at_alice.done(&SetTitle { n: 35, title: "Without bob" }).await?;
    at_alice.post_accepted(36, "later").await?;
    at_alice.done(&Add { n: 37, user: "carol" }).await?;

    let (mut at_bob, first) = bob.open(&Target::Id(id), 0, FROM_THE_START).await?;
    let opened = first.to::<Opened<'_>>().context("opened")?;
    assert_eq!((opened.role, opened.name, opened.head, opened.number), (0, "Us", 34, 30));
    assert_eq!((opened.members, opened.present), (0, 0));
    let (frames, end) = at_bob.rest().await?;
    assert_eq!((frames.last().and_then(|frame| frame.seen()).map(|event| event.seq), end), (Some(34), Code::ENDED));
    assert_eq!(page(&bob, id, false, 0).await?.0.last(), Some(&34));
    // Nor does a made-up event at the cursor tell where the log ends now.
    for seq in [34, 35, 36, 37, 38, 99] {
        let target = Target::Id(id);
        let mut open = Open::new(&target, 0, Start::After { generation: opened.generation, seq });
        open.digest = [7; 4];
        let mut probe = bob.stream().await?;
        probe.send(&open).await?;
        let first = probe.frame().await?.opened()?.start;
        assert_eq!(first, if seq == 34 { 2 } else { seq + 1 }, "only an event that bob saw is compared");
        let _ = probe.rest().await?;
    }
    let refused = (vec![], (Code::NOT_A_MEMBER, 0));
    assert_eq!(bob.ask(&Members { conversation: id, after: "", limit: 10 }).await?, refused);
    assert_eq!(bob.ask(&PresenceIn { conversation: id, after: "", limit: 10 }).await?, refused);
    // Neither connection hears of those who come and go.
    let carol = Raw::login(&relay, "carol").await?;
    assert!(!told_by_now(&relay, &mut bob).await?.iter().any(|(user, _)| user == "carol"));
    assert!(!told_by_now(&relay, &mut reader).await?.iter().any(|(user, _)| user == "carol"));
    drop(alice);
    drop(carol);
    assert!(!told_by_now(&relay, &mut reader).await?.contains(&("alice".to_owned(), presence::OFFLINE)));
    let (frames, end) = unread.rest().await?;
    assert_eq!((frames.last().and_then(|frame| frame.seen()).map(|event| event.seq), end), (Some(34), Code::ENDED));
    Ok(())
}

#[tokio::test]
async fn a_room_keeps_an_owner() -> Result<()> {
    let relay = Relay::start()?;
    let all = ["*".to_owned()];
    let login = async |user, create: &[String], moderate: &[String]| -> Result<Raw> {
        let request = TokenRequest { join: &all, post: &all, create, moderate, ..TokenRequest::new(user, HOUR) };
        let mut raw = Raw::connect(&relay).await?;
        raw.hello(&relay.token_for(&request)?, DeviceId(rand::random()), InstanceId(rand::random())).await?;
        Ok(raw)
    };
    let [alice, bob, carol] =
        [login("alice", &all, &[]).await?, login("bob", &[], &[]).await?, login("carol", &[], &all).await?];
    let lobby = room("lobby:main");
    let (mut at_alice, opening) = alice.enter(&lobby).await?;
    let (mut at_bob, _) = bob.enter(&lobby).await?;
    let (mut at_carol, _) = carol.enter(&lobby).await?;
    let roles = async |raw: &Raw| -> Result<Vec<(String, u8)>> {
        let (frames, _) = raw.ask(&Members { conversation: opening.id, after: "", limit: 10 }).await?;
        let members = frames.iter().filter_map(|frame| frame.to::<Member<'_>>());
        Ok(members.map(|member| (member.user.to_owned(), member.role)).collect())
    };
    assert_eq!(at_alice.command(&Leave { n: 2 }).await?.code(), Code::LAST_OWNER);
    at_carol.done(&Remove { n: 2, user: "alice", ban: true }).await?;
    assert_eq!(at_alice.rest().await?.1, Code::ENDED);
    assert_eq!(roles(&bob).await?, [("bob".to_owned(), role::MEMBER), ("carol".to_owned(), role::OWNER)]);
    assert_eq!(at_carol.command(&Leave { n: 3 }).await?.code(), Code::LAST_OWNER);
    at_carol.done(&SetRole { n: 4, user: "bob", role: role::OWNER }).await?;
    at_carol.done(&Leave { n: 5 }).await?;
    at_bob.done(&Leave { n: 2 }).await?;
    // All have left. It is no longer alice's; bob may not create it, dan may.
    let (_, opened) = bob.open(&lobby, 3, Start::Now).await?;
    assert_eq!(opened.opened()?.role, role::MEMBER);
    let dan = login("dan", &all, &[]).await?;
    let (_, opened) = dan.open(&lobby, 1, Start::Now).await?;
    assert_eq!(opened.opened()?.role, role::OWNER);
    Ok(())
}

#[test]
fn people_leave_rooms_and_groups() -> Result<()> {
    let relay = Relay::start()?;
    let quip = |user: &str, words: &[&str]| -> Result<(bool, String)> {
        let mut command = Command::new(binary("quip"));
        command.args(words).args(["--as", user, "--data"]).arg(relay.data()).env_remove("QUIP_TOKEN");
        let output = command.output()?;
        Ok((output.status.success(), String::from_utf8([output.stdout, output.stderr].concat())?))
    };
    let group = quip("alice", &["group", "create", "Us", "--add", "bob"])?.1;
    quip("alice", &["send", "lobby:main", "hi"])?;
    quip("bob", &["send", "lobby:main", "hi"])?;
    for (target, shown) in [("lobby:main", "lobby:main"), (group.trim(), &group.trim()[1..])] {
        let (left, said) = quip("alice", &["group", "leave", target])?;
        assert!(!left && said.contains(&format!("quip group role {shown} USER owner")), "{said}");
        assert!(quip("alice", &["group", "role", target, "bob", "owner"])?.0);
        assert!(quip("alice", &["group", "leave", target])?.0);
        assert!(!quip("alice", &["group", "leave", target])?.0, "not a member any more");
    }
    Ok(())
}

/// The presence that bob was told of until now: it is there before the answer to a refresh.
async fn told_by_now(relay: &Relay, bob: &mut Raw) -> Result<Vec<(String, u8)>> {
    let token = relay.token("bob")?;
    let session = bob.session.as_mut().context("a session")?;
    session.send(&Refresh { token: &token }).await?;
    let mut told = Vec::new();
    loop {
        let frame = session.frame().await?;
        if frame.to::<Refreshed>().is_some() {
            return Ok(told);
        }
        told.extend(frame.to::<Presence<'_>>().map(|presence| (presence.user.to_owned(), presence.state)));
    }
}
