//! What was typed.

/// A typed line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Typed<'a> {
    /// Nothing to do.
    Nothing,
    /// Say this.
    Text(&'a str),
    /// Say what the commands are.
    Help,
    /// Leave the view; membership goes on.
    Quit,
    /// Say who is here.
    Who,
    /// Give one's last message new text.
    Edit(&'a str),
    /// Remove one's last message.
    Delete,
    /// React to the last message of someone else.
    React(&'a str),
    /// What is wrong with it.
    Wrong(String),
}

/// `//x` says `/x`, and `/me x` is a text that every client shows as a deed.
pub(crate) fn understand(line: &str) -> Typed<'_> {
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
        ("me", deed) if !deed.is_empty() => Typed::Text(line),
        ("edit", text) if !text.is_empty() => Typed::Edit(text),
        ("delete", "") => Typed::Delete,
        ("react", reaction) if !reaction.is_empty() => Typed::React(reaction),
        ("me" | "edit" | "delete" | "react", _) => Typed::Wrong(format!("/{name} goes like this:\n{HELP}")),
        _ => Typed::Wrong(format!("there is no /{name}; /help tells what there is, //{name} says it")),
    }
}

/// Every command.
pub(crate) const HELP: &str = "\
/who            who is here
/me TEXT        do something
/edit TEXT      change your last message
/delete         remove your last message
/react TEXT     react to the last message of someone else
/quit           leave this view (you stay a member)
//TEXT          say something that begins with a /";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_text_or_a_command() {
        assert_eq!(understand("hello\n"), Typed::Text("hello"));
        assert_eq!(understand("  "), Typed::Nothing);
        assert_eq!(understand("//quit"), Typed::Text("/quit"));
        assert_eq!(understand("/quit"), Typed::Quit);
        assert_eq!(understand("/me waves"), Typed::Text("/me waves"));
        assert_eq!(understand("/edit  new text "), Typed::Edit("new text"));
        assert_eq!(understand("/react +1"), Typed::React("+1"));
    }

    #[test]
    fn a_command_by_mistake_is_never_said() {
        for bad in ["/", "/qit", "/me", "/edit ", "/delete 5", "/react"] {
            assert!(matches!(understand(bad), Typed::Wrong(_)), "{bad}");
        }
    }
}
