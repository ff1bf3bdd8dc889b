//! Readers that do not keep up: they get everything once and in order, and nobody else notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Code, ConversationId,
    conversation::{Skip, Start},
    event::kind,
};
use quip_tests::{
    raw::{Raw, RawOptions, RawStream},
    relay::Relay,
    talk::{Answer, FROM_THE_START, Seen, direct, room},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Small memtables and caches, so that memory that grows is the relay's own.
const LEAN: &str = "[limits]\nmessages_per_second = 0\n\n[store]\nmemtable_bytes = \"1MiB\"\ncache_bytes = \"1MiB\"\n";

fn narrow(stream_window: u32) -> RawOptions {
    RawOptions { stream_window, ..RawOptions::default() }
}

/// How many messages pass a reader that does not read; fewer than 100,000 only to try something out.
fn many() -> usize {
    std::env::var("QUIP_TEST_MESSAGES").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000)
}

#[tokio::test]
async fn a_reader_that_never_reads_harms_nobody_and_misses_nothing() -> Result<()> {
    const SENDERS: usize = 4;
    const DEAF: usize = 16;
    let relay = Relay::with(LEAN)?;
    let mut senders = Vec::new();
    for index in 0..SENDERS {
        let raw = Raw::login(&relay, &format!("sender-{index}")).await?;
        let (stream, _) = raw.enter(&room("busy:room")).await?;
        senders.push((raw, stream));
    }
    // Connections that have the room open and never read that stream; and one other conversation on each.
    let mut deaf = Vec::new();
    for index in 0..DEAF {
        let raw = Raw::login_as(&relay, &format!("deaf-{index}"), 1, narrow(64 << 10)).await?;
        let (unread, opening) = raw.enter(&room("busy:room")).await?;
        let (quiet, _) = raw.enter(&direct("friend")).await?;
        deaf.push((raw, unread, quiet, opening.start));
    }
    let reader = Raw::login(&relay, "reader").await?;
    let (mut at_reader, opening) = reader.enter(&room("busy:room")).await?;
    let friend = Raw::login(&relay, "friend").await?;
    let (mut at_friend, _) = friend.reopen(&direct("deaf-0"), Start::Now).await?;
    // What was there before; all that is counted comes after it.
    for (_, stream) in &mut senders {
        while stream.seen().await?.seq < opening.start {}
    }
    let each = many() / SENDERS;
    let last = opening.start + (SENDERS * each) as u64;
    let before = relay.resident_bytes().context("its memory")?;

    let done = Arc::new(AtomicBool::new(false));
    let mut floods = tokio::task::JoinSet::new();
    for (index, (raw, mut stream)) in senders.into_iter().enumerate() {
        let bodies: Vec<Vec<u8>> = (0..each).map(|number| format!("{index}:{number:030}").into_bytes()).collect();
        floods.spawn(async move {
            let sent = stream.send_all(2, &bodies, 14).await?;
            ensure!(sent.codes.get(&Code::DONE) == Some(&each), "{:?}", sent.codes);
            drop(raw);
            anyhow::Ok(())
        });
    }
    // A conversation on the connection of one who does not read the other.
    let quiet = &mut deaf[0].2;
    let beside = async {
        let (mut n, mut slowest) = (1, Duration::ZERO);
        while !done.load(Ordering::Relaxed) {
            let started = Instant::now();
            let body = format!("quiet {n}");
            at_friend.post_accepted(n, &body).await?;
            ensure!(quiet.seen().await?.body == body.as_bytes());
            slowest = slowest.max(started.elapsed());
            n += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok((n, slowest))
    };
    let reading = async {
        let mut log = Vec::with_capacity(SENDERS * each);
        for seq in opening.start + 1..=last {
            let seen = at_reader.seen().await?;
            ensure!(seen.seq == seq, "{} where {seq} belongs", seen.seq);
            log.push((seen.user, seen.body));
        }
        done.store(true, Ordering::Relaxed);
        anyhow::Ok(log)
    };
    let started = Instant::now();
    let (beside, log) = tokio::join!(beside, reading);
    let ((exchanged, slowest), log) = (beside?, log?);
    while let Some(flood) = floods.join_next().await {
        flood??;
    }
    let grown = relay.resident_bytes().context("its memory")?.saturating_sub(before);
    let rate = log.len() as f64 / started.elapsed().as_secs_f64();
    println!("{rate:.0}/s; {exchanged} beside, slowest {slowest:?}; grown by {} KiB", grown >> 10);
    // A queue of its own for each of them would hold 16 x 100,000 references of 32 bytes, 51 MiB, or copies, four times
    // that. What may grow: two memtables for each of four keyspaces that are written, the ring (256 KiB), one page and
    // one write for each stream.
    assert!(grown < 40 << 20, "{} MiB", grown >> 20);
    assert!(slowest < Duration::from_secs(2), "a conversation beside took {slowest:?}");
    for index in 0..SENDERS {
        let user = format!("sender-{index}");
        let of_one = log.iter().filter(|(by, _)| *by == user).map(|(_, body)| body.clone());
        assert!(of_one.eq((0..each).map(|number| format!("{index}:{number:030}").into_bytes())), "{user}");
    }

    // When they read at last, everything comes once and in order.
    let log = Arc::new(log);
    let mut late = tokio::task::JoinSet::new();
    for (index, (raw, mut unread, _, start)) in deaf.into_iter().enumerate().take(3) {
        let (log, first) = (Arc::clone(&log), opening.start + 1);
        late.spawn(async move {
            for seq in start + 1..=last {
                let seen = unread.seen().await.with_context(|| format!("deaf-{index} before {seq}"))?;
                ensure!(seen.seq == seq, "{} where {seq} belongs", seen.seq);
                if seq >= first {
                    let (user, body) = &log[(seq - first) as usize];
                    ensure!((&seen.user, &seen.body) == (user, body), "deaf-{index} was told another event {seq}");
                }
            }
            drop(raw);
            anyhow::Ok(())
        });
    }
    while let Some(caught_up) = late.join_next().await {
        caught_up??;
    }
    Ok(())
}

/// Follows a conversation by the rules: without holes, each answer once, own events once.
struct Check {
    user: &'static str,
    cursor: u64,
    ended: bool,
    seen: Vec<Seen>,
    unanswered: Vec<u64>,
    acked: Vec<(u64, u64)>,
    accepted: Vec<(u64, u64)>,
}

impl Check {
    fn new(user: &'static str, cursor: u64) -> Self {
        Self {
            user,
            cursor,
            ended: false,
            seen: Vec::new(),
            unanswered: Vec::new(),
            acked: Vec::new(),
            accepted: Vec::new(),
        }
    }

    fn take(&mut self, frame: &quip_tests::raw::OwnedFrame) -> Result<()> {
        if let Some(answer) = frame.answer() {
            let at = self.unanswered.iter().position(|n| *n == answer.n()).context("an answer to nothing")?;
            self.unanswered.remove(at);
            match answer {
                Answer::Accepted(accepted) => self.accepted.push((accepted.n, accepted.seq)),
                Answer::Ack(ack) => self.acked.push((ack.n, ack.seq)),
                Answer::Rejected(rejected) => anyhow::bail!("{}: {rejected:?}", self.user),
            }
        }
        if let Some(seen) = frame.seen() {
            ensure!(seen.seq == self.cursor + 1, "{}: {} after {}", self.user, seen.seq, self.cursor);
            self.cursor = seen.seq;
            self.ended |= seen.body == THE_END;
            self.seen.push(seen);
        }
        ensure!(frame.to::<Skip>().is_none(), "{}: a gap: {frame:?}", self.user);
        Ok(())
    }

    /// What was delivered is what is stored, and each Ack names the event that came in its place.
    fn against(&self, log: &[Seen]) -> Result<()> {
        for seen in &self.seen {
            let stored = &log[seen.seq as usize - 1];
            ensure!(stored.seq == seen.seq);
            match seen.n {
                Some(_) => ensure!(stored.user == self.user, "{}: {} is another's", self.user, seen.seq),
                None => ensure!(stored == seen, "{}: {} is not what is stored", self.user, seen.seq),
            }
        }
        for (n, seq) in &self.acked {
            let came = self.seen.iter().find(|seen| seen.seq == *seq).context("an Ack without its event")?;
            ensure!(came.user == self.user && came.n.is_none(), "{}: n {n} at {seq} is {came:?}", self.user);
        }
        Ok(())
    }
}

#[tokio::test]
async fn from_the_store_to_memory_to_live_without_a_gap() -> Result<()> {
    let seed: u64 =
        std::env::var("QUIP_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("QUIP_TEST_SEED={seed}");
    // As little memory as there may be, so that readers fall out of it all the time.
    let config = "[limits]\nmessages_per_second = 0\nring_bytes_per_conversation = \"64KiB\"\nring_bytes = \"1MiB\"\n";
    let relay = Arc::new(Relay::with(config)?);
    let writer = Raw::login(&relay, "writer").await?;
    let (mut at_writer, opening) = writer.enter(&room("busy:room")).await?;
    let mut random = StdRng::seed_from_u64(seed);
    let bodies: Vec<Vec<u8>> = (0..3000).map(|number| message(number, &mut random)).collect();
    at_writer.send_all(2, &bodies[..1000], 32).await?;

    let mut readers = tokio::task::JoinSet::new();
    for (index, user) in ["reader-0", "reader-1", "reader-2", "reader-3"].into_iter().enumerate() {
        let relay = Arc::clone(&relay);
        let random = StdRng::seed_from_u64(seed ^ (index as u64 + 1));
        readers.spawn(async move { wander(&relay, user, random).await });
    }
    for (index, user) in ["poster-0", "poster-1"].into_iter().enumerate() {
        let relay = Arc::clone(&relay);
        let random = StdRng::seed_from_u64(seed ^ (index as u64 + 100));
        readers.spawn(async move { post_and_read(&relay, user, random).await });
    }
    // The posters are in, so that the writer is not alone from here on.
    for (n, chunk) in (1002u64..).step_by(100).zip(bodies[1000..].chunks(100)) {
        at_writer.send_all(n, chunk, random.random_range(1..32)).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
    }
    at_writer.send_all(3002, &[THE_END.to_vec()], 1).await?;
    let mut checks = Vec::new();
    while let Some(check) = readers.join_next().await {
        checks.push(check??);
    }
    let log = writer.history(opening.id).await?;
    let of_writer =
        log.iter().filter(|event| event.user == "writer" && event.kind == kind::DATA).map(|event| &event.body);
    assert!(of_writer.take(3000).eq(&bodies));
    let (mut acked, mut accepted) = (0, 0);
    for check in &checks {
        check.against(&log)?;
        acked += check.acked.len();
        accepted += check.accepted.len();
    }
    println!("{acked} answered by Ack, {accepted} by Accepted; {} events", log.len());
    Ok(())
}

/// The writer's last word: whoever has it, has everything before it.
const THE_END: &[u8] = b"the end";

/// Mostly lines, sometimes as large as may be.
fn message(number: usize, random: &mut StdRng) -> Vec<u8> {
    let size = match random.random_range(0..20) {
        0 => 16 << 10,
        1..=3 => random.random_range(1000..8000),
        _ => random.random_range(10..200),
    };
    format!("{number:0size$}").into_bytes()
}

/// Joins, starts anywhere, pauses, opens again, connects again.
async fn wander(relay: &Relay, user: &'static str, mut random: StdRng) -> Result<Check> {
    let mut raw = Raw::login_as(relay, user, 1, narrow(random.random_range(1 << 10..64 << 10))).await?;
    let generation = {
        let (mut stream, opening) = raw.enter(&room("busy:room")).await?;
        close(&mut stream, &mut Check::new(user, opening.start)).await?;
        opening.generation
    };
    let from = random.random_range(0..1000);
    let mut check = Check::new(user, from);
    loop {
        let start = Start::After { generation, seq: check.cursor };
        let (mut stream, opening) = raw.reopen(&room("busy:room"), start).await?;
        ensure!(opening.start == check.cursor + 1, "{user}: {opening:?} after {}", check.cursor);
        for _ in 0..random.random_range(1..600) {
            check.take(&stream.frame().await?)?;
            if check.ended {
                return Ok(check);
            }
            if random.random_range(0..100) == 0 {
                tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
            }
        }
        match random.random_range(0..3) {
            0 => {
                close(&mut stream, &mut check).await?;
                if check.ended {
                    return Ok(check);
                }
            }
            1 => {
                raw = Raw::login_as(relay, user, 1, narrow(random.random_range(1 << 10..64 << 10))).await?;
            }
            _ => {
                stream.send.reset(0u32.into())?;
                while stream.try_frame().await.is_ok_and(|frame| frame.is_some()) {}
            }
        }
    }
}

/// Finishes and takes what still comes.
async fn close(stream: &mut RawStream, check: &mut Check) -> Result<()> {
    stream.send.finish()?;
    while let Some(frame) = stream.try_frame().await? {
        check.take(&frame)?;
    }
    Ok(())
}

/// Posts while it reads, with pauses, until it has seen the end.
async fn post_and_read(relay: &Relay, user: &'static str, mut random: StdRng) -> Result<Check> {
    let raw = Raw::login_as(relay, user, 1, narrow(random.random_range(1 << 10..16 << 10))).await?;
    let (mut stream, first) = raw.open(&room("busy:room"), 1, FROM_THE_START).await?;
    ensure!(first.opened()?.start == 1);
    let mut check = Check::new(user, 0);
    let mut n = 2;
    loop {
        // An own message may have come after the end.
        let whole = check.acked.iter().all(|(_, seq)| *seq <= check.cursor);
        if check.ended && check.unanswered.is_empty() && whole {
            return Ok(check);
        }
        if !check.ended && check.unanswered.len() < 4 && random.random_range(0..8) == 0 {
            check.unanswered.push(n);
            stream.data(n, format!("{user} {n}").as_bytes()).await?;
            n += 1;
        }
        check.take(&stream.frame().await?)?;
        if random.random_range(0..200) == 0 {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
    }
}

#[tokio::test]
async fn many_conversations_catch_up_at_once() -> Result<()> {
    for most in [1, 4] {
        let config = format!("[limits]\nmessages_per_second = 0\nreads_per_user = {most}\n");
        let relay = Relay::with(&config)?;
        let writer = Raw::login(&relay, "writer").await?;
        let mut rooms: Vec<(String, ConversationId)> = Vec::new();
        for index in 0..16 {
            let name = format!("lobby:{index}");
            let (mut stream, opening) = writer.enter(&room(&name)).await?;
            let bodies: Vec<_> = (0..100).map(|number| format!("{name} {number:01000}").into_bytes()).collect();
            stream.send_all(2, &bodies, 32).await?;
            rooms.push((name, opening.id));
        }
        let reader = Raw::login_as(&relay, "writer", 2, narrow(8 << 10)).await?;
        let mut streams = Vec::new();
        for (name, _) in &rooms {
            streams.push(reader.reopen(&room(name), FROM_THE_START).await?.0);
        }
        // The first half is not read at all, some of it is given up; the second half comes in full all the same.
        let unread = streams.drain(..8).collect::<Vec<_>>();
        let (given_up, mut unread): (Vec<_>, Vec<_>) =
            unread.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
        drop(given_up);
        let mut reading = tokio::task::JoinSet::new();
        for (mut stream, (name, _)) in streams.into_iter().zip(rooms[8..].to_vec()) {
            reading.spawn(async move { read_all(&mut stream, &name).await });
        }
        while let Some(read) = reading.join_next().await {
            read??;
        }
        for (index, stream) in &mut unread {
            read_all(stream, &rooms[*index].0).await?;
        }
        for index in [0, 2, 4, 6] {
            let (mut stream, _) = reader.reopen(&room(&rooms[index].0), FROM_THE_START).await?;
            read_all(&mut stream, &rooms[index].0).await?;
        }
    }
    Ok(())
}

async fn read_all(stream: &mut RawStream, name: &str) -> Result<()> {
    for seq in 1..=101 {
        let seen = stream.seen().await.with_context(|| format!("{name} before {seq}"))?;
        ensure!(seen.seq == seq, "{name}: {} where {seq} belongs", seen.seq);
        ensure!(seq == 1 || seen.body == format!("{name} {:01000}", seq - 2).as_bytes(), "{name}: {seq}");
    }
    Ok(())
}
