//! What one user may do over all connections: the limit is refused with its code, waiting helps, and nobody else notices.

use std::{process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use quip_client::{Client, Config, OpenOptions, Target as To, Trust};
use quip_protocol::{
    Code, ConversationId, DeviceId, InstanceId, Retry,
    conversation::{Add, End, Mark, Open, Rejected, Start, Target},
    frame,
    request::List,
    session::Marked,
};
use quip_tests::{
    raw::{Raw, RawOptions, RawStream},
    relay::{Relay, binary},
    talk::{Answer, room, until},
};

/// Connects a device of mallory's.
async fn device(relay: &Relay, device: u8, instance: u8) -> Result<Raw> {
    let mut raw = Raw::connect(relay).await?;
    raw.hello(&relay.token("mallory")?, DeviceId([device; 16]), InstanceId([instance; 16])).await?;
    Ok(raw)
}

/// The code with which a device of mallory's is turned away.
async fn turned_away(relay: &Relay, device: u8) -> Result<Code> {
    let mut raw = Raw::connect(relay).await?;
    let hello = raw.hello(&relay.token("mallory")?, DeviceId([device; 16]), InstanceId([1; 16])).await;
    ensure!(hello.is_err(), "device {device} is welcome");
    raw.close_code().await
}

#[tokio::test]
async fn the_devices_of_one_user_leave_room_for_others() -> Result<()> {
    let relay = Relay::with("[limits]\nconnections = 50\n")?;
    let mut all = Vec::new();
    for number in 1..=32 {
        all.push(device(&relay, number, 1).await?);
    }
    for number in 33..=40 {
        assert_eq!(turned_away(&relay, number).await?, Code::TOO_MANY_CONNECTIONS);
    }
    assert_eq!(Code::TOO_MANY_CONNECTIONS.retry(), Retry::Later);
    let bob = Raw::login(&relay, "bob").await?;
    bob.enter(&room("calm:room")).await?;
    // A device that connects again, from the same process or a new one, is always let in.
    for (number, instance, code) in [(1, 1, Code::BYE), (2, 9, Code::REPLACED)] {
        let again = device(&relay, number, instance).await?;
        let older = std::mem::replace(&mut all[usize::from(number) - 1], again);
        assert_eq!(older.close_code().await?, code);
    }
    all.pop().context("a device")?.quic.close(0u32.into(), b"");
    until("there is room again", async || Ok(device(&relay, 40, 1).await.is_ok())).await
}

#[tokio::test]
async fn opening_and_marking_are_no_way_around_the_rate() -> Result<()> {
    let relay = Relay::start()?;
    let mallory = Raw::login(&relay, "mallory").await?;
    let (mut first, _) = mallory.enter(&room("lobby:main")).await?;
    first.send.finish()?;
    while first.try_frame().await?.is_some() {}
    let begun = Instant::now();
    let (mut opened, mut refused) = (0_u32, 0);
    while refused < 20 {
        let mut stream = mallory.stream().await?;
        let mut bytes = frame::to_bytes(&Open::new(&room("lobby:main"), 0, Start::Now)).to_vec();
        bytes.extend_from_slice(&frame::to_bytes(&Mark { seq: 1, number: 0 }));
        // The relay may have ended the stream by now.
        let _ = stream.bytes(&bytes).await;
        let _ = stream.send.finish();
        let answer = stream.frame().await?;
        match answer.to::<End<'_>>() {
            Some(end) => {
                ensure!(end.code == Code::RATE && end.retry_after > 0, "{end:?}");
                refused += 1;
            }
            None => opened += 1,
        }
        while stream.try_frame().await?.is_some() {}
    }
    // 100 commands at once, and 50 a second since; each of these costs a tenth and a mark.
    let most = (1000.0 + 500.0 * begun.elapsed().as_secs_f64()) / 11.0 + 2.0;
    assert!(f64::from(opened) < most, "{opened} in {:?}", begun.elapsed());
    println!("{opened} opened with a mark in {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_thousand_conversations_are_opened_at_once_and_a_hundred_requests() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 1\nmessages_burst = 100\n")?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut stream, _) = alice.enter(&room("lobby:main")).await?;
    let (begun, mut opened) = (Instant::now(), 0_u32);
    let wait = loop {
        stream.send.finish()?;
        while stream.try_frame().await?.is_some() {}
        let (next, first) = alice.open(&room("lobby:main"), 0, Start::Now).await?;
        if let Some(end) = first.to::<End<'_>>() {
            ensure!(end.code == Code::RATE, "{end:?}");
            break end.retry_after;
        }
        (stream, opened) = (next, opened + 1);
    };
    // Less what the join cost, and more what came back meanwhile.
    let most = 1000.0 - 11.0 + 10.0 * begun.elapsed().as_secs_f64();
    assert!(opened >= 989 && f64::from(opened) <= most + 1.0, "{opened}");
    assert!((1..=100).contains(&wait), "{wait}");
    let (begun, mut answered) = (Instant::now(), 0_u32);
    let ask = List { after: ConversationId([0; 16]), limit: 1 };
    let wait = loop {
        let mut stream = bob.stream().await?;
        stream.send(&ask).await?;
        let frame = stream.frame().await?;
        match frame.to::<End<'_>>() {
            Some(End { code: Code::DONE, .. }) => answered += 1,
            Some(End { code: Code::RATE, retry_after, .. }) => break retry_after,
            _ => anyhow::bail!("{frame:?}"),
        }
    };
    let most = 100.0 + begun.elapsed().as_secs_f64();
    assert!(answered >= 100 && f64::from(answered) <= most + 1.0, "{answered}");
    assert!((1..=1000).contains(&wait), "{wait}");
    Ok(())
}

#[tokio::test]
async fn marks_beyond_the_rate_wait_and_the_last_one_arrives() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 20\nmessages_burst = 40\n")?;
    let (alice, mut bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut stream, _) = alice.enter(&room("lobby:main")).await?;
    let (mut at_bob, _) = bob.enter(&room("lobby:main")).await?;
    stream.seen().await?;
    let (mut elsewhere, _) = bob.enter(&room("lobby:other")).await?;
    for n in 2..=31 {
        elsewhere.post_accepted(n, "takes of bob's rate").await?;
    }
    let mut last = 0;
    for n in 2..=31 {
        last = stream.post_accepted(n, "to be read").await?.seq;
        at_bob.send(&Mark { seq: last, number: n - 1 }).await?;
    }
    let mut marked = 0;
    while marked < last {
        marked = bob.told::<Marked>().await?.to::<Marked>().context("a mark")?.seq;
    }
    Ok(())
}

/// Creates a group, and says how long to wait if that is refused.
async fn create(raw: &Raw) -> Result<(RawStream, Option<u64>)> {
    let (stream, first) = raw.open(&Target::NewGroup(ConversationId::group(rand::random())), 1, Start::Now).await?;
    let Some(end) = first.to::<End<'_>>() else { return Ok((stream, None)) };
    ensure!(end.code == Code::TOO_MANY_CREATED, "{end:?}");
    Ok((stream, Some(end.retry_after)))
}

#[tokio::test]
async fn conversations_created_are_bounded() -> Result<()> {
    let relay = Relay::with("[limits]\ncreated_per_hour = 3\n")?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    for _ in 0..2 {
        assert_eq!(create(&alice).await?.1, None);
    }
    alice.enter(&room("lobby:main")).await?;
    let (_, wait) = create(&alice).await?;
    assert!(wait.is_some_and(|wait| (1_100_000..=1_200_000).contains(&wait)), "{wait:?}");
    let refused = alice.refused(&room("lobby:other"), 1, Start::Now).await?;
    assert_eq!(refused, (Code::TOO_MANY_CREATED, 0));
    // What is there may be joined, and others create what they like.
    bob.enter(&room("lobby:bobs")).await?;
    alice.enter(&room("lobby:bobs")).await?;
    assert_eq!(create(&bob).await?.1, None);
    // Another connection does not help.
    let again = Raw::login_as(&relay, "alice", 9, RawOptions::default()).await?;
    assert!(create(&again).await?.1.is_some());
    Ok(())
}

#[tokio::test]
async fn one_who_was_added_to_many_groups_is_left_alone() -> Result<()> {
    let limits = "messages_per_second = 0\nadded_per_hour = 5\nadded_by_one_per_hour = 3\n";
    let relay = Relay::with(&format!("[limits]\n{limits}"))?;
    // All at once, before the first one is decided.
    let eve = Raw::login(&relay, "eve").await?;
    let mut groups = Vec::new();
    for _ in 0..12 {
        groups.push(create(&eve).await?.0);
    }
    for stream in &mut groups {
        stream.send(&Add { n: 2, user: "dan" }).await?;
    }
    let mut accepted = 0;
    for stream in &mut groups {
        accepted += usize::from(stream.answer().await?.code() == Code::DONE);
    }
    assert_eq!(accepted, 3);
    let [mallory, alice] = [Raw::login(&relay, "mallory").await?, Raw::login(&relay, "alice").await?];
    for (raw, most) in [(&mallory, 3), (&alice, 2)] {
        for number in 0..5 {
            let (mut stream, _) = create(raw).await?;
            let added = match stream.command(&Add { n: 2, user: "bob" }).await? {
                Answer::Accepted(_) => true,
                Answer::Rejected(Rejected { code: Code::ADDED_TOO_OFTEN, .. }) => false,
                answer => anyhow::bail!("group {number}: {answer:?}"),
            };
            assert_eq!(added, number < most, "group {number}");
            // What follows does not wait for the refused one, and one who is a member already is no addition.
            stream.post_accepted(3, "on").await?;
            if added {
                assert!(matches!(stream.command(&Add { n: 4, user: "bob" }).await?, Answer::Ack(_)));
            }
        }
    }
    let (mut stream, _) = create(&alice).await?;
    stream.done(&Add { n: 2, user: "carol" }).await?;
    Ok(())
}

#[tokio::test]
async fn the_library_comes_back_when_another_device_used_the_rate_up() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 20\nmessages_burst = 8\n")?;
    let connect = async || {
        let trust = Trust::Fingerprint(relay.fingerprint()?);
        anyhow::Ok(Client::connect(Config::new([relay.address.to_string()], trust, relay.token("alice")?)).await?)
    };
    let client = connect().await?;
    let mut open = Vec::new();
    for number in 0..12 {
        open.push(client.open(To::room(&format!("lobby:{number}"))?, OpenOptions::join()).await?);
    }
    for _ in 0..12 {
        client.list(None, 5).await?;
    }
    let other = connect().await?;
    for _ in 0..12 {
        let (one, two) = tokio::join!(other.list(None, 5), client.list(None, 5));
        assert_eq!((one?.items.len(), two?.items.len()), (5, 5));
    }
    Ok(())
}

#[tokio::test]
async fn a_command_that_fails_takes_no_place_from_the_next_one() -> Result<()> {
    let relay = Relay::with("[limits]\nconnections_per_user = 2\n")?;
    let quip = |words: &[&str]| -> Result<(bool, String)> {
        let mut command = Command::new(binary("quip"));
        command.args(words).args(["--as", "mallory", "--data"]).arg(relay.data()).env_remove("QUIP_TOKEN");
        let output = command.output()?;
        Ok((output.status.success(), String::from_utf8(output.stderr)?))
    };
    let unknown = format!("#{}", ConversationId::group([9; 15]));
    for _ in 0..4 {
        for words in [&["group", "title", &unknown, "x"][..], &["history", &unknown], &["send", &unknown, "x"]] {
            let (done, said) = quip(words)?;
            ensure!(!done && said.contains("not found"), "{words:?}: {said}");
        }
    }
    ensure!(quip(&["list"])?.0);
    Ok(())
}
