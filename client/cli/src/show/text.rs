//! Texts of others on a terminal: nothing in them acts on it, and nothing in them is unseen.

use unicode_properties::{GeneralCategory, UnicodeEmoji, UnicodeGeneralCategory};
use unicode_security::{GeneralSecurityProfile, general_security_profile::IdentifierType};
use unicode_width::UnicodeWidthChar;

use super::cells::INDENT;

/// A text in one line. Line breaks and tabs become blanks, and characters that cannot be seen are named, such as `<U+202E>`.
/// A text that went through this stays the same when it does so again.
pub(crate) fn visible(text: &str) -> String {
    let text = text.trim_end_matches(['\n', '\r']);
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_hidden(c) && !belongs(shown.chars().last(), c, chars.peek().copied()) => shown.push_str(&code(c)),
            c => shown.push(c),
        }
    }
    shown
}

/// A text that may have several lines. All but the first are indented, so that no line of a foreign text looks like
/// one of the program.
pub(crate) fn paragraph(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().split('\n').map(visible).collect();
    lines.join(&format!("\n{INDENT}"))
}

/// JSON without any character that a terminal might obey or not show. It means the same.
pub(super) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text
}

/// Whether a character has no shape of its own, or none that is the same everywhere.
pub(super) fn is_hidden(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, Surrogate, Unassigned};
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = c.general_category();
    matches!(category, Control | Format | LineSeparator | ParagraphSeparator | PrivateUse | Surrogate | Unassigned)
        || c.identifier_type() == Some(IdentifierType::Default_Ignorable)
}

/// The name of a character that is not shown as it is.
pub(super) fn code(c: char) -> String {
    format!("<U+{:04X}>", u32::from(c))
}

/// Whether a hidden character shapes what is beside it: within an emoji, in a script whose letters join, or as a variant
/// of the character before.
fn belongs(before: Option<char>, c: char, after: Option<char>) -> bool {
    let Some(before) = before else { return false };
    match c {
        ZWJ if after.is_some_and(is_picture) => is_picture(before) || before == EMOJI_VARIANT,
        ZWJ | ZWNJ => joins(before) && after.is_some_and(joins),
        EMOJI_VARIANT => !is_hidden(before) && before.is_emoji_char(),
        c if c.general_category() == GeneralCategory::NonspacingMark => is_letter_without_case(before),
        _ => false,
    }
}

fn is_picture(c: char) -> bool {
    !c.is_ascii() && c.is_emoji_char_or_emoji_component() && !is_hidden(c)
}

/// Letters of Arabic, Indic and similar scripts. Those of East Asia are wide.
fn joins(c: char) -> bool {
    is_letter_without_case(c) && c.width() != Some(2)
}

fn is_letter_without_case(c: char) -> bool {
    use GeneralCategory::{NonspacingMark, OtherLetter, SpacingMark};
    matches!(c.general_category(), OtherLetter | NonspacingMark | SpacingMark) && !is_hidden(c)
}

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';
const EMOJI_VARIANT: char = '\u{fe0f}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_named() {
        assert_eq!(visible("a\x1b[2Jb\u{202e}c\nd\u{9b}1m\n"), "a<U+001B>[2Jb<U+202E>c d<U+009B>1m");
        for hidden in [
            '\u{200b}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{2066}',
            '\u{feff}',
            '\u{ad}',
            '\u{e000}',
            '\u{378}',
            '\u{3164}',
            '\u{115f}',
            '\u{e0061}',
            '\u{7f}',
            '\u{85}',
            '\u{34f}',
            '\u{fe0f}',
        ] {
            let text = format!("a{hidden}b");
            assert_eq!(visible(&text), format!("a{}b", code(hidden)));
            assert!(escaped(&text).is_ascii(), "{}", code(hidden));
        }
    }

    #[test]
    fn what_people_write_is_left_as_it_is() {
        for text in ["한국어", "👩‍💻 👍🏽 ❤️ 1️⃣ 👩‍❤️‍👨", "می‌خواهم", "क्‍ष", "日本語、葛󠄀", "naïve – “ok”", "   "]
        {
            assert_eq!(visible(text), text, "{text:?}");
        }
    }

    #[test]
    fn a_joiner_that_joins_nothing_is_named() {
        for (text, shown) in [
            ("a\u{200d}b", "a<U+200D>b"),
            ("1\u{200d}2", "1<U+200D>2"),
            ("가\u{200c}나", "가<U+200C>나"),
            ("👩\u{200d}", "👩<U+200D>"),
            ("👩\u{200d}\u{200d}💻", "👩<U+200D><U+200D>💻"),
            ("❤\u{fe0f}\u{fe0f}", "❤\u{fe0f}<U+FE0F>"),
            ("\u{200d}💻", "<U+200D>💻"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn what_was_made_visible_stays_as_it_is() {
        for text in ["a\u{fe0f}\u{200d}💻", "👩‍💻\u{200d}", "می\u{200c}\u{200c}خ", "x\n\ty"] {
            let once = visible(text);
            assert_eq!(visible(&once), once, "{text:?}");
        }
    }

    #[test]
    fn no_line_of_a_foreign_text_looks_like_one_of_the_program() {
        assert_eq!(
            paragraph("closed: bye\n-- bob joined\r\n\x1b[31mred\n"),
            "closed: bye\n    -- bob joined\n    <U+001B>[31mred"
        );
    }

    #[test]
    fn json_means_the_same_after_escaping() {
        let text = "é한👩‍💻\u{202e}\u{9b}\u{7f}\u{e0061}\n\"";
        let json = serde_json::json!({ "text": text });
        let escaped = escaped(&json.to_string());
        assert!(!escaped.chars().any(is_hidden), "{escaped}");
        assert!(escaped.contains("\\u202e\\u009b\\u007f\\udb40\\udc61"), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).ok(), Some(json));
    }
}
