//! A disk that gives back other bytes than were written, and other ways in which a relay cannot start.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    net::UdpSocket,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use quip_protocol::{
    Code, ConversationId,
    conversation::{Add, React, Start, Target},
    event::kind,
    request::{Entry, History, List, Page},
};
use quip_tests::{
    raw::{OwnedFrame, Raw, RawOptions},
    relay::{Relay, copy_folder},
    talk::{FROM_THE_START, Seen, direct, room},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// So small that most of what is written lies in tables.
const CONFIG: &str =
    "[limits]\nmessages_per_second = 0\n\n[store]\nmemtable_bytes = \"1MiB\"\ncache_bytes = \"1MiB\"\n";

/// What was accepted: every conversation with all its events.
struct Truth(Vec<(ConversationId, Vec<Seen>)>);

/// Fills a store, part of it in tables and part in the journal, and stops the relay.
async fn fill(folder: &Path) -> Result<Truth> {
    let mut relay = Relay::prepare(folder, CONFIG);
    relay.run()?;
    let alice = Raw::login(&relay, "alice").await?;
    let mut ids = Vec::new();
    let group = ConversationId::group([7; 15]);
    let targets = [room("large:room"), room("small:room"), direct("bob"), Target::NewGroup(group), direct("alice")];
    for (target, (count, size)) in targets.iter().zip([(6000, 700), (300, 40), (50, 3000), (20, 20), (5, 16_000)]) {
        let (mut stream, opening) = alice.enter(target).await?;
        let bodies: Vec<Vec<u8>> = (0..count).map(|number| format!("{number:0size$}").into_bytes()).collect();
        stream.send_all(2, &bodies, 64).await?;
        if opening.id == group {
            for n in 0..40 {
                stream.done(&Add { n: 22 + n, user: &format!("user-{n:02}") }).await?;
            }
        }
        ids.push(opening.id);
    }
    let mut truth = Vec::new();
    for id in ids {
        truth.push((id, alice.history(id).await?));
    }
    ensure!(relay.terminate()?.success(), "{}", relay.log());
    Ok(Truth(truth))
}

/// How far alice has read: what she says.
fn read(events: &[Seen]) -> u64 {
    events.iter().rev().find(|event| kind::counts(event.kind)).map_or(0, |event| event.seq)
}

/// What a relay on a damaged store came to.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// It refused to start, and said why.
    Refused(String),
    /// It reads: how many events were right and how many could not be read.
    Reads { right: usize, damaged: usize },
}

/// Starts a relay there and compares everything that it says with the truth.
async fn look(folder: &Path, truth: &Truth) -> Result<Came> {
    let mut relay = Relay::prepare(folder, CONFIG);
    let _ = fs::remove_file(folder.join("log"));
    if relay.run().is_err() {
        let log = relay.log();
        let named = log.contains("error:") && log.contains(&*folder.join("data").to_string_lossy());
        ensure!(named && !log.contains("panicked"), "it names nothing: {log}");
        return Ok(Came::Refused(log));
    }
    let alice = Raw::login_as(&relay, "alice", 99, RawOptions::default()).await?;
    let (mut right, mut damaged) = (0, 0);
    for (id, events) in &truth.0 {
        let (good, bad) = compare(&alice, *id, events).await?;
        right += good;
        damaged += bad;
        open(&alice, *id, events).await?;
    }
    list(&alice, truth).await?;
    // The relay goes on serving, or says itself why it ends; it never ends badly.
    let log = relay.log();
    ensure!(!log.contains("panicked"), "{log}");
    ensure!(damaged == 0 || log.contains("damaged"), "the operator is not told: {log}");
    Ok(Came::Reads { right, damaged })
}

/// Every event is right or damaged, never missing and never another one.
async fn compare(alice: &Raw, id: ConversationId, events: &[Seen]) -> Result<(usize, usize)> {
    let (mut right, mut damaged, mut next, mut limit) = (0, 0, 0, 1000);
    while next < events.len() {
        let ask = History { conversation: id, forward: true, from: next as u64, limit };
        let (frames, end) = alice.ask(&ask).await?;
        match end.0 {
            Code::DONE => {}
            Code::STORED_DAMAGED if limit > 1 => {
                limit = 1;
                continue;
            }
            Code::STORED_DAMAGED => {
                damaged += 1;
                next += 1;
                continue;
            }
            other => bail!("{id} after {next}: {other:?}"),
        }
        let page = frames.first().and_then(OwnedFrame::to::<Page>).context("a page")?;
        ensure!((page.first, page.head) == (1, events.len() as u64), "{id}: {page:?} of {}", events.len());
        ensure!(page.count > 0, "{id} after {next}: an empty page");
        for frame in &frames[1..] {
            let seen = frame.seen().context("an event")?;
            ensure!(seen == events[next], "{id}: {seen:?} instead of {:?}", events[next]);
            next += 1;
            right += 1;
        }
        limit = (limit * 2).min(1000);
    }
    Ok((right, damaged))
}

/// Opening tells the truth or that it cannot, and so does following.
async fn open(alice: &Raw, id: ConversationId, events: &[Seen]) -> Result<()> {
    let (mut stream, first) = alice.open(&Target::Id(id), 0, FROM_THE_START).await?;
    let Ok(opening) = first.opened() else {
        ensure!(first.end()?.0 == Code::STORED_DAMAGED, "{id}: {first:?}");
        return Ok(());
    };
    ensure!(
        opening.head == events.len() as u64 && opening.read == read(events) && opening.role > 0,
        "{id}: {opening:?}"
    );
    for event in events {
        let frame = stream.frame().await?;
        match frame.seen() {
            Some(seen) => ensure!(seen == *event, "{id}: {seen:?} instead of {event:?}"),
            None => {
                ensure!(frame.end()?.0 == Code::STORED_DAMAGED, "{id}: {frame:?}");
                return Ok(());
            }
        }
    }
    drop(stream);
    Ok(())
}

async fn list(alice: &Raw, truth: &Truth) -> Result<()> {
    let (frames, end) = alice.ask(&List { after: ConversationId([0; 16]), limit: 100 }).await?;
    if end.0 == Code::STORED_DAMAGED {
        return Ok(());
    }
    ensure!(end == (Code::DONE, 0), "{end:?}");
    let mut entries: Vec<_> = frames.iter().filter_map(|frame| frame.to::<Entry<'_>>()).collect();
    entries.sort_by_key(|entry| truth.0.iter().position(|(id, _)| *id == entry.conversation));
    ensure!(entries.len() == truth.0.len(), "{} of {} conversations are listed", entries.len(), truth.0.len());
    for (entry, (id, events)) in entries.iter().zip(&truth.0) {
        ensure!(
            entry.conversation == *id && entry.head == events.len() as u64 && entry.read == read(events),
            "{entry:?}"
        );
    }
    Ok(())
}

/// The files of a folder with the bytes that they hold without zeros at the end.
fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else {
            let content = fs::read(&path)?;
            let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            all.push((path, used));
        }
    }
    all.sort();
    Ok(all)
}

fn flip(path: &Path, at: u64, mask: u8) -> Result<()> {
    let mut file = fs::File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ mask])?;
    Ok(())
}

fn trials() -> usize {
    std::env::var("QUIP_TEST_FLIPS").ok().and_then(|count| count.parse().ok()).unwrap_or(12)
}

#[tokio::test]
async fn a_flipped_byte_is_refused_or_reported_and_never_read() -> Result<()> {
    let seed: u64 =
        std::env::var("QUIP_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("QUIP_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let whole = folder.path().join("whole");
    let truth = fill(&whole).await?;
    let events: usize = truth.0.iter().map(|(_, events)| events.len()).sum();
    let undamaged = folder.path().join("undamaged");
    copy_folder(&whole, &undamaged)?;
    assert_eq!(look(&undamaged, &truth).await?, Came::Reads { right: events, damaged: 0 });

    let store = whole.join("data/store");
    let all: Vec<_> = files(&store)?.into_iter().filter(|(_, used)| *used > 16).collect();
    let (journals, tables): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(path, _)| path.extension().is_some_and(|extension| extension == "jnl"));
    let (mut refused, mut told, mut unharmed) = (0, 0, 0);
    for trial in 0..trials() {
        // By turns a journal, any other file, and one of the large tables. Not the last commit of a journal: one that
        // is not whole was never acknowledged as far as anyone can tell.
        let (path, used) = match trial % 3 {
            0 => journals.iter().max_by_key(|(_, used)| *used).context("a journal")?,
            1 => &tables[random.random_range(0..tables.len())],
            _ => {
                let mut largest: Vec<_> = tables.iter().collect();
                largest.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
                largest[random.random_range(0..largest.len().min(4))]
            }
        };
        let most = if trial % 3 == 0 { used * 9 / 10 } else { *used };
        let (at, mask) = (random.random_range(0..most), 1 << random.random_range(0..8));
        let name = path.strip_prefix(&whole)?;
        let copied = folder.path().join(format!("trial-{trial}"));
        copy_folder(&whole, &copied)?;
        flip(&copied.join(name), at, mask)?;
        let what = format!("bit {mask:#04x} of byte {at} of {} ({used} bytes)", name.display());
        let came = look(&copied, &truth).await.with_context(|| what.clone())?;
        match &came {
            Came::Refused(why) => {
                println!("{what}: refused: {}", why.lines().last().unwrap_or_default());
                refused += 1;
            }
            Came::Reads { right, damaged } => {
                println!("{what}: {right} right, {damaged} damaged");
                ensure!(right + damaged == events, "{what}: {came:?} of {events}");
                told += usize::from(*damaged > 0);
                unharmed += usize::from(*damaged == 0);
            }
        }
        fs::remove_dir_all(&copied)?;
    }
    println!("{refused} refused, {told} told, {unharmed} in bytes that nobody needs");
    Ok(())
}

#[tokio::test]
async fn a_command_about_a_damaged_record_is_refused_and_stops_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let truth = fill(folder.path()).await?;
    let (id, events) = &truth.0[0];
    let of_events = |(path, _): &(PathBuf, u64)| path.parent().is_some_and(|parent| parent.ends_with("tables"));
    let tables: Vec<_> = files(&folder.path().join("data/store"))?.into_iter().filter(of_events).collect();
    let (table, used) = tables.iter().max_by_key(|(_, used)| *used).context("a table")?;
    flip(table, used / 2, 4)?;
    let mut relay = Relay::prepare(folder.path(), CONFIG);
    relay.run()?;
    let alice = Raw::login_as(&relay, "alice", 99, RawOptions::default()).await?;
    let mut damaged = Vec::new();
    for seq in 1..=events.len() as u64 {
        let ask = History { conversation: *id, forward: true, from: seq - 1, limit: 1 };
        if alice.ask(&ask).await?.1.0 == Code::STORED_DAMAGED {
            damaged.push(seq);
        }
    }
    // In the middle of what is damaged: a page also looks at what is beside it.
    let target = *damaged.get(damaged.len() / 2).context("nothing is damaged")?;
    let (mut stream, _) = alice.reopen(&Target::Id(*id), Start::Now).await?;
    let answer = stream.command(&React { n: 1, target, add: true, reaction: "x" }).await?;
    assert_eq!(answer.code(), Code::STORED_DAMAGED);
    stream.post_accepted(2, "the conversation goes on").await?;
    let (mut other, _) = alice.enter(&room("another:room")).await?;
    other.post_accepted(2, "and so does everything else").await?;
    Ok(())
}

#[tokio::test]
async fn a_folder_belongs_to_one_relay() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut first = Relay::prepare(folder.path(), "");
    first.run()?;
    let second = Relay::prepare(folder.path(), "");
    let (status, log) = second.run_to_end()?;
    assert_eq!(status.code(), Some(1), "{log}");
    let data = folder.path().join("data");
    assert!(log.contains("in use") && log.contains(&*data.to_string_lossy()), "{log}");
    let alice = Raw::login(&first, "alice").await?;
    let (mut stream, _) = alice.enter(&room("calm:room")).await?;
    stream.post_accepted(2, "the first one is not disturbed").await?;
    first.kill();
    // Who is killed leaves no lock behind.
    first.run()?;
    let alice = Raw::login(&first, "alice").await?;
    let (_, opening) = alice.reopen(&room("calm:room"), FROM_THE_START).await?;
    assert_eq!(opening.head, 2);
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_named() -> Result<()> {
    let taken = UdpSocket::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let mut relay = Relay::prepare(folder.path(), "");
    relay.address = taken.local_addr()?;
    let (status, log) = relay.run_to_end()?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("cannot listen on UDP {}", relay.address)) && log.contains("--listen"), "{log}");
    // Nothing was left that would keep it from starting elsewhere.
    relay.address.set_port(0);
    relay.run()?;
    assert!(relay.terminate()?.success());
    Ok(())
}

#[test]
fn a_typo_in_the_config_is_shown_where_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (config, shown) in [
        (
            "[limits]\nmesages_per_second = 7\n",
            ["mesages_per_second = 7", "^^^^", "messages_per_second", "quip.toml:4"],
        ),
        ("[limitz]\n", ["[limitz]", "^^^^", "limits", "quip.toml:3"]),
        ("[limits]\nframe_bytes = \"64 KB\"\n", ["frame_bytes = \"64 KB\"", "^^^^", "KiB", "quip.toml:4"]),
        ("[limits]\nconnections = 0\n", ["connections = 0", "^", "between 1 and", "quip.toml:4"]),
        ("[presence]\nkeepalive = \"20s\"\n", ["keepalive = \"20s\"", "^^^^", "twice keepalive", "quip.toml:4"]),
    ] {
        let relay = Relay::prepare(folder.path(), config);
        let _ = fs::remove_file(folder.path().join("log"));
        let (status, log) = relay.run_to_end()?;
        assert_eq!(status.code(), Some(2), "{log}");
        for text in shown {
            assert!(log.contains(text), "no {text:?} in: {log}");
        }
        assert!(!relay.data().exists(), "a folder was made for nothing");
    }
    Ok(())
}
