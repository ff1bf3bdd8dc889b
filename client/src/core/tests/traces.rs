//! The traces of the outbox in WIRE-STATES.md. The library opens the conversation again where the page renumbers, and so may
//! send later than the page does; it sends the same.

use super::*;

const STATES: &str = include_str!("../../../../protocol/WIRE-STATES.md");

/// A conversation, and what the relay and the app know of it.
struct Trace {
    room: Room,
    fates: Vec<(String, Fate)>,
    sent: Vec<String>,
    /// The last event.
    head: u64,
    /// The last n that is decided.
    decided: u64,
}

#[test]
fn the_outbox_keeps_to_every_trace() {
    let traces: Vec<_> = STATES.split("```trace\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(traces.len() > 5, "the page has changed");
    for trace in traces {
        println!("{trace}\n");
        Trace::run(trace);
    }
}

impl Trace {
    fn run(trace: &str) {
        let mut now = Self { room: Room::open(0), fates: Vec::new(), sent: Vec::new(), head: 0, decided: 0 };
        let mut expected = Vec::new();
        let (name, steps) = trace.split_once('\n').expect("a name");
        for step in steps.lines() {
            let words: Vec<_> = step.split(' ').collect();
            match words[0] {
                ">" => expected.extend(words[1..].iter().map(|word| (*word).to_owned())),
                "<" => now.receive(&words[1..]),
                "compose" => {
                    let texts = words[1..].iter();
                    now.fates.extend(texts.map(|text| ((*text).to_owned(), now.room.send(text))));
                }
                "later" => now.later(),
                "lost" => now.room.core.disconnected(),
                "=" => assert_eq!(now.left(), words[1..], "{name}"),
                fate => assert_eq!(now.fate(words[1]), fate, "{name}: {step}"),
            }
            now.send();
        }
        assert_eq!(now.sent, expected, "{name}");
    }

    /// What was refused for now may be sent again.
    fn later(&mut self) {
        self.room.wait(100);
    }

    fn receive(&mut self, words: &[&str]) {
        let n = words[1].parse().expect("a number");
        match words[0] {
            "Opened" => return self.opened(n, &words[2..]),
            "Rejected" => {
                let (code, info) = (code(words[2]), words.get(3).map_or(0, |info| info.parse().expect("a number")));
                self.room.rejected_with(n, code, 0, info);
                let is_decided = code.decides() && code != Code::MISSING;
                self.decided = self.decided.max(if is_decided { n } else { info });
                if code == Code::MISSING {
                    self.later();
                }
                return;
            }
            "Accepted" => self.room.accepted(n, self.head + 1),
            "Ack" => {
                self.room.ack(n, self.head + 1);
                self.room.event(self.head + 1);
            }
            other => panic!("unknown answer {other}"),
        }
        (self.head, self.decided) = (self.head + 1, n);
    }

    fn opened(&mut self, last_n: u64, words: &[&str]) {
        self.room.connect();
        let (generation, start) = match words {
            ["generation"] => (LOG + 1, 1),
            ["start"] => (LOG, self.head),
            _ => (LOG, self.head + 1),
        };
        let outcomes: Vec<_> = match words {
            ["outcomes", outcomes @ ..] => {
                let outcome = |pair: &[&str]| {
                    let n = pair[0].parse().expect("a number");
                    match pair[1] {
                        "OTHER" => Outcome { check: [1; 4], ..outcome(n, Code::DONE, self.head) },
                        word => outcome(n, code(word), self.head),
                    }
                };
                outcomes.chunks(2).map(outcome).collect()
            }
            _ => Vec::new(),
        };
        (self.head, self.decided) = (start - 1, last_n);
        self.room.opened_in(generation, 1, start - 1, start, last_n, &outcomes).expect("a good opening");
    }

    /// Sends what may be sent, and opens the conversation again if that is needed first.
    fn send(&mut self) {
        while self.room.poll() == Next::Finish {
            self.room.core.finished().expect("finished by us");
            self.room.reconnect();
            self.room.opened(self.head, self.head + 1, self.decided, &[]);
        }
        self.sent.extend(self.room.out().iter().map(|word| word.replace(' ', "")));
    }

    fn left(&self) -> Vec<String> {
        let text = |frame: &[u8]| String::from_utf8_lossy(&frame[frame.len() - 1..]).into_owned();
        self.room.kept().outbox.iter().map(|(n, frame)| format!("{n}{}", text(frame))).collect()
    }

    fn fate(&mut self, of: &str) -> &'static str {
        let (_, fate) = self.fates.iter_mut().find(|(text, _)| text == of).expect("composed");
        match told(fate) {
            Some(Ok(_)) => "done",
            Some(Err(ReceiptError::Refused(_))) => "refused",
            Some(Err(ReceiptError::Unknown)) => "unknown",
            Some(Err(ReceiptError::Closed)) | None => "waiting",
        }
    }
}

fn code(name: &str) -> Code {
    Code::TABLE.iter().find(|(_, known, _)| *known == name).expect("a code").0
}
