//! `quip` with pipes instead of a terminal.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use quip_tests::relay::{Relay, binary};
use serde_json::Value;

/// Runs `quip` as a user with this input.
fn quip(relay: &Relay, user: &str, args: &[&str], input: &str) -> Result<Output> {
    let mut command = Command::new(binary("quip"));
    command.args(args).args(["--as", user, "--data"]).arg(relay.data()).env_remove("QUIP_TOKEN");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn()?;
    child.stdin.take().context("it has a pipe")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

/// What it prints, if it succeeds.
fn prints(relay: &Relay, user: &str, args: &[&str], input: &str) -> Result<(String, String)> {
    let output = quip(relay, user, args, input)?;
    ensure!(output.status.success(), "{output:?}");
    Ok((String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

/// The texts of a room, in order.
fn texts(relay: &Relay, user: &str, room: &str) -> Result<Vec<String>> {
    let (lines, _) = prints(relay, user, &["history", room, "--all", "--json"], "")?;
    let objects = lines.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(objects.iter().filter_map(|object| object["text"].as_str().map(str::to_owned)).collect())
}

#[test]
fn the_message_typed_last_is_deleted_and_no_older_one() -> Result<()> {
    let relay = Relay::start()?;
    prints(&relay, "alice", &["send", "lobby:main", "older"], "")?;
    let (_, notes) = prints(&relay, "alice", &["chat", "lobby:main"], "new typo\n/delete\n")?;
    ensure!(notes.contains("-- deleting \"new typo\"\n"), "{notes}");
    ensure!(texts(&relay, "alice", "lobby:main")? == ["older"], "{:?}", texts(&relay, "alice", "lobby:main")?);
    Ok(())
}

#[test]
fn the_message_typed_last_is_edited_and_no_older_one() -> Result<()> {
    let relay = Relay::start()?;
    prints(&relay, "alice", &["send", "lobby:main", "older"], "")?;
    let input = "one\ntwo\n/edit three\n/edit four\n";
    let (lines, notes) = prints(&relay, "alice", &["chat", "lobby:main"], input)?;
    ensure!(notes.contains("-- editing \"two\" to \"three\"\n"), "{notes}");
    let edited: Vec<_> = lines.lines().filter_map(|line| line.split_once("-- alice edited message ")).collect();
    ensure!(
        edited.len() == 2 && edited[0].1.ends_with(": \"three\"") && edited[1].1.ends_with(": \"four\""),
        "{lines}"
    );
    let seq = |(_, rest): (&str, &str)| rest.split(':').next().map(str::to_owned);
    ensure!(seq(edited[0]) == seq(edited[1]), "both edit the same message: {lines}");
    Ok(())
}

#[test]
fn a_message_that_was_not_sent_exposes_no_older_one() -> Result<()> {
    let relay = Relay::start()?;
    prints(&relay, "alice", &["send", "lobby:main", "older"], "")?;
    let input = format!("{}\n/delete\n/edit new\n", "x".repeat(20_000));
    let output = quip(&relay, "alice", &["chat", "lobby:main"], &input)?;
    let notes = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && notes.contains("error: 3 lines were not done"), "{notes}");
    ensure!(notes.contains("-- not done: sending \"xxx"), "{notes}");
    ensure!(notes.contains("-- nothing deleted: your last message was not sent"), "{notes}");
    ensure!(notes.contains("-- nothing edited: your last message was not sent"), "{notes}");
    ensure!(texts(&relay, "alice", "lobby:main")? == ["older"]);
    Ok(())
}

#[test]
fn a_message_is_deleted_once() -> Result<()> {
    let relay = Relay::start()?;
    let output = quip(&relay, "alice", &["chat", "lobby:main"], "one\ntwo\n/delete\n/delete\n")?;
    let notes = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{notes}");
    ensure!(notes.contains("-- nothing deleted: your last message is deleted already"), "{notes}");
    ensure!(texts(&relay, "alice", "lobby:main")? == ["one"]);
    Ok(())
}

#[test]
fn a_reaction_is_to_what_was_shown() -> Result<()> {
    let relay = Relay::start()?;
    prints(&relay, "bob", &["send", "lobby:main", "hello"], "")?;
    let (lines, notes) = prints(&relay, "alice", &["chat", "lobby:main"], "hi\n/react +1\n")?;
    ensure!(notes.contains("-- reacting to <bob> \"hello\" with \"+1\"\n"), "{notes}");
    ensure!(lines.contains("-- alice reacted to message 2 with \"+1\"\n"), "{lines}");
    Ok(())
}

#[test]
fn a_user_whom_nobody_has_seen_is_remarked_on() -> Result<()> {
    let relay = Relay::start()?;
    for (args, input) in [(&["chat", "@bob"][..], ""), (&["send", "@bob", "hello"], "")] {
        let (_, notes) = prints(&relay, "alice", args, input)?;
        ensure!(notes.contains("@bob: nobody of that name has been here yet"), "{args:?}: {notes}");
    }
    prints(&relay, "bob", &["list"], "")?;
    let (_, notes) = prints(&relay, "alice", &["send", "@bob", "hello"], "")?;
    ensure!(notes.is_empty(), "{notes}");
    Ok(())
}

#[test]
fn a_list_begins_with_what_is_new_and_no_title_looks_like_a_user() -> Result<()> {
    let relay = Relay::start()?;
    let (first, _) = prints(&relay, "alice", &["group", "create", "@bob"], "")?;
    let (second, _) = prints(&relay, "alice", &["group", "create", "lobby:main"], "")?;
    prints(&relay, "аlice", &["send", "@alice", "news"], "")?;
    prints(&relay, "alice", &["send", first.trim().trim_start_matches('#'), "newer"], "")?;
    let (list, _) = prints(&relay, "alice", &["list"], "")?;
    let lines: Vec<_> = list.lines().collect();
    ensure!(lines.len() == 3, "{list}");
    ensure!(lines[0].starts_with("\"@bob\" ") && lines[0].ends_with(first.trim()), "{list}");
    ensure!(lines[1].starts_with("@аlice ") && lines[1].ends_with("(look-alike letters: U+0430)"), "{list}");
    ensure!(lines[2].starts_with("\"lobby:main\" ") && lines[2].ends_with(second.trim()), "{list}");
    Ok(())
}

#[test]
fn an_error_says_its_cause_once() -> Result<()> {
    let relay = Relay::start()?;
    let output = quip(&relay, "alice", &["history", "lobby:main"], "")?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success() && error.matches("not found").count() == 1, "{error}");
    ensure!(error.matches("`quip chat` joins a room").count() == 1, "{error}");
    Ok(())
}
