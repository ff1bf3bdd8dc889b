//! `quip chat` on a terminal. The screens are compared with those in `screens/`; with `QUIP_BLESS=1` they are written there.

use std::{
    fs::{self, File},
    io::{Read, Write},
    num::NonZero,
    path::Path,
    process::{Child, Command},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use quip_tests::relay::{PATIENCE, Relay, binary};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use vt100::Parser;

/// A user whose prompt is wider than a terminal of 40 columns.
const LONG: &str = "the-one-whose-name-has-as-many-bytes-as-the-name-of-a-user-can-x";
const ROWS: NonZero<u16> = NonZero::new(30).unwrap();

/// `quip chat` on a terminal of its own. Dropping it ends it.
struct Chat {
    child: Child,
    keys: File,
    shown: Arc<(Mutex<Shown>, Condvar)>,
}

struct Shown {
    bytes: Vec<u8>,
    parser: Parser,
}

impl Chat {
    fn start(relay: &Relay, user: &str, columns: u16, environment: &[(&str, &str)]) -> Result<Self> {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        tcsetwinsize(&terminal, Winsize { ws_row: ROWS.get(), ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let other_end = ptsname(&terminal, Vec::new())?;
        let other_end = File::options().read(true).write(true).open(other_end.to_str()?)?;
        let mut command = Command::new(binary("quip"));
        command.args(["chat", "lobby:main", "--as", user, "--data"]).arg(relay.data());
        command.env_remove("QUIP_TOKEN").env_remove("NO_COLOR").env("TERM", "xterm");
        // About noon, so that no date is shown because a day has passed.
        let hour = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() / 3600 % 24;
        command.env("TZ", format!("XXX{:+}", hour as i64 - 12));
        command.envs(environment.iter().copied());
        command.stdin(other_end.try_clone()?).stdout(other_end.try_clone()?).stderr(other_end);
        let child = command.spawn()?;
        let parser = Parser::new(ROWS, columns.try_into()?, 0);
        let shown = Arc::new((Mutex::new(Shown { bytes: Vec::new(), parser }), Condvar::new()));
        let keys = File::from(terminal);
        let (mut output, reader) = (keys.try_clone()?, shown.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let mut shown = reader.0.lock().unwrap_or_else(PoisonError::into_inner);
                shown.bytes.extend(&bytes[..count]);
                shown.parser.process(&bytes[..count]);
                reader.1.notify_all();
            }
        });
        Ok(Self { child, keys, shown })
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        Ok(self.keys.write_all(keys.as_bytes())?)
    }

    /// The screen, once it is as asked for.
    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        let shown = self.shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shown.1.wait_timeout_while(shown, PATIENCE, |shown| !is_so(&screen(&shown.parser)));
        let (shown, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let screen = screen(&shown.parser);
        ensure!(!timeout.timed_out(), "waiting for {what}:\n{screen}");
        Ok(screen)
    }

    fn bytes(&self) -> Vec<u8> {
        self.shown.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rows, without times, and `█` where the cursor is, which is at the end of the text.
fn screen(parser: &Parser) -> String {
    let screen = parser.screen();
    let (cursor, column) = screen.cursor_position();
    let mut rows: Vec<_> = screen.rows(0, screen.size().1.get()).map(|row| without_time(&row)).collect();
    let before =
        (0..column).filter_map(|column| screen.cell(cursor, column)).filter(|cell| !cell.is_wide_continuation());
    let before = before.map(|cell| if cell.has_contents() { cell.contents() } else { " " });
    rows[usize::from(cursor)] = before.chain(["█"]).collect();
    format!("{}\n", rows.join("\n").trim_end())
}

/// `[hh:mm]` for `[12:34]` at the beginning.
fn without_time(row: &str) -> String {
    match row.as_bytes() {
        [b'[', _, _, b':', _, _, b']', ..] => format!("[hh:mm]{}", &row[7..]),
        _ => row.to_owned(),
    }
}

fn last_row(screen: &str) -> &str {
    screen.trim_end().lines().last().unwrap_or_default()
}

fn send(relay: &Relay, user: &str, text: &str) -> Result<()> {
    let mut command = Command::new(binary("quip"));
    command.args(["send", "lobby:main", &format!("--as={user}"), "--data"]).arg(relay.data()).args(["--", text]);
    let output = command.output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// Compares with a golden file.
fn is_as_before(name: &str, screen: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens").join(name);
    if std::env::var_os("QUIP_BLESS").is_some() {
        fs::write(&file, screen)?;
    }
    let golden = fs::read_to_string(&file).with_context(|| format!("{}: QUIP_BLESS=1 writes it", file.display()))?;
    ensure!(golden == screen, "{name} was\n{golden}\nand is\n{screen}");
    Ok(())
}

fn a_chat_looks_right(columns: u16) -> Result<()> {
    let relay = Relay::start()?;
    let mut chat = Chat::start(&relay, LONG, columns, &[])?;
    chat.until("the own join", |screen| has(screen, "joined"))?;
    let wave = "안녕하세요, 반갑습니다 👩‍💻 👍🏽 이 줄은 마흔 칸보다 깁니다";
    send(&relay, "김철수", wave)?;
    send(&relay, "-- bob", "/me joined")?;
    send(&relay, "mallory", "\u{202e}evil\u{200b} \u{1b}[2J\n[12:34] -- bob left")?;
    chat.until("what others say", |screen| has(screen, "bob left"))?;

    let line = "오늘 날씨가 좋네요 and this is longer than any of the three terminals 👩‍💻".repeat(3);
    chat.type_in(&line)?;
    for key in "the end".chars() {
        chat.type_in(&key.to_string())?;
        chat.until("a key", |screen| last_row(screen).ends_with(&format!("{key}█")))?;
    }
    let typing = chat.until("the line", |screen| last_row(screen).ends_with("the end█"))?;
    is_as_before(&format!("typing-{columns}.txt"), &typing)?;

    for (keys, what) in [
        ("\u{15}teh 한국 👩‍💻\u{7f}👍🏽\r", "> teh 한국 👍🏽"),
        ("/edit the 한국 👍🏽\r", "edited message"),
        ("/delete\r", "deleted message"),
        ("/who\r", "the members"),
    ] {
        chat.type_in(keys)?;
        chat.until(what, |screen| has(screen, what) && !has(screen, " sending)"))?;
    }
    let over = chat.until("the empty line", |screen| last_row(screen).ends_with("> █"))?;
    is_as_before(&format!("over-{columns}.txt"), &over)?;
    Ok(())
}

/// Whether a text is there, wherever the width of the terminal breaks it.
fn has(screen: &str, text: &str) -> bool {
    let in_one = |text: &str| text.replace([' ', '\n'], "");
    in_one(screen).contains(&in_one(text))
}

#[test]
fn a_chat_looks_right_in_40_columns() -> Result<()> {
    a_chat_looks_right(40)
}

#[test]
fn a_chat_looks_right_in_80_columns() -> Result<()> {
    a_chat_looks_right(80)
}

#[test]
fn a_chat_looks_right_in_200_columns() -> Result<()> {
    a_chat_looks_right(200)
}

/// The bytes that are written until a note is shown.
fn written(environment: &[(&str, &str)]) -> Result<String> {
    let relay = Relay::start()?;
    let chat = Chat::start(&relay, "alice", 80, environment)?;
    chat.until("the own join", |screen| screen.contains("/help") && screen.contains("joined"))?;
    Ok(String::from_utf8(chat.bytes())?)
}

#[test]
fn notes_are_dimmed_unless_the_terminal_or_the_user_has_no_colours() -> Result<()> {
    let dim = "\u{1b}[2m";
    ensure!(written(&[])?.contains(dim));
    let plain = written(&[("NO_COLOR", "1")])?;
    ensure!(!plain.contains(dim) && plain.contains('\u{1b}'), "{plain:?}");
    let dumb = written(&[("TERM", "dumb")])?;
    ensure!(!dumb.contains('\u{1b}'), "{dumb:?}");
    Ok(())
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_a_relay_that_is_gone() -> Result<()> {
    let mut relay = Relay::start()?;
    let mut chat = Chat::start(&relay, "alice", 80, &[])?;
    chat.until("the own join", |screen| screen.contains("joined"))?;
    relay.kill();
    chat.type_in("anyone?\r")?;
    chat.until("the line on its way", |screen| screen.contains("(1 sending)"))?;
    chat.type_in("\u{3}")?;
    chat.until("what it waits for", |screen| screen.contains("-- waiting until 1 line is sent; Ctrl-C quits at once"))?;
    chat.type_in("\u{3}")?;
    let screen = chat.until("the reason", |screen| screen.contains("error:"))?;
    ensure!(screen.contains("error: quit early; 1 line was perhaps not sent"), "{screen}");
    ensure!(!chat.child.wait()?.success());
    Ok(())
}
