//! Who may do what, who sees what, and what happens to those who are put out.

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Blob, Code, ConversationId, Message,
    conversation::{
        Add, Delete, Edit, Leave, Opened, Post, React, Remove, SetRole, SetTitle, Skip, Start, Target, skip,
    },
    event::{Added, Removed, RoleChanged, Titled, kind, role},
    frame,
    request::{Entry, History, List, Member, Members, Page, PresenceIn},
    session::Signal,
};
use quip_relay::auth::TokenRequest;
use quip_tests::{
    raw::{Raw, RawOptions, RawStream},
    relay::{HOUR, PATIENCE, Relay},
    talk::{Answer, FROM_THE_START, Seen, direct, room, until},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A group that alice owns, with these others in it, and alice's stream after all of that.
async fn group(alice: &Raw, others: &[&str]) -> Result<(Target<'static>, ConversationId, RawStream, u64)> {
    let id = ConversationId::group(rand::random());
    let (mut stream, _) = alice.enter(&Target::NewGroup(id)).await?;
    let mut n = 1;
    for user in others {
        n += 1;
        stream.done(&Add { n, user }).await?;
    }
    Ok((Target::Id(id), id, stream, n))
}

async fn code<M: Message>(stream: &mut RawStream, command: &M) -> Result<Code> {
    Ok(stream.command(command).await?.code())
}

fn body<'a, T: serde::Deserialize<'a>>(seen: &'a Seen) -> Result<T> {
    Ok(postcard::from_bytes(&seen.body)?)
}

#[tokio::test]
async fn a_member_removed_while_sending_gets_everything_up_to_that_and_nothing_after() -> Result<()> {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let relay = Relay::with("[limits]\nmessages_per_second = 0\n")?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (target, id, mut at_alice, mut alice_n) = group(&alice, &[]).await?;
    // More than can pass before the removal is in.
    let bodies = vec![b"flood".to_vec(); 50_000];
    let (mut bob_n, mut on_their_way) = (0, 0);
    for round in 0..12 {
        alice_n += 1;
        at_alice.done(&Add { n: alice_n, user: "bob" }).await?;
        let (mut at_bob, opening) = bob.reopen(&target, Start::Now).await?;
        // What was on its way when it was over has been decided since, and was refused.
        assert!(opening.last_n >= bob_n, "round {round}");
        let mut since = opening.outcomes.iter().filter(|(n, ..)| *n > bob_n);
        assert!(since.all(|(_, code, _)| *code == Code::NOT_A_MEMBER), "round {round}: {opening:?}");
        bob_n = opening.last_n;
        let many = random.random_range(1..150);
        let removing = async {
            for _ in 0..many {
                at_alice.seen().await?;
            }
            alice_n += 1;
            at_alice.done(&Remove { n: alice_n, user: "bob", ban: false }).await
        };
        let (sent, removed) = tokio::join!(at_bob.send_all(bob_n + 1, &bodies, 64), removing);
        removed?;
        let sent = sent?;
        assert_eq!(sent.end, Some(Code::ENDED), "round {round}");

        // What the stream delivered is dense and ends with the removal.
        let seqs = |events: &[Seen]| events.iter().map(|event| event.seq).collect::<Vec<_>>();
        let removal = sent.seen.last().context("no removal")?;
        assert_eq!((removal.kind, body::<Removed<'_>>(removal)?.user), (kind::REMOVED, "bob"));
        assert_eq!(seqs(&sent.seen), (opening.start..=removal.seq).collect::<Vec<_>>(), "round {round}");

        // Every post has an outcome: by its answer, or in `Opened`; what has none was not decided.
        let cursor = Start::After { generation: opening.generation, seq: opening.head };
        let (mut again, opened) = bob.reopen(&target, cursor).await?;
        assert_eq!((opened.role, opened.head), (0, removal.seq));
        let accepted = sent.seen.len() as u64 - 1;
        for answer in &sent.decided {
            ensure!(answer.n() <= opened.last_n, "{answer:?} was never decided");
            let before = answer.n() <= bob_n + accepted;
            assert_eq!(
                answer.code(),
                if before { Code::DONE } else { Code::NOT_A_MEMBER },
                "round {round}: {answer:?}"
            );
        }
        for (n, code, seq) in &opened.outcomes {
            match *n <= bob_n + accepted {
                true => assert!(*code == Code::DONE && *seq < removal.seq, "round {round}: n {n} is {code:?} at {seq}"),
                false => assert_eq!((*code, *seq), (Code::NOT_A_MEMBER, 0), "round {round}: n {n}"),
            }
        }
        let answered = sent.decided.len() as u64;
        on_their_way += opened.last_n - bob_n - answered;
        println!("round {round}: {accepted} accepted, {} refused after it", opened.last_n - bob_n - accepted);

        // Opened again, it reads the same once more, and ends in the same way.
        let (rest, code) = again.rest().await?;
        let reread: Vec<Seen> = rest.iter().filter_map(|frame| frame.seen()).collect();
        assert_eq!((seqs(&reread), code), (seqs(&sent.seen), Code::ENDED));
        bob_n = opened.last_n;
        alice_n += 1;
        at_alice.done(&Post { n: alice_n, kind: kind::TEXT, body: Blob(b"for those who are in") }).await?;
        let newest = History { conversation: id, forward: false, from: 0, limit: 1 };
        let (frames, _) = bob.ask(&newest).await?;
        assert_eq!(frames[1].seen().map(|event| event.seq), Some(removal.seq), "round {round}");
    }
    println!("{on_their_way} posts were decided and not answered");
    Ok(())
}

#[tokio::test]
async fn a_groups_roles_decide_who_may_do_what() -> Result<()> {
    let relay = Relay::start()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (bob, carol) = (Raw::login(&relay, "bob").await?, Raw::login(&relay, "carol").await?);
    let (target, id, mut owner, _) = group(&alice, &["bob", "carol"]).await?;
    let (mut at_bob, _) = bob.reopen(&target, Start::Now).await?;
    let (mut at_carol, _) = carol.reopen(&target, Start::Now).await?;

    // A member posts and leaves; all else is forbidden, and each refusal uses its number up.
    let by_member = [
        code(&mut at_bob, &Add { n: 1, user: "dave" }).await?,
        code(&mut at_bob, &Remove { n: 2, user: "carol", ban: false }).await?,
        code(&mut at_bob, &Remove { n: 3, user: "alice", ban: false }).await?,
        code(&mut at_bob, &SetRole { n: 4, user: "bob", role: role::OWNER }).await?,
        code(&mut at_bob, &SetTitle { n: 5, title: "mine" }).await?,
    ];
    assert_eq!(by_member, [Code::FORBIDDEN; 5]);
    assert_eq!(code(&mut at_bob, &Post { n: 6, kind: kind::TEXT, body: Blob(b"hi") }).await?, Code::DONE);

    // An admin adds, removes those below and sets the title, but gives no roles and cannot touch an owner.
    assert_eq!(code(&mut owner, &SetRole { n: 4, user: "bob", role: role::ADMIN }).await?, Code::DONE);
    assert_eq!(code(&mut owner, &SetRole { n: 5, user: "nobody", role: role::ADMIN }).await?, Code::NO_TARGET);
    let by_admin = [
        code(&mut at_bob, &SetTitle { n: 7, title: "ours" }).await?,
        code(&mut at_bob, &Add { n: 8, user: "dave" }).await?,
        code(&mut at_bob, &Add { n: 9, user: "dave" }).await?,
        code(&mut at_bob, &Remove { n: 10, user: "dave", ban: false }).await?,
        code(&mut at_bob, &Remove { n: 11, user: "dave", ban: false }).await?,
        code(&mut at_bob, &Remove { n: 12, user: "alice", ban: false }).await?,
        code(&mut at_bob, &SetRole { n: 13, user: "carol", role: role::ADMIN }).await?,
        code(&mut at_bob, &Remove { n: 14, user: "bob", ban: false }).await?,
    ];
    let (done, forbidden) = (Code::DONE, Code::FORBIDDEN);
    assert_eq!(by_admin, [done, done, done, done, Code::NO_TARGET, forbidden, forbidden, Code::WRONG_KIND]);

    // The last owner hands over before leaving.
    assert_eq!(code(&mut owner, &Leave { n: 6 }).await?, Code::LAST_OWNER);
    assert_eq!(code(&mut owner, &SetRole { n: 7, user: "alice", role: role::MEMBER }).await?, Code::LAST_OWNER);
    assert_eq!(code(&mut owner, &SetRole { n: 8, user: "carol", role: role::OWNER }).await?, Code::DONE);
    assert_eq!(code(&mut owner, &Leave { n: 9 }).await?, Code::DONE);
    assert_eq!(owner.rest().await?.1, Code::ENDED);

    // Everyone saw the same, in the same order.
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &Seen| last.kind != kind::LEFT) {
        seen.push(at_carol.seen().await?);
    }
    let kinds: Vec<(u64, &str)> = seen.iter().map(|event| (event.kind, event.user.as_str())).collect();
    assert_eq!(
        kinds,
        [
            (kind::TEXT, "bob"),
            (kind::ROLE, "alice"),
            (kind::TITLE, "bob"),
            (kind::ADDED, "bob"),
            (kind::REMOVED, "bob"),
            (kind::ROLE, "alice"),
            (kind::LEFT, "alice"),
        ]
    );
    assert_eq!(body::<RoleChanged<'_>>(&seen[1])?, RoleChanged { user: "bob", role: role::ADMIN });
    assert_eq!(body::<Titled<'_>>(&seen[2])?.title, "ours");
    assert_eq!(body::<Added<'_>>(&seen[3])?.user, "dave");
    assert_eq!(body::<Removed<'_>>(&seen[4])?, Removed { user: "dave", ban: false });

    let (members, end) = carol.ask(&Members { conversation: id, after: "", limit: 10 }).await?;
    let members: Vec<_> =
        members.iter().filter_map(|frame| frame.to::<Member<'_>>()).map(|m| (m.user, m.role)).collect();
    assert_eq!((members, end), (vec![("bob", role::ADMIN), ("carol", role::OWNER)], (Code::DONE, 0)));
    // Groups are not joined by oneself, not even again.
    assert_eq!(alice.refused(&target, 10, Start::Now).await?.0, Code::NOT_FOUND);
    assert_eq!(alice.refused(&Target::NewGroup(id), 11, Start::Now).await?.0, Code::NOT_FOUND);
    // The last one out needs no successor.
    assert_eq!(code(&mut at_carol, &Remove { n: 1, user: "bob", ban: false }).await?, Code::DONE);
    assert_eq!(code(&mut at_carol, &Leave { n: 2 }).await?, Code::DONE);
    Ok(())
}

#[tokio::test]
async fn a_direct_conversation_knows_no_members_to_change() -> Result<()> {
    let relay = Relay::start()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&direct("bob")).await?;
    let codes = [
        code(&mut stream, &Leave { n: 2 }).await?,
        code(&mut stream, &Add { n: 3, user: "carol" }).await?,
        code(&mut stream, &Remove { n: 4, user: "bob", ban: true }).await?,
        code(&mut stream, &SetRole { n: 5, user: "bob", role: role::OWNER }).await?,
        code(&mut stream, &SetTitle { n: 6, title: "us" }).await?,
    ];
    assert_eq!(codes, [Code::WRONG_KIND; 5]);
    let bob = Raw::login(&relay, "bob").await?;
    let (mut at_bob, opened) = bob.reopen(&direct("alice"), Start::Now).await?;
    assert_eq!(opened.id, opening.id);
    at_bob.post_accepted(1, "still together").await?;
    assert_eq!(stream.seen().await?.user, "bob");
    // With oneself.
    let (mut notes, _) = alice.enter(&direct("alice")).await?;
    notes.post_accepted(2, "a note").await?;
    Ok(())
}

/// A connection whose token moderates every room.
async fn moderator(relay: &Relay) -> Result<Raw> {
    let all = [String::from("*")];
    let request = TokenRequest { join: &all, post: &all, moderate: &all, ..TokenRequest::new("mod", HOUR) };
    let mut raw = Raw::connect(relay).await?;
    raw.hello(&relay.token_for(&request)?, quip_protocol::DeviceId([9; 16]), quip_protocol::InstanceId([9; 16]))
        .await?;
    Ok(raw)
}

#[tokio::test]
async fn a_user_banned_from_a_room_stays_out_until_the_ban_is_lifted() -> Result<()> {
    let relay = Relay::start()?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let moderator = moderator(&relay).await?;
    let (mut owner, opening) = alice.enter(&room("lobby:main")).await?;
    let (mut at_bob, _) = bob.enter(&room("lobby:main")).await?;
    let (mut at_mod, _) = moderator.enter(&room("lobby:main")).await?;
    at_bob.done(&Post { n: 2, kind: kind::TEXT, body: Blob(b"spam") }).await?;
    // A member may not; a moderator may, even the owner.
    assert_eq!(code(&mut at_bob, &Remove { n: 3, user: "alice", ban: true }).await?, Code::FORBIDDEN);
    assert_eq!(code(&mut at_mod, &Remove { n: 2, user: "bob", ban: true }).await?, Code::DONE);
    let (frames, code_of_end) = at_bob.rest().await?;
    assert_eq!(code_of_end, Code::ENDED);
    let last = frames.iter().rev().find_map(|frame| frame.seen()).context("the removal")?;
    assert_eq!((last.kind, body::<Removed<'_>>(&last)?), (kind::REMOVED, Removed { user: "bob", ban: true }));

    assert_eq!(bob.refused(&room("lobby:main"), 4, Start::Now).await?.0, Code::BANNED);
    assert_eq!(bob.refused(&Target::Id(opening.id), 5, Start::Now).await?.0, Code::BANNED);
    let (mut reading, opened) = bob.open(&room("lobby:main"), 0, FROM_THE_START).await?;
    assert_eq!(opened.to::<Opened<'_>>().context("opened")?.role, 0);
    let (frames, end) = reading.rest().await?;
    assert_eq!((frames.last().and_then(|frame| frame.seen()), end), (Some(last), Code::ENDED));
    // One who never was there can be kept out beforehand.
    assert_eq!(code(&mut at_mod, &Remove { n: 3, user: "carol", ban: true }).await?, Code::DONE);
    let carol = Raw::login(&relay, "carol").await?;
    assert_eq!(carol.refused(&room("lobby:main"), 1, Start::Now).await?.0, Code::BANNED);
    assert_eq!(carol.refused(&room("lobby:main"), 0, Start::Now).await?.0, Code::NOT_FOUND);

    assert_eq!(code(&mut at_mod, &Add { n: 4, user: "dave" }).await?, Code::NO_TARGET, "rooms are joined by oneself");
    assert_eq!(code(&mut at_mod, &Add { n: 5, user: "bob" }).await?, Code::DONE);
    let (mut at_bob, opened) = bob_enters(&bob, 6).await?;
    assert_eq!(opened, role::MEMBER);
    at_bob.post_accepted(7, "sorry").await?;
    owner.seen().await?;
    Ok(())
}

/// Joins again once the relay has closed the stream before.
async fn bob_enters(bob: &Raw, n: u64) -> Result<(RawStream, u8)> {
    let mut entered = None;
    until("the stream before is closed", async || {
        let (mut stream, first) = bob.open(&room("lobby:main"), n, Start::Now).await?;
        if let Ok(opening) = first.opened() {
            stream.seen().await?;
            entered = Some((stream, opening.role));
        }
        Ok(entered.is_some())
    })
    .await?;
    entered.context("entered")
}

#[tokio::test]
async fn a_rooms_policy_says_what_was_before_joining() -> Result<()> {
    let relay = Relay::with(
        "[[namespaces]]\nname = \"closed\"\nhistory = \"joined\"\n\n[[namespaces]]\nname = \"open\"\nhistory = \"all\"\n\n\
         [[namespaces]]\nname = \"quiet\"\nhistory = \"joined\"\njoins_shown = false\n",
    )?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    for name in ["closed:room", "open:room", "quiet:room"] {
        let shown = u64::from(name != "quiet:room");
        let target = room(name);
        let (mut at_alice, _) = alice.enter(&target).await?;
        for n in 2..=6 {
            at_alice.post_accepted(n, "before").await?;
        }
        let before = 5 + shown;
        let first = if name == "open:room" { 1 } else { before + 1 };

        let (mut at_bob, opened) = bob.open(&target, 1, FROM_THE_START).await?;
        let opening = opened.opened()?;
        assert_eq!((opening.first_kept, opening.start, opening.head), (first, first, before + shown), "{name}");
        if first > 1 {
            let skipped = at_bob.frame().await?.to::<Skip>().context("a skip")?;
            assert_eq!(skipped, Skip { to: before, why: skip::NOT_VISIBLE }, "{name}");
        }
        for seq in first..=before + shown {
            assert_eq!(at_bob.seen().await?.seq, seq, "{name}");
        }
        if shown == 1 {
            assert_eq!(at_alice.seen().await?.kind, kind::JOINED);
        }
        at_alice.post_accepted(7, "during").await?;
        assert_eq!(at_bob.seen().await?.body, b"during", "{name}");
        let history = bob.history(opening.id).await?;
        assert_eq!(history.first().map(|event| event.seq), Some(first), "{name}");
        // Not by asking for a certain page either.
        let ask = History { conversation: opening.id, forward: false, from: before + 1, limit: 100 };
        let (frames, _) = bob.ask(&ask).await?;
        let page = frames[0].to::<Page>().context("a page")?;
        assert_eq!(page.count, before + 1 - first.min(before + 1), "{name}");

        // After leaving, up to that and no further.
        at_bob.send(&Leave { n: 2 }).await?;
        assert_eq!(at_bob.rest().await?.1, Code::ENDED);
        if shown == 1 {
            assert_eq!(at_alice.seen().await?.kind, kind::LEFT);
        }
        let left = before + 1 + 2 * shown;
        at_alice.post_accepted(8, "after").await?;
        let history = bob.history(opening.id).await?;
        assert_eq!(history.last().map(|event| event.seq), Some(left), "{name}");
        assert_eq!(history.first().map(|event| event.seq), Some(first), "{name}");
        let (mut again, opened) = bob.open(&target, 0, FROM_THE_START).await?;
        assert_eq!((opened.opened()?.head, opened.opened()?.role), (left, 0), "{name}");
        let (frames, end) = again.rest().await?;
        let seqs: Vec<u64> = frames.iter().filter_map(|frame| frame.seen()).map(|event| event.seq).collect();
        assert_eq!((seqs, end), ((first..=left).collect(), Code::ENDED), "{name}");
        let ahead = Start::After { generation: opening.generation, seq: left + 1 };
        let (mut again, opened) = bob.open(&target, 0, ahead).await?;
        assert!(opened.opened().is_ok(), "{name}");
        assert_eq!(again.rest().await?, (vec![], Code::ENDED), "{name}");

        // Joining again brings the rest, and what was between only where history is open.
        let (mut at_bob, opened) = bob.open(&target, 3, FROM_THE_START).await?;
        let back = left + 1 + shown;
        assert_eq!((opened.opened()?.first_kept, opened.opened()?.head), (first, back), "{name}");
        if first > 1 {
            assert_eq!(at_bob.frame().await?.to::<Skip>().context("a skip")?.to, before, "{name}");
        }
        for seq in first..=left {
            assert_eq!(at_bob.seen().await?.seq, seq, "{name}");
        }
        if name == "open:room" {
            assert_eq!(at_bob.seen().await?.body, b"after");
        } else {
            let skipped = at_bob.frame().await?.to::<Skip>().context("a skip")?;
            assert_eq!(skipped, Skip { to: left + 1, why: skip::NOT_VISIBLE }, "{name}");
        }
        if back > left + 1 {
            assert_eq!(at_bob.seen().await?.seq, back, "{name}");
        }
        if shown == 1 {
            assert_eq!(at_alice.seen().await?.kind, kind::JOINED);
        }
        at_alice.post_accepted(9, "and on").await?;
        assert_eq!(at_bob.seen().await?.seq, back + 1, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn only_those_who_may_change_events() -> Result<()> {
    let relay = Relay::start()?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let moderator = moderator(&relay).await?;
    let (mut at_alice, opening) = alice.enter(&room("lobby:main")).await?;
    let (mut at_bob, _) = bob.enter(&room("lobby:main")).await?;
    let (mut at_mod, _) = moderator.enter(&room("lobby:main")).await?;
    let secret = b"a secret that is taken back";
    at_bob.send(&Post { n: 2, kind: kind::TEXT, body: Blob(secret) }).await?;
    let Answer::Accepted(accepted) = at_bob.answer().await? else { panic!("not accepted") };
    let target = accepted.seq;
    let by_others = [
        code(&mut at_alice, &Edit { n: 2, target, body: Blob(b"mine now") }).await?,
        code(&mut at_mod, &Edit { n: 2, target, body: Blob(b"mine now") }).await?,
        code(&mut at_mod, &React { n: 3, target: target + 100, add: true, reaction: "+1" }).await?,
        code(&mut at_mod, &Delete { n: 4, target: 1 }).await?,
        code(&mut at_mod, &Edit { n: 5, target: 0, body: Blob(b"x") }).await?,
        code(&mut at_mod, &React { n: 6, target, add: true, reaction: "+1" }).await?,
    ];
    let no_target = Code::NO_TARGET;
    assert_eq!(by_others, [Code::FORBIDDEN, Code::FORBIDDEN, no_target, no_target, no_target, Code::DONE]);
    assert_eq!(code(&mut at_bob, &Edit { n: 3, target, body: Blob(b"better") }).await?, Code::DONE);
    assert_eq!(code(&mut at_mod, &Delete { n: 7, target }).await?, Code::DONE);
    assert_eq!(code(&mut at_bob, &Edit { n: 4, target, body: Blob(b"again") }).await?, no_target, "it is gone");
    let history = bob.history(opening.id).await?;
    let stored = &history[target as usize - 1];
    assert_eq!((stored.kind, stored.user.as_str()), (kind::TOMBSTONE, "bob"));
    assert!(history.iter().all(|event| event.body != secret));
    // One who catches up finds the tombstone in its place, from memory as from the store.
    let (mut late, _) = moderator_again(&relay).await?.reopen(&room("lobby:main"), FROM_THE_START).await?;
    for stored in &history {
        assert_eq!(late.seen().await?, *stored);
    }
    Ok(())
}

async fn moderator_again(relay: &Relay) -> Result<Raw> {
    Raw::login_as(relay, "bob", 44, RawOptions::default()).await
}

#[tokio::test]
async fn a_room_takes_the_grants_of_the_token() -> Result<()> {
    let relay = Relay::start()?;
    let lobby = [String::from("lobby:*")];
    let login = async |request: &TokenRequest<'_>| -> Result<Raw> {
        let mut raw = Raw::connect(&relay).await?;
        let device = quip_protocol::DeviceId(rand::random());
        raw.hello(&relay.token_for(request)?, device, quip_protocol::InstanceId(rand::random())).await?;
        Ok(raw)
    };
    let reader = login(&TokenRequest { join: &lobby, ..TokenRequest::new("reader", HOUR) }).await?;
    assert_eq!(reader.refused(&room("lobby:main"), 1, Start::Now).await?.0, Code::NOT_FOUND, "may not create it");
    assert_eq!(reader.refused(&room("staff:main"), 1, Start::Now).await?.0, Code::FORBIDDEN);
    let alice = Raw::login(&relay, "alice").await?;
    let (mut at_alice, opening) = alice.enter(&room("lobby:main")).await?;
    // Where there was no room, nothing was recorded.
    assert_eq!(reader.refused(&room("lobby:main"), 2, Start::Now).await?, (Code::MISSING, 0));
    let (mut stream, first) = reader.open(&room("lobby:main"), 1, Start::Now).await?;
    assert_eq!(first.opened()?.outcomes, [(1, Code::DONE, 2)]);
    stream.seen().await?;
    assert_eq!(code(&mut stream, &Post { n: 2, kind: kind::TEXT, body: Blob(b"x") }).await?, Code::FORBIDDEN);
    assert_eq!(code(&mut stream, &Edit { n: 3, target: 1, body: Blob(b"x") }).await?, Code::FORBIDDEN);
    assert_eq!(at_alice.seen().await?.seq, 2);
    at_alice.post_accepted(2, "hi").await?;
    assert_eq!(code(&mut stream, &React { n: 4, target: 3, add: true, reaction: "👍" }).await?, Code::DONE);
    // By its id, a room is joined with the grant for its name.
    let other = login(&TokenRequest { join: &lobby, post: &lobby, ..TokenRequest::new("other", HOUR) }).await?;
    let (mut by_id, first) = other.open(&Target::Id(opening.id), 1, Start::Now).await?;
    assert_eq!(first.opened()?.role, role::MEMBER);
    by_id.seen().await?;
    by_id.post_accepted(2, "by its id").await?;
    Ok(())
}

#[tokio::test]
async fn signals_are_for_members() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 0\n")?;
    let (alice, carol) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "carol").await?);
    // Takes so little at a time that its stream stays open with history to come.
    let slow = RawOptions { stream_window: 2048, ..RawOptions::default() };
    let former = Raw::login_as(&relay, "bob", 1, slow).await?;
    let (target, _, mut owner, mut n) = group(&alice, &["bob", "carol"]).await?;
    let big = vec![b'x'; 4096];
    for _ in 0..30 {
        n += 1;
        owner.data(n, &big).await?;
        while owner.answer().await?.n() != n {}
    }
    owner.done(&Remove { n: n + 1, user: "bob", ban: false }).await?;
    let (at_carol, _) = carol.reopen(&target, Start::Now).await?;
    let (mut at_former, opening) = former.reopen(&target, FROM_THE_START).await?;
    assert_eq!(opening.role, 0);

    let id = |stream: &RawStream| u64::from(quinn::VarInt::from(stream.send.id()));
    let signal = |stream: &RawStream, body: &'static [u8]| {
        frame::to_datagram(&Signal { channel: id(stream), user: "", kind: 16, body: Blob(body) })
    };
    former.quic.send_datagram_wait(signal(&at_former, b"from outside")).await?;
    // By its answer, the relay has taken the datagram that was sent before.
    let (entries, _) = former.ask(&List { after: ConversationId([0; 16]), limit: 1 }).await?;
    assert!(entries.iter().all(|entry| entry.to::<Entry<'_>>().is_none_or(|entry| entry.role == 0)));
    carol.quic.send_datagram_wait(signal(&at_carol, b"from a member")).await?;
    let heard = tokio::time::timeout(PATIENCE, alice.quic.read_datagram()).await??;
    let signal: Signal<'_> = frame::decode(frame::from_datagram(&heard)?.body)?;
    assert_eq!((signal.user, signal.body.0), ("carol", &b"from a member"[..]), "the first that was passed on");
    let (frames, end) = at_former.rest().await?;
    assert_eq!((end, frames.iter().filter(|frame| frame.seen().is_some()).count()), (Code::ENDED, 33));
    assert_eq!(former.quic.read_datagram().now_or_none().await, None, "and a former member hears none");
    Ok(())
}

/// What a future has ready, if anything.
trait NowOrNone: Future + Sized {
    async fn now_or_none(self) -> Option<Self::Output> {
        tokio::time::timeout(std::time::Duration::ZERO, self).await.ok()
    }
}

impl<F: Future> NowOrNone for F {}

#[tokio::test]
async fn former_members_learn_nothing_of_those_who_are_in() -> Result<()> {
    let relay = Relay::start()?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (_, id, mut owner, _) = group(&alice, &["bob"]).await?;
    owner.done(&Remove { n: 3, user: "bob", ban: false }).await?;
    owner.done(&Add { n: 4, user: "carol" }).await?;
    let refused = (vec![], (Code::NOT_A_MEMBER, 0));
    assert_eq!(bob.ask(&Members { conversation: id, after: "", limit: 10 }).await?, refused);
    assert_eq!(bob.ask(&PresenceIn { conversation: id, after: "", limit: 10 }).await?, refused);
    let (members, _) = alice.ask(&Members { conversation: id, after: "", limit: 10 }).await?;
    assert_eq!(members.len(), 2);
    Ok(())
}
