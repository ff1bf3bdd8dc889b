//! Parsing of typed lines.

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Typed<'a> {
    /// A blank line.
    Nothing,
    /// Send this text.
    Text(&'a str),
    /// List the commands.
    Help,
    /// Close the view; the user stays a member.
    Quit,
    /// List the members.
    Who,
    /// Edit the message that the user typed last.
    Edit(&'a str),
    /// Delete the message that the user typed last.
    Delete,
    /// React to the last message of another user.
    React(&'a str),
    /// An invalid command, with the error.
    Wrong(String),
}

impl Typed<'_> {
    /// Whether it is about the user's own message.
    pub(crate) fn is_of_own(&self) -> bool {
        matches!(self, Self::Edit(_) | Self::Delete)
    }
}

/// Parses a line. `//x` sends `/x`; `/me x` is sent as text, which clients show as an action.
pub(crate) fn parse(line: &str) -> Typed<'_> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Typed::Nothing;
    }
    if line.starts_with("//") {
        return Typed::Text(&line[1..]);
    }
    let Some(command) = line.strip_prefix('/') else { return Typed::Text(line) };
    let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
    match (name, rest.trim()) {
        ("help" | "h" | "?", _) => Typed::Help,
        ("quit" | "q" | "exit", _) => Typed::Quit,
        ("who" | "w", _) => Typed::Who,
        ("me", action) if !action.is_empty() => Typed::Text(line),
        ("edit", text) if !text.is_empty() => Typed::Edit(text),
        ("delete", "") => Typed::Delete,
        ("react", reaction) if !reaction.is_empty() => Typed::React(reaction),
        ("me" | "edit" | "delete" | "react", _) => Typed::Wrong(format!("/{name} is used otherwise; {HELP}")),
        _ => Typed::Wrong(format!("unknown command /{name}; /help lists the commands, //{name} sends it as text")),
    }
}

/// The list of commands.
pub(crate) const HELP: &str = "\
the commands:
/who            list the members and who is online
/me TEXT        say what you do: \"/me waves\" is shown as \"* alice waves\"
/edit TEXT      replace the message that you typed last
/delete         delete the message that you typed last
/react TEXT     react to the last message of another user, for example with +1
/quit           quit the chat; you stay a member (Ctrl-C or Ctrl-D do the same)
//TEXT          send a message that begins with /";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_text_or_a_command() {
        assert_eq!(parse("hello\n"), Typed::Text("hello"));
        assert_eq!(parse("  "), Typed::Nothing);
        assert_eq!(parse("//quit"), Typed::Text("/quit"));
        assert_eq!(parse("/quit"), Typed::Quit);
        assert_eq!(parse("/me waves"), Typed::Text("/me waves"));
        assert_eq!(parse("/edit  new text "), Typed::Edit("new text"));
        assert_eq!(parse("/react +1"), Typed::React("+1"));
    }

    #[test]
    fn a_mistyped_command_is_never_sent() {
        for bad in ["/", "/qit", "/me", "/edit ", "/delete 5", "/react"] {
            assert!(matches!(parse(bad), Typed::Wrong(_)), "{bad}");
        }
    }
}
