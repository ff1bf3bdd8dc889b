//! `quip tail --from last` goes on where the last tail ended.

use anyhow::{Context, Result, ensure};

use super::{
    quip::{How, Quip, into_full, line},
    scene::{Command, Scene},
};

fn tail(scene: &Scene, state: &str, from: &str, more: &[&str]) -> Vec<String> {
    let args = ["tail", &scene.group, "--from", from, "--state", state, "--json"];
    line(&scene.relay, &Command::Tail.user(), &[&args[..], more].concat())
}

/// The seqs of the events in the lines that are whole.
fn seqs(printed: &str) -> Result<Vec<u64>> {
    let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let objects: Result<Vec<serde_json::Value>, _> = whole.lines().map(serde_json::from_str).collect();
    Ok(objects?.iter().filter_map(|object| object["seq"].as_u64()).collect())
}

#[tokio::test]
async fn a_tail_goes_on_where_the_last_one_ended_whatever_was_done_between() -> Result<()> {
    let mut scene = Scene::new("").await?;
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state").display().to_string();
    let user = Command::Tail.user();
    let head = scene.post("one").await?;
    let (status, printed, said) = Quip::run(&tail(&scene, &state, "beginning", &["--count", "2"]), b"").await?;
    let first = seqs(&printed)?;
    ensure!(status == 0 && first.len() == 2, "{printed}{said}");
    // Each of these opens the conversation at its newest event.
    let option = ["--state", state.as_str()];
    let (status, _, said) =
        Quip::run(&line(&scene.relay, &user, &[&["send", &scene.group, "two"], &option[..]].concat()), b"").await?;
    ensure!(status == 0, "{said}");
    let group = scene.group.clone();
    for command in [&["chat", &group][..], &["group", "title", &group, "no right to"]] {
        Quip::run(&line(&scene.relay, &user, &[command, &option].concat()), b"").await?;
        scene.post("three").await?;
    }
    let rest: Vec<_> = (first[1] + 1..=head + 3).collect();
    let count = rest.len().to_string();
    let (status, printed, said) = Quip::run(&tail(&scene, &state, "last", &["--count", &count]), b"").await?;
    ensure!(status == 0 && seqs(&printed)? == rest, "{printed}{said}");
    Ok(())
}

#[tokio::test]
async fn a_tail_that_is_killed_repeats_and_loses_nothing() -> Result<()> {
    let mut scene = Scene::new("").await?;
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state").display().to_string();
    let mut head = 0;
    for _ in 0..12 {
        head = scene.post(&"x".repeat(15_000)).await?;
    }
    // It has all events, and is stuck at one that does not fit into the pipe.
    let mut quip = Quip::start(&tail(&scene, &state, "beginning", &[]), How::Unread)?;
    quip.until("a full pipe", || quip.output().len() > 60_000).await?;
    quip.signal("KILL")?;
    quip.wait().await?;
    let mut last = *seqs(&quip.close_output()?)?.last().context("some lines")?;
    ensure!(last < head, "all of it fits into the pipe");
    for signal in ["KILL", "TERM", "KILL"] {
        let mut quip = Quip::start(&tail(&scene, &state, "last", &[]), How::Read)?;
        let newest = format!("\"seq\":{head},");
        quip.printed(&newest).await?;
        quip.signal(signal)?;
        quip.wait().await?;
        let seqs = seqs(&quip.output())?;
        println!("{signal}: after {last} came {seqs:?}");
        ensure!(seqs[0] <= last + 1 && seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
        last = *seqs.last().context("some")?;
        head = scene.post("more").await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_could_not_be_written_comes_again() -> Result<()> {
    let mut scene = Scene::new("").await?;
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state").display().to_string();
    scene.post("one").await?;
    let (_, printed, _) = Quip::run(&tail(&scene, &state, "beginning", &["--count", "1"]), b"").await?;
    let first = *seqs(&printed)?.first().context("an event")?;
    let full = into_full(&tail(&scene, &state, "last", &[]));
    let mut quip = Quip::start_program("sh".as_ref(), &full, How::Read)?;
    ensure!(quip.end().await? == 1, "{}", quip.errors());
    let (_, printed, _) = Quip::run(&tail(&scene, &state, "last", &["--count", "1"]), b"").await?;
    ensure!(seqs(&printed)? == [first + 1], "{printed}");
    Ok(())
}
