//! What is written to the terminal: lines above, and the one being typed as the last line.

use crate::show::{self, cells};

/// The line being typed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prompt<'a> {
    /// Who types.
    pub(crate) user: &'a str,
    /// Sent lines without an answer.
    pub(crate) waiting: usize,
    /// The text so far.
    pub(crate) text: &'a str,
}

/// Replaces the last line of the terminal by complete lines and the prompt, which never takes more than that line.
pub(crate) fn frame(above: &str, prompt: Prompt<'_>, columns: usize) -> String {
    // Without wrapping, because a terminal may find a text wider than it is here.
    format!("\r\x1b[J{above}\x1b[?7l{}\x1b[?7h", last_line(prompt, columns))
}

/// Text in the style of a note.
pub(crate) fn dimmed(text: String) -> String {
    format!("\x1b[2m{text}\x1b[0m")
}

/// At most half of the line is the user's name and the number of lines on their way. The last column is the cursor's.
fn last_line(prompt: Prompt<'_>, columns: usize) -> String {
    let sending = match prompt.waiting {
        0 => String::new(),
        count => format!(" ({count} sending)"),
    };
    let mut line = match (columns / 2).saturating_sub(sending.len() + 3) {
        0..LEAST_OF_NAME => "> ".to_owned(),
        room => format!("<{}>{sending} ", cells::cut(&show::name(prompt.user), room)),
    };
    let text = show::visible(prompt.text);
    line.push_str(cells::end(&text, columns.saturating_sub(cells::width(&line) + 1)));
    line
}

/// With fewer cells a name says nothing.
const LEAST_OF_NAME: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789012345678901234567890123456789";

    fn line(user: &str, waiting: usize, text: &str, columns: usize) -> String {
        last_line(Prompt { user, waiting, text }, columns)
    }

    #[test]
    fn a_prompt_has_the_name_and_what_is_sending() {
        assert_eq!(line("alice", 0, "hello", 80), "<alice> hello");
        assert_eq!(line("alice", 3, "hello", 80), "<alice> (3 sending) hello");
        assert_eq!(line("a b", 0, "a\u{202e}b", 80), "<\"a b\"> a<U+202E>b");
    }

    #[test]
    fn a_narrow_terminal_gets_a_part_of_it() {
        assert_eq!(line(LONG, 0, LONG, 40), "<0123456789012345…> 1234567890123456789");
        assert_eq!(line("alice", 1, LONG, 40), "<alice> (1 sending) 1234567890123456789");
        assert_eq!(line("alexander", 1, "hi", 40), "<alex…> (1 sending) hi");
        assert_eq!(line("alice", 1, "hello", 10), "> hello");
        assert_eq!(line("alice", 1, "hello", 1), "> ");
    }

    #[test]
    fn no_prompt_is_wider_than_the_terminal() {
        for user in ["a", "김철수", LONG, "👩‍💻"] {
            for text in ["", LONG, "한국어한국어한국어한국어", "👩‍💻👩‍💻👩‍💻👩‍💻", "❤️❤️❤️❤️"]
            {
                for (columns, waiting) in (3..100).flat_map(|columns| [(columns, 0), (columns, 60)]) {
                    let line = line(user, waiting, text, columns);
                    assert!(cells::width(&line) < columns, "{columns}: {line}");
                }
            }
        }
    }
}
