//! Names of users and titles, shown so that they cannot be taken for anything else.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_security::{RestrictionLevel, RestrictionLevelDetection, skeleton};

use super::text::{code, is_hidden, visible};

/// A user's name: as it is if it consists of letters, digits and a few signs, otherwise in quotes. Nothing in it is
/// invisible.
pub(crate) fn name(user: &str) -> String {
    let mut shown = String::with_capacity(user.len());
    for c in user.chars() {
        let is_stray = group(c) == GeneralCategoryGroup::Mark && !shown.chars().last().is_some_and(is_of_words);
        if is_hidden(c) || is_stray || (c != ' ' && looks_empty(c)) {
            shown.push_str(&code(c));
        } else {
            shown.push(c);
        }
    }
    let is_plain = shown.starts_with(is_of_words) && shown.chars().all(|c| is_of_words(c) || "-.+@'".contains(c));
    if is_plain { shown } else { in_quotes(&shown) }
}

/// A title, or another text of people, in quotes.
pub(crate) fn quoted(text: &str) -> String {
    in_quotes(&visible(text))
}

/// A remark about a name whose letters belong to several scripts or look like those of a plain name, such as a Cyrillic а
/// in "аlice".
pub(crate) fn lookalikes(user: &str) -> Option<String> {
    let letters: String = user.chars().filter(|c| c.is_alphabetic()).collect();
    let is_mixed = letters.as_str().detect_restriction_level() > RestrictionLevel::HighlyRestrictive;
    let is_disguised = !letters.is_ascii() && skeleton(&letters).all(|c| c.is_ascii());
    if !is_mixed && !is_disguised {
        return None;
    }
    let codes: Vec<_> = letters.chars().filter(|c| !c.is_ascii()).map(|c| format!("U+{:04X}", u32::from(c))).collect();
    Some(format!("(look-alike letters: {})", codes.join(" ")))
}

fn in_quotes(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn is_of_words(c: char) -> bool {
    use GeneralCategoryGroup::{Letter, Mark, Number};
    c == '_' || matches!(group(c), Letter | Mark | Number)
}

fn looks_empty(c: char) -> bool {
    group(c) == GeneralCategoryGroup::Separator || c == BRAILLE_BLANK
}

fn group(c: char) -> GeneralCategoryGroup {
    c.general_category_group()
}

const BRAILLE_BLANK: char = '\u{2800}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_shown_as_it_is() {
        for plain in ["alice", "Ännchen", "김철수", "o'brien", "bob_7", "a.b+c@example.org", "हिन्दी", "_x", "7"]
        {
            assert_eq!(name(plain), plain);
        }
    }

    #[test]
    fn a_name_that_could_pass_for_more_is_quoted() {
        for (user, shown) in [
            ("bob smith", "\"bob smith\""),
            ("bob> hello", "\"bob> hello\""),
            ("-- bob", "\"-- bob\""),
            ("@bob", "\"@bob\""),
            ("\"bob\"", "\"\\\"bob\\\"\""),
            (" bob", "\" bob\""),
            ("bob\u{a0}", "\"bob<U+00A0>\""),
            ("bob\u{200d}", "\"bob<U+200D>\""),
            ("\u{202e}bob", "\"<U+202E>bob\""),
            ("b\u{2800}b", "\"b<U+2800>b\""),
            ("\u{301}bob", "\"<U+0301>bob\""),
            ("🦀", "\"🦀\""),
        ] {
            assert_eq!(name(user), shown, "{user:?}");
        }
    }

    #[test]
    fn letters_that_look_like_others_are_pointed_out() {
        for (user, letters) in [
            ("аlice", "U+0430"),
            ("Ali-бот", "U+0431 U+043E U+0442"),
            ("аррӏе", "U+0430 U+0440 U+0440 U+04CF U+0435"),
            ("𝐛𝐨𝐛", "U+1D41B U+1D428 U+1D41B"),
            ("ａlice", "U+FF41"),
        ] {
            assert_eq!(lookalikes(user), Some(format!("(look-alike letters: {letters})")), "{user}");
        }
    }

    #[test]
    fn names_of_one_script_get_no_remark() {
        for user in ["alice", "Ännchen", "김bob", "李Jet", "бот", "日本ごカナ", "اردو", "हिन्दी", "🦀", "bob smith", ""]
        {
            assert_eq!(lookalikes(user), None, "{user}");
        }
    }
}
