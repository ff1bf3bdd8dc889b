//! Raw logs of #ubuntu, line by line.
//!
//! ```text
//! [HH:MM] <nick> text                      a message
//! [HH:MM]  * nick text                     an action
//! === nick [host] has joined #ubuntu       a join
//! === nick [host] has left #ubuntu []      a leave, as is "has quit"
//! === a is now known as b                  a rename
//! ```
//! Other lines have no sender and are skipped. Only messages and actions have a time; other lines belong to the minute of the
//! line before. The lines of a minute are spread evenly over it.

use std::time::Duration;

/// Something that happened in the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Time since the minute of the file's first line.
    pub(crate) at: Duration,
    /// What happened.
    pub(crate) act: Act,
}

/// A kind of entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// A nick sent a message. An action begins with `/me `.
    Say(String, String),
    /// A nick joined.
    Join(String),
    /// A nick left.
    Leave(String),
    /// A nick changed to another.
    Rename(String, String),
}

/// Parses a whole log; invalid UTF-8 is replaced.
pub(crate) fn parse(log: &[u8]) -> Vec<Entry> {
    let text = String::from_utf8_lossy(log);
    let mut clock = Clock::default();
    let mut minutes: Vec<u64> = Vec::new();
    let mut acts: Vec<Act> = Vec::new();
    for line in text.lines() {
        let (time, act) = read(line);
        if let Some(time) = time {
            clock.advance(time);
        }
        if let Some(act) = act {
            minutes.push(clock.minute);
            acts.push(act);
        }
    }
    let times = spread(&minutes);
    times.into_iter().zip(acts).map(|(at, act)| Entry { at, act }).collect()
}

/// Turns times of day into increasing minutes.
#[derive(Default)]
struct Clock {
    minute: u64,
    last: Option<u64>,
}

impl Clock {
    fn advance(&mut self, time: u64) {
        self.minute += self.last.map_or(0, |last| passed(last, time));
        self.last = Some(time);
    }
}

/// Minutes from one time of day to the next. An earlier time belongs to the next day, except in logs with a 12-hour clock,
/// where the step from 11 or 12 to 0 or 1 o'clock is noon.
fn passed(last: u64, time: u64) -> u64 {
    if time >= last {
        return time - last;
    }
    let noon = (11..=12).contains(&(last / 60)) && time / 60 <= 1 && time + DAY / 2 >= last;
    if noon { time + DAY / 2 - last } else { time + DAY - last }
}

/// The time of each line of the file, from the minute of each.
fn spread(minutes: &[u64]) -> Vec<Duration> {
    let mut times = Vec::with_capacity(minutes.len());
    for same in minutes.chunk_by(|a, b| a == b) {
        let step = MINUTE / same.len() as u32;
        times.extend(same.iter().zip(0..).map(|(minute, place)| MINUTE * *minute as u32 + step * place));
    }
    times
}

fn read(line: &str) -> (Option<u64>, Option<Act>) {
    if let Some(notice) = line.strip_prefix("=== ") {
        return (None, notice_of(notice));
    }
    match time_of(line) {
        Some((time, rest)) => (Some(time), said(rest)),
        None => (None, None),
    }
}

/// Minutes since midnight, and what follows `[HH:MM] `.
fn time_of(line: &str) -> Option<(u64, &str)> {
    let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
    let (hours, minutes) = time.split_once(':')?;
    let two = |text: &str| if text.len() == 2 { text.parse::<u64>().ok() } else { None };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then(|| (hours * 60 + minutes, rest.strip_prefix(' ').unwrap_or(rest)))
}

fn said(rest: &str) -> Option<Act> {
    if let Some(action) = rest.strip_prefix(" * ").or_else(|| rest.strip_prefix("* ")) {
        let (nick, text) = action.split_once(' ').unwrap_or((action, ""));
        return Some(Act::Say(nick.to_owned(), format!("/me {text}"))).filter(|_| !nick.is_empty());
    }
    let (nick, text) = rest.strip_prefix('<')?.split_once('>')?;
    let text = text.strip_prefix(' ').unwrap_or(text);
    // IRC has no empty messages: an empty text was white space that the logger trimmed.
    let text = if text.is_empty() { " " } else { text };
    (!nick.is_empty()).then(|| Act::Say(nick.to_owned(), text.to_owned()))
}

fn notice_of(notice: &str) -> Option<Act> {
    let (nick, rest) = notice.split_once(' ')?;
    if let Some(new) = rest.strip_prefix("is now known as ") {
        let new = new.trim();
        return (!new.is_empty() && !new.contains(' ')).then(|| Act::Rename(nick.to_owned(), new.to_owned()));
    }
    let after_host = |word: &str| {
        let (_, notice) = rest.strip_prefix('[')?.split_once("] ")?;
        notice.trim_start().strip_prefix(word)
    };
    if after_host("has joined #").is_some() {
        Some(Act::Join(nick.to_owned()))
    } else if after_host("has left").or_else(|| after_host("has quit")).is_some() || quit_without_host(rest) {
        Some(Act::Leave(nick.to_owned()))
    } else {
        None
    }
}

fn quit_without_host(rest: &str) -> bool {
    rest.strip_prefix("has quit").is_some_and(|reason| reason.is_empty() || reason.starts_with([' ', '[', '(']))
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: u64 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn say(nick: &str, text: &str) -> Act {
        Act::Say(nick.into(), text.into())
    }

    fn acts(log: &str) -> Vec<Act> {
        parse(log.as_bytes()).into_iter().map(|entry| entry.act).collect()
    }

    fn seconds(log: &str) -> Vec<f64> {
        parse(log.as_bytes()).iter().map(|entry| entry.at.as_secs_f64()).collect()
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let log = "[09:14] <crimsun> kleedrac: I'm <b>afraid</b> not.\n\
            [09:14]  * tux_ looks around\n\
            === alka_trash [~homer@c-67-166-91-212.example.net]  has left #ubuntu []\n\
            === sivang [~s[i]vang@80.179.93.130] has joined #ubuntu\n\
            === rake [n=luc@example.fr] has quit [\"Leaving\"]\n\
            === lone has quit (timeout)\n\
            === tux_ is now known as tux\n";
        let expected = [
            say("crimsun", "kleedrac: I'm <b>afraid</b> not."),
            say("tux_", "/me looks around"),
            Act::Leave("alka_trash".into()),
            Act::Join("sivang".into()),
            Act::Leave("rake".into()),
            Act::Leave("lone".into()),
            Act::Rename("tux_".into(), "tux".into()),
        ];
        assert_eq!(acts(log), expected);
    }

    #[test]
    fn lines_without_a_sender_are_left_out() {
        let log = "=== mode/#ubuntu [+o apokryphos]  by ChanServ\n\
            === nekostar sighs\n\
            === yahalom has left the building\n\
            === a is now known as happy as b\n\
            [05:12] -zaijvjs:#ubuntu- spam\n\
            [25:00] <nobody> at no time\n\
            [5:12] <nobody> at no time\n\
            <nobody> no time\n\
            Topic: x\n\n";
        assert_eq!(acts(log), []);
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        let entries = parse(b"[00:00] <caf\xe9> na\xefve\r\n");
        assert_eq!(entries[0].act, say("caf\u{fffd}", "na\u{fffd}ve"));
    }

    #[test]
    fn an_empty_message_is_a_space() {
        assert_eq!(acts("[11:25] <pirate> \n[11:30] <selinium>\n"), [say("pirate", " "), say("selinium", " ")]);
        assert_eq!(acts("[11:25] <bob>   two spaces more\n"), [say("bob", "  two spaces more")]);
    }

    #[test]
    fn a_minute_is_spread_evenly_and_time_starts_at_the_first_line() {
        let log = "=== a [h] has joined #ubuntu\n[10:05] <a> 1\n[10:05] <a> 2\n=== a [h] has left #ubuntu []\n[10:07] <b> 3\n";
        assert_eq!(seconds(log), [0.0, 15.0, 30.0, 45.0, 120.0]);
    }

    #[test]
    fn an_earlier_time_is_the_next_day() {
        assert_eq!(seconds("[23:59] <a> 1\n[00:02] <a> 2\n"), [0.0, 180.0]);
        assert_eq!(seconds("[10:00] <a> 1\n[09:59] <a> 2\n"), [0.0, (24.0 * 60.0 - 1.0) * 60.0]);
    }

    #[test]
    fn a_clock_with_twelve_hours_goes_on_at_noon() {
        assert_eq!(seconds("[12:59] <a> 1\n[01:00] <a> 2\n"), [0.0, 60.0]);
        assert_eq!(seconds("[11:58] <a> 1\n[00:03] <a> 2\n"), [0.0, 300.0]);
        assert_eq!(seconds("[12:30] <a> 1\n[00:10] <a> 2\n"), [0.0, 700.0 * 60.0], "no such clock goes back at noon");
    }
}
