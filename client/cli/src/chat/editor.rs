//! A line editor. Pure: bytes of a raw terminal go in, finished lines come out.
//!
//! Editing is possible at the end of the line only, which is enough for a chat and needs no terminal library.

use unicode_segmentation::UnicodeSegmentation;

/// The line being typed, and the history.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    text: String,
    /// The bytes so far of an incomplete character.
    partial: Vec<u8>,
    escape: Escape,
    history: Vec<String>,
    /// Which line of the history is shown, counted from the end; 0 = none.
    back: usize,
}

/// What a key did to the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pressed {
    /// The view may have changed.
    Redraw,
    /// The line is finished.
    Line(String),
    /// The user asks to quit.
    End,
}

/// Progress within an escape sequence.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    /// After `ESC [` or `ESC O`.
    Sequence,
}

impl Editor {
    /// Takes one byte.
    pub(crate) fn press(&mut self, byte: u8) -> Pressed {
        match self.escape {
            Escape::None => return self.key(byte),
            Escape::Begun if matches!(byte, b'[' | b'O') => self.escape = Escape::Sequence,
            Escape::Sequence if !(0x40..=0x7e).contains(&byte) => {}
            Escape::Begun => self.escape = Escape::None,
            Escape::Sequence => {
                self.escape = Escape::None;
                match byte {
                    b'A' => self.turn_back(1),
                    b'B' => self.turn_back(-1),
                    _ => {}
                }
            }
        }
        Pressed::Redraw
    }

    /// The line being typed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn key(&mut self, byte: u8) -> Pressed {
        match byte {
            b'\r' | b'\n' => return self.finish(),
            CTRL_C => return Pressed::End,
            CTRL_D if self.text.is_empty() => return Pressed::End,
            ESCAPE => self.escape = Escape::Begun,
            BACKSPACE | CTRL_H => self.drop_last(),
            CTRL_U => self.text.clear(),
            CTRL_W => self.drop_word(),
            b'\t' => self.text.push(' '),
            0x20..=0x7e => self.text.push(byte.into()),
            0x80.. => self.part(byte),
            _ => {}
        }
        Pressed::Redraw
    }

    fn finish(&mut self) -> Pressed {
        let line = std::mem::take(&mut self.text);
        self.back = 0;
        if !line.is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            if self.history.len() > KEPT {
                self.history.remove(0);
            }
        }
        Pressed::Line(line)
    }

    /// What people see as one character may be several.
    fn drop_last(&mut self) {
        let last = self.text.grapheme_indices(true).next_back();
        self.text.truncate(last.map_or(0, |(place, _)| place));
    }

    fn drop_word(&mut self) {
        let kept = self.text.trim_end().rfind(' ').map_or(0, |space| space + 1);
        self.text.truncate(kept);
    }

    /// Processes a byte of a multi-byte character.
    fn part(&mut self, byte: u8) {
        if byte >= 0xc0 {
            self.partial.clear();
        }
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(character) => self.text.push_str(character),
            Err(error) if error.error_len().is_none() => return,
            Err(_) => {}
        }
        self.partial.clear();
    }

    fn turn_back(&mut self, by: isize) {
        self.back = self.back.saturating_add_signed(by).min(self.history.len());
        let shown = self.history.len().checked_sub(self.back).and_then(|place| self.history.get(place));
        self.text = shown.cloned().unwrap_or_default();
    }
}

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_H: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const CTRL_W: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const BACKSPACE: u8 = 0x7f;
/// Maximum lines of history.
const KEPT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> (Editor, Vec<Pressed>) {
        let mut editor = Editor::default();
        let results = keys.iter().map(|key| editor.press(*key)).filter(|pressed| *pressed != Pressed::Redraw).collect();
        (editor, results)
    }

    fn left(keys: &[u8]) -> String {
        typed(keys).0.text().to_owned()
    }

    #[test]
    fn lines_end_with_enter() {
        let (editor, lines) = typed("hé\rx€😀\r\rrest".as_bytes());
        assert_eq!(lines, [Pressed::Line("hé".into()), Pressed::Line("x€😀".into()), Pressed::Line(String::new())]);
        assert_eq!(editor.text(), "rest");
    }

    #[test]
    fn the_end_can_be_deleted() {
        assert_eq!(left("aé\x7f".as_bytes()), "a");
        assert_eq!(left("a👩‍💻e\u{301}\x7f".as_bytes()), "a👩‍💻");
        assert_eq!(left("a👩‍💻\x7f".as_bytes()), "a");
        assert_eq!(left(b"one two \x17"), "one ");
        assert_eq!(left(b"one\x17x"), "x");
        assert_eq!(left(b"one two\x15x"), "x");
        assert_eq!(left(b"\x7f"), "");
    }

    #[test]
    fn ctrl_c_ends_and_ctrl_d_does_on_an_empty_line() {
        assert_eq!(typed(b"abc\x03").1, [Pressed::End]);
        assert_eq!(typed(b"abc\x04").1, []);
        assert_eq!(typed(b"\x04").1, [Pressed::End]);
    }

    #[test]
    fn arrows_recall_history() {
        assert_eq!(left(b"one\rtwo\r\x1b[A"), "two");
        assert_eq!(left(b"one\rtwo\r\x1b[A\x1b[A\x1bOA"), "one");
        assert_eq!(left(b"one\rtwo\r\x1b[A\x1b[A\x1b[B"), "two");
        assert_eq!(left(b"one\r\x1b[A\x1b[B"), "");
    }

    #[test]
    fn unknown_keys_are_ignored() {
        assert_eq!(left(b"a\x1b[1;5Cb\x1b[3~c\x1bxd\x01"), "abcd");
        assert_eq!(left(b"a\xff\xe2\x82b\xc3(c"), "ab(c", "broken UTF-8 is dropped");
    }
}
