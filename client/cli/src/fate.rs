//! What became of the messages of `quip send`.

use std::fmt;

/// What is known of a message that is not known to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The relay never had it.
    NotSent,
    /// The relay refused it.
    NotStored,
    /// There was no answer.
    Unknown,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not sent",
            Self::NotStored => "not stored",
            Self::Unknown => "perhaps stored",
        })
    }
}

/// What became of all of them.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Lines that were read.
    pub(crate) read: u64,
    /// Messages that were stored.
    pub(crate) stored: u64,
    failures: Vec<Failure>,
    /// More lines may have followed.
    is_open: bool,
    /// Why it is not better, unless a failure says so.
    why: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Failure {
    first: u64,
    last: u64,
    fate: Fate,
    why: String,
}

impl Outcome {
    /// A line that was not stored, or may not be.
    pub(crate) fn fail(&mut self, line: u64, fate: Fate, why: String) {
        self.failures.push(Failure { first: line, last: line, fate, why });
    }

    /// The number of lines that were not read; `None` if it is not known.
    pub(crate) fn leave(&mut self, rest: Option<u64>) {
        self.is_open = rest.is_none();
        if let Some(rest @ 1..) = rest {
            let (first, last) = (self.read + 1, self.read + rest);
            self.failures.push(Failure { first, last, fate: Fate::NotSent, why: String::new() });
        }
        self.failures.sort_by_key(|failure| failure.first);
        self.failures.dedup_by(|later, earlier| {
            let follows = earlier.last + 1 == later.first && (earlier.fate, &earlier.why) == (later.fate, &later.why);
            if follows {
                earlier.last = later.last;
            }
            follows
        });
    }

    /// Why it is so.
    pub(crate) fn because(&mut self, why: String) {
        self.why = if self.failures.iter().any(|failure| failure.why == why) { String::new() } else { why };
    }

    /// Whether nothing was left out.
    pub(crate) fn is_whole(&self) -> bool {
        self.failures.is_empty() && !self.is_open && self.stored > 0
    }

    /// In words, if it is one message.
    pub(crate) fn of_message(&self) -> String {
        match self.failures.first() {
            Some(Failure { fate, why, .. }) if why.is_empty() => fate.to_string(),
            Some(Failure { fate, why, .. }) => format!("{fate}: {why}"),
            None => "stored".to_owned(),
        }
    }

    /// In words, if each line is one.
    pub(crate) fn of_lines(&self) -> String {
        let lines = if self.stored == 1 { "line" } else { "lines" };
        let mut text = format!("{} {lines} stored", self.stored);
        if !self.why.is_empty() {
            text.insert_str(0, &format!("{}; ", self.why));
        }
        for Failure { first, last, fate, why } in &self.failures {
            let which = if first == last { format!("line {first}") } else { format!("lines {first} to {last}") };
            let colon = if why.is_empty() { "" } else { ": " };
            text += &format!("\n{which}: {fate}{colon}{why}");
        }
        if self.is_open {
            text += &format!("\nwhat follows line {}: not read", self.read);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_accounted_for() {
        let mut outcome = Outcome { read: 7, stored: 1, ..Outcome::default() };
        outcome.fail(7, Fate::NotSent, "it is too long".into());
        for line in [3, 4, 6] {
            outcome.fail(line, Fate::NotStored, "refused".into());
        }
        outcome.leave(Some(2));
        outcome.because("it is too long".into());
        assert_eq!(
            outcome.of_lines(),
            "1 line stored\nlines 3 to 4: not stored: refused\nline 6: not stored: refused\n\
             line 7: not sent: it is too long\nlines 8 to 9: not sent"
        );
        assert!(!outcome.is_whole());
    }

    #[test]
    fn an_input_that_goes_on_is_never_whole() {
        let mut outcome = Outcome { read: 2, stored: 2, ..Outcome::default() };
        outcome.leave(None);
        outcome.because("ended by SIGINT".into());
        assert!(!outcome.is_whole());
        assert_eq!(outcome.of_lines(), "ended by SIGINT; 2 lines stored\nwhat follows line 2: not read");
        let mut outcome = Outcome { read: 2, stored: 2, ..Outcome::default() };
        outcome.leave(Some(0));
        assert!(outcome.is_whole());
    }
}
