//! The messages of `quip send`: the lines of standard input, or one text.

use std::{
    io::{self, BufRead, Read},
    thread,
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Messages that are read a few ahead.
pub(crate) struct Lines {
    lines: mpsc::Receiver<Result<String, BadLine>>,
    /// How many lines there were when nobody wanted more.
    rest: oneshot::Receiver<u64>,
}

/// Why a line is no message.
#[derive(Debug, Error)]
pub(crate) enum BadLine {
    /// It is in another encoding.
    #[error("byte {0} of it is not UTF-8")]
    NotText(usize),
    /// It is not read to its end.
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    /// There is no line.
    #[error("standard input cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

impl Lines {
    /// One text.
    pub(crate) fn of(text: String) -> Self {
        let (given, lines) = mpsc::channel(1);
        let (_, rest) = oneshot::channel();
        given.try_send(Ok(text)).ok();
        Self { lines, rest }
    }

    /// The lines of standard input, which are read on a thread: nothing else can wait for any kind of input.
    pub(crate) fn of_stdin(ahead: usize) -> Self {
        let (read, lines) = mpsc::channel(ahead);
        let (tell, rest) = oneshot::channel();
        thread::spawn(move || {
            let mut input = io::stdin().lock();
            let mut rest = 0;
            while let Some(line) = next(&mut input) {
                let is_last = matches!(line, Err(BadLine::Unreadable(_)));
                if read.blocking_send(line).is_err() {
                    rest += 1;
                }
                if is_last {
                    break;
                }
            }
            tell.send(rest).ok();
        });
        Self { lines, rest }
    }

    /// The next line. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<String, BadLine>> {
        self.lines.recv().await
    }

    /// How many lines are left, if the end is near enough to tell.
    pub(crate) async fn rest(mut self) -> Option<u64> {
        self.lines.close();
        let mut ahead = 0;
        while self.lines.recv().await.is_some() {
            ahead += 1;
        }
        match timeout(COUNTING, self.rest).await {
            Ok(rest) => Some(ahead + rest.unwrap_or(0)),
            Err(_) => None,
        }
    }
}

fn next(input: &mut impl BufRead) -> Option<Result<String, BadLine>> {
    let mut line = Vec::new();
    match input.take(LONGEST + 1).read_until(b'\n', &mut line) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return Some(Err(error.into())),
    }
    if let Some(whole) = line.strip_suffix(b"\n") {
        let length = whole.strip_suffix(b"\r").unwrap_or(whole).len();
        line.truncate(length);
    } else if line.len() as u64 > LONGEST {
        return Some(input.skip_until(b'\n').map_err(BadLine::from).and(Err(BadLine::TooLong)));
    }
    Some(String::from_utf8(line).map_err(|error| BadLine::NotText(error.utf8_error().valid_up_to() + 1)))
}

/// The longest line that is held in memory; a message is far shorter.
const LONGEST: u64 = 1024 * 1024;
/// How long counting the rest of the input may take: more may still be written to it.
const COUNTING: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines_are_split_and_each_fault_is_of_one_line() {
        let long = "x".repeat(LONGEST as usize + 1);
        let input = [b"one\r\n\ncaf\xe9\n", long.as_bytes(), b"\n", &long.as_bytes()[1..], b"\nlast"].concat();
        let mut input = input.as_slice();
        let lines: Vec<_> = std::iter::from_fn(|| next(&mut input)).collect();
        let [Ok(one), Ok(empty), Err(BadLine::NotText(4)), Err(BadLine::TooLong), Ok(longest), Ok(last)] = &lines[..]
        else {
            panic!("{} lines", lines.len());
        };
        assert_eq!((one.as_str(), empty.as_str(), longest.len() as u64, last.as_str()), ("one", "", LONGEST, "last"));
    }

    #[tokio::test]
    async fn one_text_leaves_nothing() {
        let mut lines = Lines::of("hello".to_owned());
        assert_eq!(lines.next().await.unwrap().unwrap(), "hello");
        assert!(lines.next().await.is_none());
        assert_eq!(lines.rest().await, Some(0));
    }
}
