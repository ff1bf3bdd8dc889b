//! Names that a person typed.
//!
//! What looks the same to people should be the same user, so names are in Unicode's form NFC. Names that a relay sends are
//! taken as they are: use [`crate::Target::user`] for those.

use quip_protocol::{UserId, limit};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// Why a text is not the name of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// There is nothing.
    #[error("the name is empty")]
    Empty,
    /// There is too much. In bytes, in NFC.
    #[error("the name has {0} bytes; at most {max} are allowed", max = limit::USER)]
    TooLong(usize),
    /// It begins or ends with white space, which nobody sees.
    #[error("the name begins or ends with a blank")]
    Blank,
    /// It has a control character, such as a line break.
    #[error("the name has a control character (U+{:04X})", u32::from(*.0))]
    Control(char),
}

/// The user that a person means by a name, in NFC.
///
/// # Errors
/// If it is empty, longer than 64 bytes, has control characters, or blanks at its ends.
pub fn user(name: &str) -> Result<UserId, InvalidName> {
    let name: String = name.nfc().collect();
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return Err(InvalidName::Control(control));
    }
    if name.trim() != name {
        return Err(InvalidName::Blank);
    }
    UserId::parse(&name)
        .map_err(|_| if name.is_empty() { InvalidName::Empty } else { InvalidName::TooLong(name.len()) })
}

/// A user as an app names it: a text is what a person typed, a [`UserId`] is taken as it is.
pub trait ToUser {
    /// The user.
    ///
    /// # Errors
    /// As for [`user`].
    fn to_user(&self) -> Result<UserId, InvalidName>;
}

impl ToUser for str {
    fn to_user(&self) -> Result<UserId, InvalidName> {
        user(self)
    }
}

impl ToUser for String {
    fn to_user(&self) -> Result<UserId, InvalidName> {
        user(self)
    }
}

impl ToUser for UserId {
    fn to_user(&self) -> Result<UserId, InvalidName> {
        Ok(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_look_the_same_are_one_user() {
        let composed = user("\u{c4}nnchen").expect("a name");
        assert_eq!(user("A\u{308}nnchen"), Ok(composed.clone()));
        assert_eq!(composed.as_str(), "\u{c4}nnchen");
        assert_eq!(user("\u{1112}\u{1161}\u{11ab}"), user("\u{d55c}"), "Hangul");
        assert_eq!(user("bob smith").expect("a name").as_str(), "bob smith");
        assert_ne!(user("\u{ff42}ob"), user("bob"), "what looks different stays so");
    }

    #[test]
    fn each_fault_is_named() {
        assert_eq!(user(""), Err(InvalidName::Empty));
        for blank in [" bob", "bob ", "bob\u{a0}", "\u{3000}bob", " "] {
            assert_eq!(user(blank), Err(InvalidName::Blank), "{blank:?}");
        }
        for (name, control) in [("bob\n", '\n'), ("b\u{9b}ob", '\u{9b}'), ("\u{7f}", '\u{7f}')] {
            assert_eq!(user(name), Err(InvalidName::Control(control)));
        }
        assert_eq!(user("bob\n").expect_err("refused").to_string(), "the name has a control character (U+000A)");
    }

    #[test]
    fn a_name_is_as_long_as_its_nfc() {
        // 32 letters of 2 bytes, which are 3 each before they are composed.
        assert_eq!(user(&"a\u{308}".repeat(32)).expect("a name").as_str().len(), 64);
        assert_eq!(user(&"a\u{308}".repeat(33)), Err(InvalidName::TooLong(66)));
        assert_eq!(user(&"x".repeat(64)).expect("a name").as_str().len(), 64);
    }
}
