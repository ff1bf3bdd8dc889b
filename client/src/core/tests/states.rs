//! Walks the table of `STATES.md`.

use super::*;

/// A conversation in this state, with one message.
fn room(state: &str) -> (Room, Fate) {
    let mut room = match state {
        "opening" => Room::begin(OpenOptions::member().start(Start::Now), SavedConversation::default(), false),
        _ => Room::open(4),
    };
    let fate = room.send("a");
    match state {
        "opening" => drop(room.connect()),
        "open" => assert_eq!(room.out(), ["1 a"]),
        "away" => {
            room.out();
            room.core.disconnected();
        }
        "over" => room.core.close(OpenError::AlreadyOpen),
        other => panic!("unknown state {other}"),
    }
    (room, fate)
}

/// What happens.
fn happen(room: &mut Room, state: &str, what: &str) {
    if state == "away" && what != "the client is closed" {
        room.connect();
    }
    match (state, what) {
        ("opening", "the relay opens it") => room.opened(4, 5, 0, &[]),
        ("opening", "the relay refuses") => room.end(Code::BANNED, 0),
        (_, "the relay is busy") => room.end(Code::BUSY, 0),
        (_, "the connection is lost") => room.core.disconnected(),
        (_, "the client is closed") => room.core.close(OpenError::AlreadyOpen),
        ("over", "an event") => drop(room.try_event(5)),
        (_, "an event") => room.event(5),
        (_, "the message is accepted in its place") => room.accepted(1, 5),
        (_, "the message is accepted, and its event comes later") => room.ack(1, 6),
        (_, "the message is refused") => room.rejected(1, Code::FORBIDDEN),
        (_, "the message is put off") => room.rejected_with(1, Code::RATE, 1000, 0),
        (_, "its outcome is not known") => room.rejected(1, Code::LOST),
        (_, "events cannot be had") => room.frame(ToClient::Skip(Skip { to: 6, why: skip::TRIMMED })),
        (_, "another stream replaces it") => room.end(Code::REOPENED, 0),
        ("open", "the membership ends") => room.end(Code::ENDED, 0),
        (_, "the app drops its events") => room.core.reader_gone(),
        ("away", "the relay opens it again") => room.opened(4, 5, 0, &[]),
        ("away", "the message was accepted meanwhile") => room.opened(5, 5, 1, &[outcome(1, Code::DONE, 5)]),
        ("away", "the message was decided too long ago") => room.opened(4, 5, 1, &[]),
        ("away", "the log was restored from a backup") => {
            room.opened_in(LOG + 1, 1, 2, 1, 0, &[]).expect("a good opening");
        }
        ("away", "the relay has less than this device") => room.end(Code::BEHIND, 2),
        ("away", "the relay refuses") => room.end(Code::NOT_FOUND, 0),
        ("away", "the membership ended") => room.end(Code::ENDED, 0),
        _ => panic!("{what}, {state}: the table has something that this test does not know"),
    }
}

fn fate(fate: &mut Fate) -> String {
    match told(fate) {
        None => "waits".to_owned(),
        Some(Ok(_)) => "accepted".to_owned(),
        Some(Err(ReceiptError::Refused(code))) => format!("refused {code:?}"),
        Some(Err(ReceiptError::Unknown)) => "unknown".to_owned(),
        Some(Err(ReceiptError::Closed)) => "closed".to_owned(),
    }
}

fn state(room: &mut Room) -> &'static str {
    match room.poll() {
        Next::Over => "over",
        Next::Go if room.core.has_opened() => "open",
        _ if room.core.opened().is_some() => "away",
        _ => "opening",
    }
}

#[test]
fn each_row_of_the_table_is_so() {
    let table = include_str!("../../../STATES.md");
    let rows = table.lines().filter(|line| line.starts_with("| o") || line.starts_with("| a"));
    let mut walked = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [before, what, events, message, after] = cells[..] else { panic!("{row}") };
        let (mut room, mut sent) = room(before);
        happen(&mut room, before, what);
        let found = match &room.events()[..] {
            [] => "nothing".to_owned(),
            events => events.join(", "),
        };
        assert_eq!((&*found, &*fate(&mut sent), state(&mut room)), (events, message, after), "{row}");
        walked += 1;
    }
    assert_eq!(walked, 28, "rows of the table");
}
