//! Input and output of a chat: a terminal, or pipes.

use std::{
    env,
    io::{self, BufRead, IsTerminal, Read, Write},
};

use rustix::termios::{self, OptionalActions, OutputModes, Termios};
use tokio::sync::mpsc;

use super::{
    editor::{Editor, Pressed},
    frame::{Prompt, dimmed, frame},
};
use crate::{
    out,
    show::{self, cells},
};

/// The output of a chat.
pub(crate) enum Screen {
    /// A terminal whose last line is the one being typed.
    Terminal(Terminal),
    /// Standard output; notes go to standard error.
    Pipe,
}

/// A terminal in raw mode.
pub(crate) struct Terminal {
    editor: Editor,
    user: String,
    /// Sent lines without an answer.
    waiting: usize,
    /// Whether notes are dimmed.
    dims: bool,
    _raw: Raw,
}

/// Typed input.
pub(crate) enum Input {
    /// From a pipe.
    Line(String),
    /// From a terminal.
    Keys(Vec<u8>),
}

/// Opens the terminal, or pipes if standard input or output is not a terminal or one that cannot move its cursor. The
/// channel closes when the input ends.
pub(crate) fn open(user: &str) -> io::Result<(Screen, mpsc::Receiver<Input>)> {
    let (typed, input) = mpsc::channel(AHEAD);
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_dumb || !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        std::thread::spawn(move || read_lines(&typed));
        return Ok((Screen::Pipe, input));
    }
    let dims = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let terminal = Terminal { editor: Editor::default(), user: user.to_owned(), waiting: 0, dims, _raw: Raw::new()? };
    std::thread::spawn(move || read_keys(&typed));
    Ok((Screen::Terminal(terminal), input))
}

impl Screen {
    /// Whether keys come in, as opposed to lines.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Processes input and appends finished lines. Returns how often the user asked to quit.
    pub(crate) fn take(&mut self, input: Input, lines: &mut Vec<String>) -> io::Result<usize> {
        let mut ends = 0;
        match (self, input) {
            (Self::Terminal(terminal), Input::Keys(keys)) => {
                for key in keys {
                    match terminal.editor.press(key) {
                        Pressed::Redraw => {}
                        Pressed::Line(line) => lines.push(line),
                        Pressed::End => ends += 1,
                    }
                }
                terminal.draw("")?;
            }
            (_, Input::Line(line)) => lines.push(line),
            (Self::Pipe, Input::Keys(_)) => {}
        }
        Ok(ends)
    }

    /// Shows a line of the conversation.
    pub(crate) fn show(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) => terminal.print(&show::visible(line), |text| text),
            Self::Pipe => out::line(line),
        }
    }

    /// Shows a note about the conversation, such as a disconnect.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        let text = format!("-- {text}");
        match self {
            Self::Terminal(terminal) => {
                let style = if terminal.dims { dimmed } else { |text| text };
                terminal.print(&show::paragraph(&text), style)
            }
            Self::Pipe => {
                out::note(text);
                Ok(())
            }
        }
    }

    /// Shows how many lines are being sent.
    pub(crate) fn waiting(&mut self, count: usize) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) if terminal.waiting != count => {
                terminal.waiting = count;
                terminal.draw("")
            }
            _ => Ok(()),
        }
    }
}

impl Terminal {
    /// Prints a text above the line being typed.
    fn print(&mut self, text: &str, style: impl Fn(String) -> String) -> io::Result<()> {
        let rows = cells::folded(text, out::columns(io::stdout()).unwrap_or(COLUMNS));
        self.draw(&format!("{}\n", style(rows)))
    }

    /// Draws the line being typed, with complete lines above it.
    fn draw(&mut self, above: &str) -> io::Result<()> {
        let columns = out::columns(io::stdout()).unwrap_or(COLUMNS);
        let prompt = Prompt { user: &self.user, waiting: self.waiting, text: self.editor.text() };
        let mut stdout = io::stdout().lock();
        stdout.write_all(frame(above, prompt, columns).as_bytes())?;
        stdout.flush()
    }
}

fn read_lines(typed: &mpsc::Sender<Input>) {
    for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if typed.blocking_send(Input::Line(line)).is_err() {
            break;
        }
    }
}

fn read_keys(typed: &mpsc::Sender<Input>) {
    let mut keys = [0; 1024];
    while let Ok(count @ 1..) = io::stdin().lock().read(&mut keys) {
        if typed.blocking_send(Input::Keys(keys[..count].to_vec())).is_err() {
            break;
        }
    }
}

/// Raw mode, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A destructor cannot report errors.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
        let _ = write!(io::stdout(), "\r\x1b[J");
        let _ = io::stdout().flush();
    }
}

/// Lines or chunks of keys that are read ahead.
const AHEAD: usize = 16;
/// Columns of a terminal that does not report them.
const COLUMNS: usize = 80;
