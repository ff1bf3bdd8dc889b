//! How each command of `quip` ends, whatever ends it: exit status, last words, the terminal, and what others see.

mod lines;
mod place;
mod quip;
mod scene;

use std::{
    fs,
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    conversation::{Add, Remove},
    session::presence,
};
use quip_relay::auth::TokenRequest;
use quip_tests::relay::binary;

use quip::{How, Quip, line};
use scene::{ALL, Command, Scene};

/// Waits for the end of a command and checks it. `send` says how many lines it stored.
async fn ends(command: Command, quip: &mut Quip, status: i32, words: &[&str]) -> Result<()> {
    let found = quip.end().await.with_context(|| format!("{command:?}"))?;
    let said = quip.errors();
    println!("{command:?} ends with {found}: {}", said.trim_end().replace('\n', " | "));
    ensure!(found == status, "{command:?} ends with {found}: {said}");
    ensure!(words.iter().all(|words| said.matches(words).count() == 1), "{command:?} says {said}");
    ensure!(command != Command::Send || said.contains("stored"), "{said}");
    ensure!(!said.contains("panicked"), "{said}");
    ensure!(quip.is_restored()?, "{command:?} leaves the terminal as it was");
    Ok(())
}

#[tokio::test]
async fn a_signal_is_a_goodbye() -> Result<()> {
    let scene = Scene::new("").await?;
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        for command in ALL {
            let mut quip = scene.start(command, false, &[]).await?;
            ensure!(scene.state_of(&command.user()).await? == presence::ONLINE);
            let since = Instant::now();
            quip.signal(signal)?;
            ends(command, &mut quip, status, &[]).await?;
            ensure!(command == Command::Send || !quip.errors().contains("error"), "{}", quip.errors());
            ensure!(since.elapsed() < Duration::from_secs(3), "{signal} {command:?}: {:?}", since.elapsed());
            scene.is_offline_at_once(&command.user()).await.with_context(|| format!("{signal} {command:?}"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_signal_that_the_starter_ignores_stays_ignored() -> Result<()> {
    let scene = Scene::new("").await?;
    let args = line(&scene.relay, "Tail", &Command::Tail.args(&scene.group));
    // As `nohup` does.
    let script = "trap '' HUP; exec \"$@\"";
    let program = binary("quip").display().to_string();
    let args = [&["-c".into(), script.into(), "sh".into(), program], &args[..]].concat();
    let mut quip = Quip::start_program("sh".as_ref(), &args, How::Read)?;
    quip.until("any output", || !quip.output().is_empty()).await?;
    quip.signal("HUP")?;
    quip.signal("TERM")?;
    ends(Command::Tail, &mut quip, 143, &[]).await
}

#[tokio::test]
async fn whoever_reads_the_output_may_go_away() -> Result<()> {
    let scene = Scene::new("").await?;
    for command in [Command::Tail, Command::Chat, Command::Send] {
        let mut quip = scene.start(command, true, &[]).await?;
        quip.close_output()?;
        if command == Command::Send {
            quip.input(b"second\n")?;
            quip.said("2 lines stored").await?;
        }
        // Nothing else happens in the conversation that would make it write.
        ends(command, &mut quip, 141, &[]).await?;
        scene.is_offline_at_once(&command.user()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_token_expires() -> Result<()> {
    let scene = Scene::new("[auth]\nleeway = \"0s\"\n").await?;
    let all = [String::from("*")];
    let mut running = Vec::new();
    for command in ALL {
        let user = command.user();
        let request = TokenRequest { join: &all, post: &all, ..TokenRequest::new(&user, Duration::from_secs(4)) };
        let token = scene.relay.token_for(&request)?;
        running.push((command, scene.start(command, false, &["--token", &token]).await?));
    }
    for (command, quip) in &mut running {
        ends(*command, quip, 1, &["token expired", "Get a new token"]).await?;
        scene.is_offline_at_once(&command.user()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn another_process_takes_over_the_device() -> Result<()> {
    let scene = Scene::new("").await?;
    let folder = tempfile::tempdir()?;
    for command in ALL {
        let [one, other] =
            ["one", "other"].map(|name| folder.path().join(format!("{name}-{command:?}")).display().to_string());
        let mut quip = scene.start(command, false, &["--state", &one]).await?;
        fs::copy(&one, &other)?;
        let args =
            line(&scene.relay, &command.user(), &["tail", &scene.group, "--from", "beginning", "--state", &other]);
        let _second = Quip::start(&args, How::Read)?;
        ends(command, &mut quip, 1, &["another process took over", "a file of its own"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_member_is_removed() -> Result<()> {
    let mut scene = Scene::new("").await?;
    for ban in [false, true] {
        for command in ALL {
            let user = command.user();
            let mut quip = scene.start(command, false, &[]).await?;
            scene.stream.done(&Remove { n: scene.n, user: &user, ban }).await?;
            ends(command, &mut quip, 1, &["you are no longer a member"]).await?;
            scene.stream.done(&Add { n: scene.n + 1, user: &user }).await?;
            scene.n += 2;
            scene.is_offline_at_once(&user).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_relay_does_not_come_back() -> Result<()> {
    // So that a client notices soon.
    let quick = "[presence]\nkeepalive = \"500ms\"\nidle_timeout = \"2s\"\nsweep = \"50ms\"\n[limits]\ngo_away_within = \"100ms\"\n";
    for kill in [true, false] {
        let mut scene = Scene::new(quick).await?;
        let mut running = Vec::new();
        for command in ALL {
            running.push((command, scene.start(command, false, &["--wait", "1"]).await?));
        }
        if kill {
            scene.relay.kill();
        } else {
            scene.relay.terminate()?;
        }
        for (command, quip) in &mut running {
            ends(*command, quip, 3, &["no answer from the relay for 1 s", "Is a relay running"]).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_relay_that_is_away_is_said_once_and_so_is_its_return() -> Result<()> {
    let quick = "[presence]\nkeepalive = \"500ms\"\nidle_timeout = \"2s\"\nsweep = \"50ms\"\n";
    let mut scene = Scene::new(quick).await?;
    let tail = scene.start(Command::Tail, false, &[]).await?;
    let mut send = scene.start(Command::Send, false, &[]).await?;
    scene.relay.kill();
    for quip in [&tail, &send] {
        quip.said("no connection to the relay").await?;
    }
    send.input(b"while it is away\n")?;
    // Several attempts fail meanwhile.
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.relay.run()?;
    tail.printed("while it is away").await?;
    for quip in [&tail, &send] {
        quip.said("connected to the relay again").await?;
        ensure!(quip.errors().matches("the relay").count() == 2, "{}", quip.errors());
    }
    send.end_input();
    ensure!(send.end().await? == 0, "{}", send.errors());
    Ok(())
}

#[tokio::test]
async fn commands_that_do_one_thing_end_with_a_reason_too() -> Result<()> {
    let scene = Scene::new("[auth]\nleeway = \"0s\"\n").await?;
    let group = scene.group.as_str();
    let commands: [&[&str]; 4] = [&["list"], &["history", group], &["group", "members", group], &["send", group, "hi"]];
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let nowhere = silent.local_addr()?.to_string();
    let request = TokenRequest::new("Tail", Duration::from_secs(1));
    let expired = scene.relay.token_for(&request)?;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for command in commands {
        let there = line(&scene.relay, "Tail", command);
        let elsewhere = |wait: &str| {
            let mut args = there.clone();
            args[command.len() + 1] = nowhere.clone();
            args.extend(["--wait".to_owned(), wait.to_owned()]);
            args
        };
        let (status, _, said) = Quip::run(&elsewhere("1"), b"").await?;
        ensure!(status == 3 && said.contains("Is a relay running"), "{command:?}: {status} {said}");

        for (signal, expected) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            // What the process before sent must not stand for this one.
            silent.set_nonblocking(true)?;
            while silent.recv_from(&mut [0; 2048]).is_ok() {}
            silent.set_nonblocking(false)?;
            let mut quip = Quip::start(&elsewhere("60"), How::Read)?;
            silent.recv_from(&mut [0; 2048])?;
            quip.signal(signal)?;
            let status = quip.end().await?;
            ensure!(status == expected && quip.errors().is_empty(), "{command:?}: {status} {}", quip.errors());
        }

        let mut quip = Quip::start(&there, How::Unread)?;
        quip.close_output()?;
        let status = quip.end().await?;
        ensure!(status == 141 && !quip.errors().contains("panicked"), "{command:?}: {status} {}", quip.errors());

        let mut late = there[..there.len() - 2].to_vec();
        late.extend(["--token".to_owned(), expired.clone()]);
        let (status, _, said) = Quip::run(&late, b"").await?;
        ensure!(status == 1 && said.matches("token expired").count() == 1, "{command:?}: {status} {said}");

        let (status, _, said) = Quip::run(&line(&scene.relay, "stranger", command), b"").await?;
        let is_list = command == ["list"];
        ensure!(
            status == i32::from(!is_list) && (is_list || said.contains("not found")),
            "{command:?}: {status} {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_command_that_is_stuck_in_its_output_ends_by_a_signal() -> Result<()> {
    let mut scene = Scene::new("").await?;
    for _ in 0..8 {
        scene.post(&"x".repeat(15_000)).await?;
    }
    for second in [false, true] {
        let mut quip = Quip::start(&line(&scene.relay, "Tail", &["history", &scene.group, "--all"]), How::Unread)?;
        quip.until("a full pipe", || quip.output().len() > 60_000).await?;
        let since = Instant::now();
        quip.signal("TERM")?;
        if second {
            quip.signal("INT")?;
            // Both may arrive together.
            ensure!([130, 143].contains(&quip.end().await?));
            ensure!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        } else {
            ensure!(quip.end().await? == 143);
        }
    }
    Ok(())
}
