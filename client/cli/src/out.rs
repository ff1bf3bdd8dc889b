//! The only way to standard output and standard error, but for the terminal of a chat. Nothing that passes here acts on a
//! terminal, is unseen on it, or looks like another line.

use std::{
    io::{self, Write},
    os::fd::AsFd,
};

use rustix::termios::{isatty, tcgetwinsize};

use crate::show::{self, cells};

/// Prints a line to standard output and flushes it.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    write(io::stdout().lock(), show::visible(&text.to_string()))
}

/// Prints a note for people to standard error. Where nobody can read it, that is no failure.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = write(io::stderr().lock(), show::paragraph(&text.to_string()));
}

/// The columns of a terminal; `None` if it is something else or does not say.
pub(crate) fn columns(output: impl AsFd) -> Option<usize> {
    let size = isatty(&output).then(|| tcgetwinsize(&output).ok()).flatten()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

fn write(mut output: impl Write + AsFd, text: String) -> io::Result<()> {
    let text = match columns(&output) {
        Some(columns) => cells::folded(&text, columns),
        None => text,
    };
    writeln!(output, "{text}")?;
    output.flush()
}
