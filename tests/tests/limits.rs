//! Every limit that a stranger can reach: it is refused with its code, what it had to say can be said again, nothing
//! that was stored is lost, and nobody else notices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Blob, Code, ConversationId, DeviceId, InstanceId, Items,
    conversation::{Add, End, Open, Post, Remove, Start, Target},
    event::kind,
    frame, limit,
    request::{Entry, History, List, Member, Members, Page, PresenceIn},
    session::{Hello, Presence, Signal, Welcome},
};
use quip_tests::{
    outbox::Sent,
    raw::{Raw, RawOptions, RawStream},
    relay::{PATIENCE, Relay},
    talk::{direct, room, until},
};

const NO_RATE: &str = "[limits]\nmessages_per_second = 0\n";

/// What a welcome grants: streams, bytes of a frame, of a message, commands unanswered.
async fn welcome(raw: &mut Raw, token: &str, streams: u64) -> Result<[u64; 7]> {
    let mut stream = raw.stream().await?;
    let (device, instance) = (DeviceId([3; 16]), InstanceId([3; 16]));
    let hello = Hello { token, device, instance, client: "raw", streams, features: Items::default() };
    stream.send(&hello).await?;
    let frame = stream.frame().await?;
    let welcome = frame.to::<Welcome<'_>>().context("a welcome")?;
    raw.session = Some(stream);
    let Welcome { streams, frame, message, unanswered, unanswered_bytes, rate, burst, .. } = welcome;
    Ok([streams, frame, message, unanswered, unanswered_bytes, rate, burst])
}

fn numbered(count: usize, size: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| format!("{index:0size$}").into_bytes()).collect()
}

/// The contents of all data events of a conversation, which must be those, each once and in order.
async fn stored(raw: &Raw, id: ConversationId, bodies: &[Vec<u8>]) -> Result<()> {
    let history = raw.history(id).await?;
    let stored: Vec<_> = history.into_iter().filter(|event| event.kind == kind::DATA).map(|event| event.body).collect();
    ensure!(stored == bodies, "{} stored of {}", stored.len(), bodies.len());
    Ok(())
}

fn count(sent: &Sent, code: Code) -> usize {
    sent.codes.get(&code).copied().unwrap_or_default()
}

/// True while a future waits for something that does not come.
async fn waits<F: Future>(future: F) -> bool {
    tokio::time::timeout(Duration::from_millis(300), future).await.is_err()
}

#[tokio::test]
async fn a_welcome_names_the_limits() -> Result<()> {
    let relay = Relay::with(
        "[limits]\nstreams_per_connection = 3\nframe_bytes = \"20KiB\"\nmessage_bytes = \"100B\"\nunanswered_per_stream = 4\n\
         unanswered_bytes_per_connection = \"80KiB\"\nmessages_per_second = 40\nmessages_burst = 90\n",
    )?;
    for (streams, granted) in [(64, 3), (0, 1), (u64::MAX, 3), (2, 2)] {
        let mut raw = Raw::connect(&relay).await?;
        let said = welcome(&mut raw, &relay.token("alice")?, streams).await?;
        assert_eq!(said, [granted, 20 << 10, 100, 4, 80 << 10, 40, 90]);
    }
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("lobby:main")).await?;
    stream.data(2, &[7; 101]).await?;
    assert_eq!(stream.answer().await?.code(), Code::MESSAGE_TOO_LARGE);
    stream.data(2, &[7; 100]).await?;
    assert_eq!(stream.answer().await?.code(), Code::DONE);
    stored(&alice, opening.id, &[vec![7; 100]]).await?;
    stream.bytes(&[0x81, 0xa0, 0x01]).await?;
    assert_eq!(alice.close_code().await?, Code::FRAME_TOO_LARGE, "20 KiB and 1");
    Ok(())
}

#[tokio::test]
async fn conversations_open_at_once_are_bounded() -> Result<()> {
    let relay = Relay::with("[limits]\nstreams_per_connection = 3\n")?;
    let alice = Raw::login(&relay, "alice").await?;
    let names: Vec<String> = (0..5).map(|index| format!("lobby:{index}")).collect();
    let mut open = Vec::new();
    for name in &names[..3] {
        open.push(alice.enter(&room(name)).await?.0);
    }
    assert_eq!(alice.refused(&room(&names[3]), 1, Start::Now).await?, (Code::TOO_MANY_STREAMS, 0));
    assert_eq!(alice.refused(&direct("bob"), 1, Start::Now).await?, (Code::TOO_MANY_STREAMS, 0));
    for stream in &mut open {
        stream.post_accepted(2, "the others live on").await?;
    }
    let mut one = open.pop().context("a stream")?;
    one.send.finish()?;
    assert_eq!(one.try_frame().await?, None);
    let (mut fourth, opening) = alice.enter(&room(&names[3])).await?;
    assert_eq!(opening.outcomes, [(1, Code::DONE, 1)], "the refused join used no number up");
    fourth.post_accepted(2, "now there is room").await?;
    Ok(())
}

#[tokio::test]
async fn stream_credit_is_a_little_more_than_what_was_granted() -> Result<()> {
    let relay = Relay::with("[limits]\nstreams_per_connection = 3\n")?;
    let mut raw = Raw::connect(&relay).await?;
    let mut streams = vec![raw.quic.open_bi().await?];
    for _ in 1..8 {
        streams.push(raw.quic.open_bi().await?);
    }
    assert!(waits(raw.quic.open_bi()).await, "8 before the welcome");
    let (send, recv) = streams.remove(0);
    raw.session = Some(RawStream::new(send, recv));
    let session = raw.session.as_mut().context("a session")?;
    let token = relay.token("alice")?;
    let (device, instance) = (DeviceId([3; 16]), InstanceId([3; 16]));
    session
        .send(&Hello { token: &token, device, instance, client: "raw", streams: 64, features: Items::default() })
        .await?;
    raw.told::<Welcome<'_>>().await?;
    for _ in 8..11 {
        streams.push(tokio::time::timeout(PATIENCE, raw.quic.open_bi()).await??);
    }
    let mut more = 0;
    while !waits(async {
        streams.push(raw.quic.open_bi().await?);
        anyhow::Ok(())
    })
    .await
    {
        more += 1;
        ensure!(more < 8, "no end of streams");
    }
    // Unidirectional ones there are none.
    assert!(waits(raw.quic.open_uni()).await);
    Ok(())
}

#[tokio::test]
async fn requests_go_on_while_all_granted_conversations_are_open() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 0\nstreams_per_connection = 64\n")?;
    let alice = Raw::login(&relay, "alice").await?;
    let mut open = Vec::new();
    for index in 0..64 {
        open.push(alice.enter(&room(&format!("lobby:{index}"))).await?.0);
    }
    for round in 0..40 {
        // As many at once as there may be.
        let ask = async || alice.ask(&List { after: ConversationId([0; 16]), limit: 1 }).await;
        let answers = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask());
        for answer in [answers.0, answers.1, answers.2, answers.3, answers.4, answers.5, answers.6, answers.7] {
            assert_eq!(answer?.1, (Code::DONE, 1), "round {round}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn unfinished_frames_are_bounded_on_a_connection() -> Result<()> {
    let relay = Relay::start()?;
    let witness = Raw::login(&relay, "witness").await?;
    let (mut still, _) = witness.enter(&room("calm:room")).await?;
    let mallory = Raw::login(&relay, "mallory").await?;
    let half = |length: usize| {
        let mut frame = vec![0x80 | (length & 0x7f) as u8, 0x80 | (length >> 7 & 0x7f) as u8, (length >> 14) as u8];
        frame.extend_from_slice(&[0xb5, 0x24]);
        frame.resize(60_000, 0xff);
        frame
    };
    let (mut streams, mut sent) = (Vec::new(), 0);
    for index in 0..4 {
        let (mut stream, _) = mallory.enter(&room(&format!("mallory:{index}"))).await?;
        stream.bytes(&half(65_000)).await?;
        sent += 60_000;
        streams.push(stream);
    }
    assert!(sent < 256 << 10);
    // Below the limit, the frames can be finished (their type is odd: they are skipped), and begun again.
    for stream in &mut streams {
        stream.bytes(&[0xff; 65_003 - 60_000]).await?;
        stream.post_accepted(2, "after a long one").await?;
        stream.bytes(&half(65_000)).await?;
    }
    let (mut fifth, _) = mallory.enter(&room("mallory:4")).await?;
    fifth.bytes(&half(65_000)[..20_000]).await?;
    let before = relay.resident_bytes().context("its memory")?;
    fifth.bytes(&half(65_000)[20_000..]).await?;
    assert_eq!(fifth.reset_code().await?, Code::UNANSWERED);
    assert!(relay.resident_bytes().context("its memory")? < before + (8 << 20));
    still.post_accepted(2, "still here").await?;
    // The other streams go on. What is no command of theirs has less room, and then it is a violation.
    streams[0].bytes(&[0xff; 65_003 - 60_000]).await?;
    streams[0].post_accepted(3, "nothing is lost").await?;
    let mut requests = Vec::new();
    for _ in 0..2 {
        let mut request = mallory.stream().await?;
        // The connection may be closed by now.
        let _ = request.bytes(&half(65_000)).await;
        requests.push(request);
    }
    assert_eq!(mallory.close_code().await?, Code::BUFFERED);
    Ok(())
}

#[tokio::test]
async fn a_thousand_at_once_are_refused_in_part_and_stored_in_full() -> Result<()> {
    let relay = Relay::with(NO_RATE)?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut stream, opening) = alice.enter(&room("flood:room")).await?;
    let (mut calm, _) = bob.enter(&room("calm:room")).await?;
    let bodies = numbered(1000, 32);
    let flood = stream.send_all(2, &bodies, 1000);
    let elsewhere = async {
        for n in 2..30 {
            calm.post_accepted(n, "not refused in another conversation").await?;
        }
        anyhow::Ok(())
    };
    let (sent, elsewhere) = tokio::join!(flood, elsewhere);
    elsewhere?;
    let sent = sent?;
    assert_eq!(count(&sent, Code::DONE), 1000);
    let refused = count(&sent, Code::UNANSWERED) + count(&sent, Code::FULL);
    assert!((1..1000).contains(&refused), "each refusal is said once: {:?}", sent.codes);
    assert!(sent.shortest_pause.is_some_and(|pause| pause > 0), "a refusal for now says when");
    stored(&alice, opening.id, &bodies).await
}

#[tokio::test]
async fn unanswered_commands_are_bounded() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 0\nunanswered_per_stream = 4\n")?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("flood:room")).await?;
    let bodies = numbered(100, 32);
    let sent = stream.send_all(2, &bodies, 20).await?;
    assert!(count(&sent, Code::UNANSWERED) > 0, "{:?}", sent.codes);
    stored(&alice, opening.id, &bodies).await?;
    // Who keeps to it is never refused.
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    let sent = stream.send_all(2, &bodies, 4).await?;
    assert_eq!((count(&sent, Code::DONE), sent.codes.len()), (100, 1), "{:?}", sent.codes);
    stored(&alice, opening.id, &bodies).await
}

#[tokio::test]
async fn commands_that_wait_are_bounded_in_number_and_bytes() -> Result<()> {
    for (config, bodies) in [
        ("waiting_per_conversation = 1\n", numbered(50, 32)),
        ("waiting_bytes_per_conversation = \"64KiB\"\n", numbered(40, limit::MESSAGE)),
        ("waiting_bytes = \"256KiB\"\n", numbered(120, limit::MESSAGE)),
    ] {
        let relay = Relay::with(&format!("[limits]\nmessages_per_second = 0\n{config}"))?;
        let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
        let (mut at_alice, opening) = alice.enter(&room("flood:room")).await?;
        let (mut at_bob, _) = bob.enter(&room("flood:room")).await?;
        let (mut n, mut rounds, mut refused) = (2, 0, 0);
        until("a command is refused", async || {
            let (one, other) = tokio::join!(at_alice.send_all(n, &bodies, 64), at_bob.send_all(n, &bodies, 64));
            for sent in [one?, other?] {
                assert_eq!(count(&sent, Code::DONE), bodies.len());
                refused += count(&sent, Code::FULL);
                assert!(sent.shortest_pause.is_none_or(|pause| pause > 0));
            }
            (n, rounds) = (n + bodies.len() as u64, rounds + 1);
            Ok(refused > 0)
        })
        .await?;
        let history = alice.history(opening.id).await?;
        for user in ["alice", "bob"] {
            let of_user = history.iter().filter(|event| event.user == user && event.kind == kind::DATA);
            assert!(of_user.map(|event| &event.body).eq((0..rounds).flat_map(|_| &bodies)), "{config}: {user}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_rate_is_refused_until_its_time_comes() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 20\nmessages_burst = 5\n")?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut stream, opening) = alice.enter(&room("flood:room")).await?;
    let (mut calm, _) = bob.enter(&room("calm:room")).await?;
    let started = Instant::now();
    let bodies = numbered(25, 32);
    let sent = stream.send_all(2, &bodies, 25).await?;
    // 5 at once, of which the join took one, and then 20 a second.
    let least = Duration::from_millis(50) * 20;
    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
    assert!((1..=25).contains(&count(&sent, Code::RATE)), "each refusal is said once: {:?}", sent.codes);
    assert!(sent.shortest_pause.is_some_and(|pause| (1..=50).contains(&pause)), "{sent:?}");
    stored(&alice, opening.id, &bodies).await?;
    // It is a matter of this user; and a join counts too.
    calm.post_accepted(2, "bob is not refused").await?;
    let (mut refused, joins) = (0, 20);
    for index in 0..joins {
        let name = format!("lobby:{index}");
        until("the join is admitted", async || {
            let (mut stream, first) = alice.open(&room(&name), 1, Start::Now).await?;
            if first.opened().is_ok() {
                return Ok(true);
            }
            let end = first.to::<End<'_>>().context("an end")?;
            ensure!(end.code == Code::RATE && end.retry_after > 0, "{end:?}");
            ensure!(stream.try_frame().await?.is_none());
            refused += 1;
            tokio::time::sleep(Duration::from_millis(end.retry_after)).await;
            Ok(false)
        })
        .await?;
    }
    assert!(refused > 0);
    until("each room was joined once", async || {
        let (list, (code, _)) = alice.ask(&List { after: ConversationId([0; 16]), limit: 100 }).await?;
        ensure!(code == Code::RATE || list.len() == joins + 1, "{} rooms", list.len());
        Ok(code == Code::DONE)
    })
    .await
}

#[tokio::test]
async fn a_rate_limit_is_per_user_over_all_connections() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 20\nmessages_burst = 6\n")?;
    let bob = Raw::login(&relay, "bob").await?;
    let (mut calm, _) = bob.enter(&room("calm:room")).await?;
    let (one, two) =
        (Raw::login(&relay, "alice").await?, Raw::login_as(&relay, "alice", 2, RawOptions::default()).await?);
    let started = Instant::now();
    let ((mut at_one, opening), (mut at_two, other)) =
        (one.enter(&room("flood:one")).await?, two.enter(&room("flood:two")).await?);
    let bodies = numbered(12, 32);
    let beside = async {
        for n in 2..=4 {
            calm.post_accepted(n, "another user is not refused").await?;
        }
        anyhow::Ok(())
    };
    let (first, second, beside) =
        tokio::join!(at_one.send_all(2, &bodies, 12), at_two.send_all(2, &bodies, 12), beside);
    let (first, second) = (first?, second?);
    beside?;
    // 26 commands, the two joins with them: 6 at once, and then 20 a second. Each connection by itself would take 350 ms.
    let least = Duration::from_millis(50) * 20;
    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
    assert!(count(&first, Code::RATE) > 0 && count(&second, Code::RATE) > 0, "{first:?} {second:?}");
    stored(&one, opening.id, &bodies).await?;
    stored(&one, other.id, &bodies).await?;
    Ok(())
}

#[tokio::test]
async fn a_join_that_is_refused_says_how_long_to_wait() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 1\nmessages_burst = 1\n")?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut one, mut two) = (alice.stream().await?, alice.stream().await?);
    let started = Instant::now();
    one.send(&Open::new(&room("lobby:one"), 1, Start::Now)).await?;
    two.send(&Open::new(&room("lobby:two"), 1, Start::Now)).await?;
    let (of_one, of_two) = (one.frame().await?, two.frame().await?);
    let waited = started.elapsed().as_millis() as u64;
    let (mut stream, end, name) =
        if of_two.opened().is_ok() { (one, of_one, "lobby:one") } else { (two, of_two, "lobby:two") };
    let end = end.to::<End<'_>>().context("an end")?;
    assert_eq!((end.code, end.info), (Code::RATE, 0));
    // An open with a join costs eleven tenths of a command.
    assert!((1100u64.saturating_sub(waited)..=1100).contains(&end.retry_after), "{end:?} after {waited} ms");
    assert_eq!(stream.try_frame().await?, None);
    tokio::time::sleep(Duration::from_millis(end.retry_after)).await;
    alice.enter(&room(name)).await?;
    Ok(())
}

#[tokio::test]
async fn connections_are_bounded() -> Result<()> {
    let relay = Relay::with("[limits]\nconnections = 2\n")?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut stream, _) = alice.enter(&room("calm:room")).await?;
    for _ in 0..5 {
        let error = Raw::connect(&relay).await.err().context("a third connection")?;
        assert!(format!("{error:?}").contains("refused"), "{error:?}");
    }
    stream.post_accepted(2, "still here").await?;
    bob.quic.close(0u32.into(), b"");
    until("there is room again", async || Ok(Raw::login(&relay, "carol").await.is_ok())).await?;
    stream.post_accepted(3, "still here").await?;
    Ok(())
}

#[tokio::test]
async fn pages_are_bounded_and_continue() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 0\nhistory_page = 10\nlist_page = 5\n")?;
    let alice = Raw::login(&relay, "alice").await?;
    let id = ConversationId::group(rand::random());
    let (mut stream, _) = alice.enter(&Target::NewGroup(id)).await?;
    for n in 2..=26 {
        let user = format!("user-{n:02}");
        stream.done(&Add { n, user: &user }).await?;
    }
    for index in 0..11 {
        alice.enter(&room(&format!("lobby:{index}"))).await?;
    }
    for limit in [1000, u64::MAX] {
        for forward in [false, true] {
            let (frames, end) = alice.ask(&History { conversation: id, forward, from: 0, limit }).await?;
            let page = frames[0].to::<Page>().context("a page")?;
            assert_eq!((page.count, frames.len(), end), (10, 11, (Code::DONE, 1)));
        }
        let (entries, end) = alice.ask(&List { after: ConversationId([0; 16]), limit }).await?;
        assert_eq!((entries.len(), end), (5, (Code::DONE, 1)));
        let (members, end) = alice.ask(&Members { conversation: id, after: "", limit }).await?;
        assert_eq!((members.len(), end), (5, (Code::DONE, 1)));
        let (present, end) = alice.ask(&PresenceIn { conversation: id, after: "", limit }).await?;
        assert_eq!((present.len(), end), (5, (Code::DONE, 1)));
    }
    let (frames, end) = alice.ask(&History { conversation: id, forward: true, from: 0, limit: 0 }).await?;
    assert_eq!((frames.len(), end), (2, (Code::DONE, 1)), "0 counts as 1");
    assert_eq!(alice.ask(&List { after: ConversationId([0; 16]), limit: 0 }).await?.0.len(), 1);

    // Page by page, everything comes once and in order.
    let (mut conversations, mut more) = (Vec::new(), 1);
    while more == 1 {
        let after = conversations.last().copied().unwrap_or(ConversationId([0; 16]));
        let (frames, end) = alice.ask(&List { after, limit: 4 }).await?;
        conversations.extend(frames.iter().filter_map(|frame| frame.to::<Entry<'_>>()).map(|entry| entry.conversation));
        more = end.1;
    }
    assert_eq!(conversations.len(), 12);
    assert!(conversations.is_sorted_by(|a, b| a < b));
    let (mut users, mut states, mut more) = (Vec::<String>::new(), Vec::new(), 1);
    while more == 1 {
        let after = users.last().cloned().unwrap_or_default();
        let (frames, end) = alice.ask(&Members { conversation: id, after: &after, limit: 3 }).await?;
        users.extend(frames.iter().filter_map(|frame| frame.to::<Member<'_>>()).map(|member| member.user.to_owned()));
        let ask = PresenceIn { conversation: id, after: &after, limit: 3 };
        let (frames, same_end) = alice.ask(&ask).await?;
        assert_eq!(end, same_end);
        let present = frames.iter().filter_map(|frame| frame.to::<Presence<'_>>());
        states.extend(present.map(|presence| (presence.user.to_owned(), presence.state)));
        more = end.1;
    }
    assert_eq!(users.len(), 26);
    assert!(users.is_sorted_by(|a, b| a < b));
    assert!(states.iter().map(|(user, _)| user).eq(&users));
    assert!(states.iter().all(|(user, state)| (user == "alice") == (*state == 2)), "{states:?}");
    for after in ["a\nb", &"x".repeat(limit::USER + 1)] {
        assert_eq!(alice.ask(&Members { conversation: id, after, limit: 3 }).await?, (vec![], (Code::INVALID_NAME, 0)));
    }
    Ok(())
}

#[tokio::test]
async fn a_page_of_large_messages_is_bounded_in_bytes() -> Result<()> {
    let relay = Relay::with(NO_RATE)?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("large:room")).await?;
    let bodies = numbered(40, limit::MESSAGE);
    stream.send_all(2, &bodies, 8).await?;
    let (frames, end) = alice.ask(&History { conversation: opening.id, forward: true, from: 0, limit: 100 }).await?;
    let bytes: usize = frames.iter().map(|frame| frame.body.len()).sum();
    assert!(bytes <= 256 << 10 && bytes > 200 << 10, "{bytes}");
    assert_eq!(end, (Code::DONE, 1));
    stored(&alice, opening.id, &bodies).await
}

#[tokio::test]
async fn requests_under_way_are_bounded() -> Result<()> {
    let relay = Relay::with(NO_RATE)?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("large:room")).await?;
    let bodies = numbered(16, limit::MESSAGE);
    stream.send_all(2, &bodies, 4).await?;
    // Reads nothing: each answer of a quarter of a mebibyte stays where it is.
    let mut slow = Raw::connect_with(&relay, RawOptions { stream_window: 1024, ..RawOptions::default() }).await?;
    welcome(&mut slow, &relay.token("alice")?, 1000).await?;
    let before = relay.resident_bytes().context("its memory")?;
    let mut asked = Vec::new();
    for _ in 0..600 {
        let mut request = slow.stream().await?;
        request.send(&History { conversation: opening.id, forward: true, from: 0, limit: 100 }).await?;
        asked.push(request);
    }
    // Most are refused at once; the others' first frames are small enough to come without being read on.
    let mut answered = 0;
    for request in &mut asked {
        let first = request.frame().await?;
        match first.to::<Page>() {
            Some(_) => answered += 1,
            None => assert_eq!(first.end()?.0, Code::BUSY),
        }
    }
    let grown = relay.resident_bytes().context("its memory")?.saturating_sub(before);
    // 600 answers of a quarter of a mebibyte would be 150 MiB.
    assert!(grown < 48 << 20, "{} MiB for one reader who does not read", grown >> 20);
    assert!((8..200).contains(&answered), "{answered} of 600 were answered");
    println!("{answered} answered, {} KiB", grown >> 10);
    drop(asked);
    let ask = List { after: ConversationId([0; 16]), limit: 1 };
    until("there is room for a request", async || Ok(slow.ask(&ask).await?.1.0 == Code::DONE)).await?;
    stored(&slow, opening.id, &bodies).await
}

#[tokio::test]
async fn a_stream_whose_answers_are_not_read_is_reset_and_the_others_go_on() -> Result<()> {
    let relay = Relay::with(NO_RATE)?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut calm, _) = bob.enter(&room("calm:room")).await?;
    let slow = Raw::login_as(&relay, "alice", 200, RawOptions { stream_window: 512, ..RawOptions::default() }).await?;
    let (mut stream, opening) = slow.enter(&room("flood:room")).await?;
    let before = relay.resident_bytes().context("its memory")?;
    // All but the first are refused, each with an answer that is larger than what is asked.
    let post = frame::to_bytes(&Post { n: 3, kind: kind::DATA, body: Blob(b"x") });
    let flood = post.repeat(1 << 20);
    stream.send.write_all(&flood).await.expect_err("8 MiB of commands whose answers nobody reads were taken");
    assert_eq!(stream.stop_code().await?, Code::UNANSWERED);
    assert_eq!(stream.reset_code().await?, Code::UNANSWERED);
    let grown = relay.resident_bytes().context("its memory")?.saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
    calm.post_accepted(2, "still here").await?;
    drop(stream);
    let (mut other, _) = slow.enter(&room("other:room")).await?;
    other.post_accepted(2, "on the same connection too").await?;
    assert_eq!(alice.history(opening.id).await?.len(), 1, "n = 2 never came, so that nothing was decided");
    Ok(())
}

#[tokio::test]
async fn a_session_that_is_not_read_is_closed() -> Result<()> {
    let relay = Relay::with(NO_RATE)?;
    let bob = Raw::login(&relay, "bob").await?;
    let deaf = Raw::login_as(&relay, "alice", 1, RawOptions { stream_window: 1024, ..RawOptions::default() }).await?;
    let (mut stream, opening) = bob.enter(&direct("alice")).await?;
    // Each is told on the session of who does not have the conversation open.
    let bodies = numbered(15_000, 5);
    stream.send_all(2, &bodies, 64).await?;
    assert_eq!(deaf.close_code().await?, Code::OVERLOADED);
    let alice = Raw::login(&relay, "alice").await?;
    stored(&alice, opening.id, &bodies).await
}

#[tokio::test]
async fn datagrams_are_bounded_each_way() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 0\ndatagrams_per_second = 10\n")?;
    let reader = Raw::login(&relay, "reader").await?;
    let (at_reader, _) = reader.enter(&room("lobby:main")).await?;
    let started = Instant::now();
    let mut senders = Vec::new();
    for index in 0..4u8 {
        let sender = Raw::login(&relay, &format!("sender-{index}")).await?;
        let (stream, _) = sender.enter(&room("lobby:main")).await?;
        let id = u64::from(quinn::VarInt::from(stream.send.id()));
        for number in 0..100u8 {
            let body = [index, number];
            let signal = Signal { channel: id, user: "", kind: 16, body: Blob(&body) };
            sender.quic.send_datagram_wait(frame::to_datagram(&signal)).await?;
        }
        senders.push((sender, stream));
    }
    let mut heard = Vec::new();
    while let Ok(datagram) = tokio::time::timeout(Duration::from_millis(300), reader.quic.read_datagram()).await {
        let datagram = datagram?;
        let signal: Signal<'_> = frame::decode(frame::from_datagram(&datagram)?.body)?;
        heard.push((signal.user.to_owned(), signal.body.0.to_owned()));
    }
    // 10 at once, and 10 a second since.
    let most = 10 + (started.elapsed().as_secs_f64() * 10.0).ceil() as usize;
    assert!(heard.len() >= 10 && heard.len() <= most, "{} heard, at most {most}", heard.len());
    let of_first = heard.iter().filter(|(user, _)| user == "sender-0").count();
    assert!(of_first <= most, "{of_first} of the first sender");
    drop(at_reader);
    Ok(())
}

#[tokio::test]
async fn a_group_is_full_at_its_limit() -> Result<()> {
    let relay = Relay::with("[limits]\ngroup_members = 3\npresence_group_members = 3\n")?;
    let alice = Raw::login(&relay, "alice").await?;
    let id = ConversationId::group(rand::random());
    let (mut stream, _) = alice.enter(&Target::NewGroup(id)).await?;
    stream.done(&Add { n: 2, user: "bob" }).await?;
    stream.done(&Add { n: 3, user: "carol" }).await?;
    assert_eq!(stream.command(&Add { n: 4, user: "dave" }).await?.code(), Code::CONVERSATION_FULL);
    assert_eq!(stream.command(&Add { n: 5, user: "bob" }).await?.code(), Code::DONE, "is in it already");
    stream.done(&Remove { n: 6, user: "bob", ban: false }).await?;
    stream.done(&Add { n: 7, user: "dave" }).await?;
    let (members, _) = alice.ask(&Members { conversation: id, after: "", limit: 10 }).await?;
    assert_eq!(members.len(), 3);
    Ok(())
}

#[tokio::test]
async fn many_silent_connections_are_closed_and_disturb_nobody() -> Result<()> {
    let relay = Relay::with("[limits]\nunauthenticated = \"500ms\"\n[presence]\nsweep = \"100ms\"\n")?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, _) = alice.enter(&room("calm:room")).await?;
    let relay = std::sync::Arc::new(relay);
    let mut silent = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let relay = std::sync::Arc::clone(&relay);
        silent.spawn(async move { Raw::connect(&relay).await?.close_code().await });
    }
    for n in 2..60 {
        stream.post_accepted(n, "still here").await?;
    }
    for code in silent.join_all().await {
        assert_eq!(code?, Code::NO_HELLO);
    }
    stream.post_accepted(60, "still here").await?;
    Ok(())
}
