//! Where lines come from and go to: a terminal with line editing, or pipes.

use std::io::{self, BufRead, IsTerminal};

use rustix::termios::{self, OptionalActions, Termios};
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

use crate::out;

/// What a person sees.
pub(crate) enum Screen {
    /// A line editor has the last line; others are put above it.
    Terminal {
        /// Prints above the line that is being typed.
        printer: Box<dyn ExternalPrinter + Send>,
        /// Puts the terminal back as it was.
        _restore: Restore,
    },
    /// Standard output, and notes on standard error.
    Pipe,
}

/// Lines that are typed; ends when there are no more.
pub(crate) type Lines = mpsc::Receiver<String>;

/// Opens the terminal, or standard input and output when they are not both one.
pub(crate) fn open(prompt: String) -> anyhow::Result<(Screen, Lines)> {
    let (typed, lines) = mpsc::channel(AHEAD);
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        std::thread::spawn(move || read_pipe(&typed));
        return Ok((Screen::Pipe, lines));
    }
    let restore = Restore::new()?;
    let mut editor = DefaultEditor::new()?;
    let printer = Box::new(editor.create_external_printer()?);
    std::thread::spawn(move || read_terminal(&mut editor, &prompt, &typed));
    Ok((Screen::Terminal { printer, _restore: restore }, lines))
}

impl Screen {
    /// Whether what is typed stays visible by itself.
    pub(crate) fn echoes(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Shows a line of the conversation.
    pub(crate) fn show(&mut self, line: String) -> anyhow::Result<()> {
        match self {
            Self::Terminal { printer, .. } => printer.print(line + "\n")?,
            Self::Pipe => out::line(line)?,
        }
        Ok(())
    }

    /// Shows something about the conversation, such as a lost connection.
    pub(crate) fn note(&mut self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Terminal { printer, .. } => printer.print(format!("\x1b[2m{text}\x1b[0m\n"))?,
            Self::Pipe => eprintln!("{text}"),
        }
        Ok(())
    }
}

fn read_pipe(typed: &mpsc::Sender<String>) {
    for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
        if typed.blocking_send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            break;
        }
    }
}

fn read_terminal(editor: &mut DefaultEditor, prompt: &str, typed: &mpsc::Sender<String>) {
    while let Ok(line) = editor.readline(prompt) {
        // A line that is not kept for the arrow keys is no loss.
        let _ = editor.add_history_entry(&line);
        if typed.blocking_send(line).is_err() {
            break;
        }
    }
}

/// The terminal as it was: the line editor's thread may be in the middle of a line when the chat ends.
pub(crate) struct Restore(Termios);

impl Restore {
    fn new() -> io::Result<Self> {
        Ok(Self(termios::tcgetattr(io::stdin())?))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        // There is no one to tell.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
        print!("\x1b[?2004l");
    }
}

/// Lines that are read before they can be sent.
const AHEAD: usize = 16;
