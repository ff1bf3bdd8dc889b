//! A log that nobody reads stops nobody, and strangers do not fill it.

use std::{
    fs::File,
    io::{PipeReader, Read, Write, pipe},
    os::fd::OwnedFd,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use quip_protocol::{Code, DeviceId, InstanceId, Items, session::Hello};
use quip_tests::{raw::Raw, relay::Relay, talk::room};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// More lines than a pipe or a terminal has room for.
const STRANGERS: usize = 450;

/// What the relay logs of each.
const TURNED_AWAY: &str = "a client was turned away";

/// A relay whose log goes to `stderr`.
fn relay(folder: &Path, config: &str, stderr: OwnedFd) -> Result<Relay> {
    let mut relay = Relay::prepare(folder, config);
    relay.set_stderr(stderr);
    relay.run()?;
    Ok(relay)
}

/// Clients with a token of their own making, one after the other.
async fn strangers(relay: &Relay, count: usize) -> Result<()> {
    for _ in 0..count {
        let stranger = Raw::connect(relay).await?;
        let (device, instance) = (DeviceId([1; 16]), InstanceId([1; 16]));
        let hello =
            Hello { token: "let me in", device, instance, client: "raw", streams: 1, features: Items::default() };
        let mut session = stranger.stream().await?;
        session.send(&hello).await?;
        ensure!(stranger.close_code().await? == Code::UNAUTHENTICATED);
    }
    Ok(())
}

/// Whatever becomes of its log, a relay serves and ends.
async fn serves_and_ends(relay: &mut Relay) -> Result<()> {
    let alice = Raw::login(relay, "alice").await?;
    let (mut lobby, _) = alice.enter(&room("lobby:main")).await?;
    for n in 2..5 {
        strangers(relay, STRANGERS / 3).await?;
        lobby.post_accepted(n, "is anyone there?").await?;
    }
    Raw::login(relay, "bob").await?.enter(&room("lobby:main")).await?;
    let status = relay.terminate()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// A pipe that holds no more.
fn full_pipe() -> Result<(PipeReader, OwnedFd)> {
    const PIPE: usize = 64 << 10;
    let (reader, mut writer) = pipe()?;
    writer.write_all(&[b'.'; PIPE])?;
    Ok((reader, writer.into()))
}

#[tokio::test]
async fn a_relay_whose_log_nobody_reads_serves_everyone_and_ends_in_time() -> Result<()> {
    for limit in ["lines_per_second = 0", "lines_per_second = 20"] {
        let folder = tempfile::tempdir()?;
        let (_unread, writer) = full_pipe()?;
        let mut relay = relay(folder.path(), &format!("[log]\n{limit}\n"), writer)?;
        serves_and_ends(&mut relay).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_terminal_that_stands_still_stops_nobody() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let unread = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&unread)?;
    unlockpt(&unread)?;
    let terminal = ptsname(&unread, Vec::new())?.into_string()?;
    let terminal = File::options().read(true).write(true).open(terminal)?;
    let mut relay = relay(folder.path(), "[log]\nlines_per_second = 0\n", terminal.into())?;
    serves_and_ends(&mut relay).await
}

#[tokio::test]
async fn what_a_log_lost_is_counted_once_it_is_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut reader, writer) = full_pipe()?;
    let log = "[log]\nlines_per_second = 0\nwaiting_bytes = \"4KiB\"\n";
    let mut relay = relay(folder.path(), log, writer)?;
    strangers(&relay, STRANGERS).await?;
    // Reads to the end, which comes when the relay has ended and let go of its end of the pipe.
    relay.set_stderr(File::open("/dev/null")?.into());
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    relay.terminate()?;
    let text = read.join().ok().context("the reader failed")??;
    let kept = text.matches(TURNED_AWAY).count();
    let lost = number_before(&text, " lines of this log were lost")?;
    println!("{kept} kept, {lost} lost");
    ensure!((10..100).contains(&kept), "{kept} of these lines are not 4 KiB");
    // A few lines are about other things.
    ensure!(
        (STRANGERS..STRANGERS + 5).contains(&(kept + lost)),
        "{kept} lines and {lost} lost ones are not {STRANGERS}:\n{text}"
    );
    Ok(())
}

#[tokio::test]
async fn strangers_cause_few_lines_and_all_are_counted() -> Result<()> {
    let mut relay = Relay::with("[log]\nlines_per_second = 5\n")?;
    let began = std::time::Instant::now();
    strangers(&relay, STRANGERS).await?;
    let seconds = began.elapsed().as_secs() as usize + 2;
    relay.terminate()?;
    let log = relay.log();
    let summaries = log.lines().filter(|line| line.contains("more like this")).collect::<Vec<_>>();
    let counted = summaries.iter().map(|line| number_before(line, " more like this")).sum::<Result<usize>>()?;
    let shown = log.matches(TURNED_AWAY).count() - summaries.len();
    println!("{shown} lines, {} summaries, in {seconds} s", summaries.len());
    ensure!(summaries.iter().all(|line| line.contains(TURNED_AWAY)), "{log}");
    ensure!(shown <= 5 * seconds && summaries.len() <= seconds, "{log}");
    ensure!(shown + counted == STRANGERS, "{shown} and {counted} are not {STRANGERS}:\n{log}");
    Ok(())
}

/// The number that stands before some words.
fn number_before(text: &str, words: &str) -> Result<usize> {
    let Some((before, _)) = text.split_once(words) else { bail!("no {words:?} in:\n{text}") };
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().with_context(|| format!("no number before {words:?} in:\n{text}"))
}
