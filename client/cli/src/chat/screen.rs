//! Input and output of a chat: a terminal, or pipes.

use std::{
    collections::VecDeque,
    io::{self, BufRead, IsTerminal, Read, Write},
};

use rustix::termios::{self, OptionalActions, OutputModes, Termios};
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthStr;

use super::editor::{Editor, Pressed};
use crate::out;

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
    prompt: String,
    /// Sent lines without an answer.
    waiting: usize,
    _raw: Raw,
}

/// Typed input.
pub(crate) enum Input {
    /// From a pipe.
    Line(String),
    /// From a terminal.
    Keys(Vec<u8>),
}

/// Opens the terminal, or pipes if standard input or output is not a terminal. The channel closes when the input ends.
pub(crate) fn open(prompt: String) -> io::Result<(Screen, mpsc::Receiver<Input>)> {
    let (typed, input) = mpsc::channel(AHEAD);
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        std::thread::spawn(move || read_lines(&typed));
        return Ok((Screen::Pipe, input));
    }
    let terminal = Terminal { editor: Editor::default(), prompt, waiting: 0, _raw: Raw::new()? };
    std::thread::spawn(move || read_keys(&typed));
    Ok((Screen::Terminal(terminal), input))
}

impl Screen {
    /// Processes input and appends finished lines. Returns false when the user asks to quit.
    pub(crate) fn take(&mut self, input: Input, lines: &mut VecDeque<String>) -> io::Result<bool> {
        match (self, input) {
            (Self::Terminal(terminal), Input::Keys(keys)) => {
                for key in keys {
                    match terminal.editor.press(key) {
                        Pressed::Redraw => {}
                        Pressed::Line(line) => lines.push_back(line),
                        Pressed::End => return Ok(false),
                    }
                }
                terminal.draw("")?;
            }
            (_, Input::Line(line)) => lines.push_back(line),
            (Self::Pipe, Input::Keys(_)) => {}
        }
        Ok(true)
    }

    /// Shows a line of the conversation.
    pub(crate) fn show(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) => terminal.draw(&format!("{line}\n")),
            Self::Pipe => out::line(line),
        }
    }

    /// Shows a note about the conversation, such as a disconnect.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) => terminal.draw(&format!("\x1b[2m{text}\x1b[0m\n")),
            Self::Pipe => {
                eprintln!("{text}");
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
    /// Prints complete lines above the one being typed.
    fn draw(&mut self, above: &str) -> io::Result<()> {
        let prompt = match self.waiting {
            0 => format!("{} ", self.prompt),
            count => format!("{} ({count} sending) ", self.prompt),
        };
        let columns = termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col).max(NARROW);
        let view = self.editor.view((columns as usize).saturating_sub(prompt.width() + 1));
        let mut stdout = io::stdout().lock();
        write!(stdout, "\r\x1b[J{above}{prompt}{view}")?;
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
/// Columns assumed if the terminal does not report them or has fewer.
const NARROW: u16 = 20;
