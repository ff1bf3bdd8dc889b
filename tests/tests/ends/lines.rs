//! `quip send TARGET -`: every line is accounted for, whatever happens to one of them.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quip_relay::auth::TokenRequest;
use quip_tests::relay::HOUR;

use super::{
    quip::{How, Quip, into_full, line},
    scene::{Command, Scene},
};

fn send(scene: &Scene) -> Vec<String> {
    line(&scene.relay, &Command::Send.user(), &["send", &scene.group, "-"])
}

#[tokio::test]
async fn a_bad_line_costs_neither_those_before_it_nor_a_word() -> Result<()> {
    let long = "x".repeat(20_000);
    let encoding = b"one\ntwo\ncaf\xe9\nfour\n".to_vec();
    let size = format!("one\n\ntwo\n{long}\nfive\nsix\n").into_bytes();
    for (input, expected) in [
        (encoding, "2 lines stored\n    line 3: not sent: byte 4 of it is not UTF-8\n    line 4: not sent\n"),
        (
            size,
            "2 lines stored\n    line 4: not sent: 20000 bytes exceed the limit of 16384\n    lines 5 to 6: not sent\n",
        ),
    ] {
        let scene = Scene::new("").await?;
        let (status, printed, said) = Quip::run(&send(&scene), &input).await?;
        ensure!(status == 1 && said == format!("error: {expected}"), "{status}: {said}");
        ensure!(printed.lines().count() == 2, "{printed}");
        ensure!(scene.texts().await? == ["one", "two"]);
    }
    Ok(())
}

#[tokio::test]
async fn lines_that_are_refused_are_named() -> Result<()> {
    let scene = Scene::new("").await?;
    let all = [String::from("*")];
    // It may join rooms, and not post in them.
    let token =
        scene.relay.token_for(&TokenRequest { join: &all, create: &all, ..TokenRequest::new("reader", HOUR) })?;
    let mut args = line(&scene.relay, "reader", &["send", "lobby:main", "-"]);
    args.truncate(args.len() - 2);
    args.extend(["--token".to_owned(), token]);
    let (status, printed, said) = Quip::run(&args, b"one\ntwo\nthree\n").await?;
    ensure!(status == 1 && printed.is_empty(), "{status}: {printed}");
    // How many were on their way when the first refusal came is a matter of time.
    ensure!(said.contains("0 lines stored\n    line") && said.contains("not stored: refused: not allowed"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_loses_no_line() -> Result<()> {
    let scene = Scene::new("").await?;
    let mut quip = Quip::start(&send(&scene), How::Unread)?;
    quip.input(b"1\n2\n")?;
    quip.until("two seqs", || quip.output().len() >= 4).await?;
    quip.close_output()?;
    let input: String = (3..=200).map(|number| format!("{number}\n")).collect();
    // The command may have ended before it was given all of them.
    quip.input(input.as_bytes()).ok();
    quip.end_input();
    let status = quip.end().await?;
    let said = quip.errors();
    ensure!(status == 141, "{status}: {said}");
    let stored = scene.texts().await?;
    let count = stored.len();
    println!("{said}");
    ensure!((3..200).contains(&count) && stored.iter().zip(1..).all(|(text, number)| *text == number.to_string()));
    let expected =
        format!("error: standard output is closed; {count} lines stored\n    lines {} to 200: not sent\n", count + 1);
    ensure!(said == expected, "{said}");
    Ok(())
}

#[tokio::test]
async fn an_output_that_is_full_is_no_success() -> Result<()> {
    let scene = Scene::new("").await?;
    let mut quip = Quip::start_program("sh".as_ref(), &into_full(&send(&scene)), How::Read)?;
    quip.input(b"one\n")?;
    quip.end_input();
    ensure!(quip.end().await? == 1);
    let said = quip.errors();
    ensure!(said.contains("cannot write to standard output") && said.contains("1 line stored"), "{said}");
    ensure!(scene.texts().await? == ["one"]);
    Ok(())
}

#[tokio::test]
async fn a_message_that_looks_like_an_option_is_no_wish_for_help() -> Result<()> {
    let scene = Scene::new("").await?;
    let user = Command::Send.user();
    let (status, printed, said) = Quip::run(&line(&scene.relay, &user, &["send", &scene.group, "-hello"]), b"").await?;
    ensure!(status == 2 && printed.is_empty() && said.contains("-- -h"), "{status}: {printed}{said}");
    let mut args = line(&scene.relay, &user, &["send", &scene.group]);
    args.extend(["--".to_owned(), "-hello".to_owned()]);
    let (status, printed, said) = Quip::run(&args, b"").await?;
    ensure!(status == 0 && said.is_empty(), "{said}");
    let _seq: u64 = printed.trim().parse().context("a seq")?;
    ensure!(scene.texts().await? == ["-hello"]);
    Ok(())
}

#[tokio::test]
async fn what_has_no_answer_is_perhaps_stored_and_the_state_file_makes_sure_of_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state");
    let state = ["--state", path.to_str().context("a path")?];
    let scene = Scene::new("").await?;
    let mut quip = scene.start(Command::Send, false, &state).await?;
    scene.relay.signal("STOP")?;
    quip.input(b"second\n")?;
    let queued = || fs::read(&path).is_ok_and(|bytes| bytes.windows(6).any(|window| window == b"second"));
    quip.until("a line in the state file", queued).await?;
    let since = Instant::now();
    quip.signal("INT")?;
    let status = quip.end().await?;
    ensure!(status == 130 && since.elapsed() < Duration::from_secs(4), "{status}, {:?}", since.elapsed());
    let said = quip.errors();
    ensure!(said.contains("ended by SIGINT; 1 line stored\n    line 2: perhaps stored: no answer came"), "{said}");
    ensure!(said.contains("the next command with this --state file"), "{said}");
    scene.relay.signal("CONT")?;
    let again = line(&scene.relay, &Command::Send.user(), &[&["send", &scene.group, "third"], &state[..]].concat());
    let (status, _, said) = Quip::run(&again, b"").await?;
    ensure!(status == 0, "{said}");
    ensure!(scene.texts().await? == ["first", "second", "third"]);
    Ok(())
}
