//! Standard output, line by line.

use std::io::{self, Write};

/// Prints a line, and makes sure that it is out.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Whether a command failed only because whoever read its output has seen enough, such as `head`.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
