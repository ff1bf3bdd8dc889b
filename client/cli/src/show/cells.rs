//! How wide a text is on a terminal.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The cells that a text takes. Terminals differ about joined emoji; this is the most that one uses.
pub(crate) fn width(text: &str) -> usize {
    text.graphemes(true).map(cells).sum()
}

/// A text of at most `room` cells: the beginning and `…` if the whole is wider.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let fits = |grapheme: &&str| left.checked_sub(cells(grapheme)).map(|rest| left = rest).is_some();
    let mut shown: String = text.graphemes(true).take_while(fits).collect();
    if room > 0 {
        shown.push('…');
    }
    shown
}

/// The longest end of a text that takes at most `room` cells.
pub(crate) fn end(text: &str, room: usize) -> &str {
    let mut left = room;
    for (place, grapheme) in text.grapheme_indices(true).rev() {
        match left.checked_sub(cells(grapheme)) {
            Some(rest) => left = rest,
            None => return &text[place + grapheme.len()..],
        }
    }
    text
}

/// A text in rows of at most `columns` cells. All but the first row of a line are indented: a terminal would begin them at
/// the left, where a foreign text could then imitate a line of the program.
pub(crate) fn folded(text: &str, columns: usize) -> String {
    if columns < INDENT.len() * 3 {
        return text.to_owned();
    }
    let mut rows = Vec::new();
    for line in text.split('\n') {
        let (mut rest, mut indent) = (line, "");
        while let Some((row, after)) = first_row(rest, columns - indent.len()) {
            rows.push(format!("{indent}{row}"));
            (rest, indent) = (after, INDENT);
        }
        rows.push(format!("{indent}{rest}"));
    }
    rows.join("\n")
}

/// What fits into one row, if not all does, and the rest. It ends at a blank unless that would leave half of the row empty.
fn first_row(text: &str, room: usize) -> Option<(&str, &str)> {
    let (mut left, mut blank) = (room, None);
    for (place, grapheme) in text.grapheme_indices(true) {
        if grapheme == " " && left <= room / 2 {
            blank = Some(place);
        }
        left = match left.checked_sub(cells(grapheme)) {
            Some(rest) => rest,
            None if place == 0 => 0,
            None => {
                let (row, rest) = text.split_at(blank.unwrap_or(place));
                return Some((row.trim_end_matches(' '), rest.trim_start_matches(' ')));
            }
        };
    }
    None
}

/// A text with blanks after it, up to `column` cells.
pub(crate) fn padded(text: &str, column: usize) -> String {
    format!("{text}{:blanks$}", "", blanks = column.saturating_sub(width(text)))
}

/// Before all but the first row of a line.
pub(super) const INDENT: &str = "    ";

fn cells(grapheme: &str) -> usize {
    grapheme.width().max(grapheme.chars().map(|c| c.width().unwrap_or(0)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_either_end() {
        assert_eq!(cut("0123世界", 8), "0123世界");
        assert_eq!(cut("0123世界", 7), "0123世…");
        assert_eq!(cut("0123世界", 6), "0123…");
        assert_eq!(cut("0123", 1), "…");
        assert_eq!(cut("0123", 0), "");
        assert_eq!(end("0123世界", 6), "23世界");
        assert_eq!(end("0123世界", 5), "3世界");
        assert_eq!(end("0123世界", 3), "界");
        assert_eq!(end("0123世界", 0), "");
    }

    #[test]
    fn what_belongs_together_is_not_taken_apart() {
        assert_eq!(width("👩‍💻"), 4, "two emoji where a terminal does not join them");
        assert_eq!(end("ab👩‍💻", 3), "");
        assert_eq!(end("ab👩‍💻", 4), "👩‍💻");
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
    }

    #[test]
    fn no_row_but_the_first_begins_at_the_left() {
        let text = format!("[22:13] <eve> hi{:24}[22:13] -- bob joined", "");
        assert_eq!(folded(&text, 40), "[22:13] <eve> hi\n    [22:13] -- bob joined");
        assert_eq!(folded("0123456789012345 7890", 12), "012345678901\n    2345\n    7890");
        assert_eq!(folded("한국어한국어한", 12), "한국어한국어\n    한");
        assert_eq!(folded("one two three four\nx", 12), "one two\n    three\n    four\nx");
        let joined = ["👩"; 9].join("\u{200d}");
        assert_eq!(folded(&format!("{joined}x"), 12), format!("{joined}\n    x"), "one that is wider than a row");
        assert_eq!(folded("too narrow", 3), "too narrow");
        for columns in 12..90 {
            for line in folded(&text.repeat(9), columns).split('\n').skip(1) {
                assert!(line.starts_with(INDENT) && width(line) <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn columns_are_counted_in_cells() {
        assert_eq!(padded("김철수", 8), "김철수  ");
        assert_eq!(padded("longer", 3), "longer");
    }
}
