//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use quip_client::{Trust, role};

use crate::{ending, target::TargetArg};

/// Chat over a Quip relay.
///
/// A TARGET is a room (lobby:main), a user (@bob), or a conversation id (32 hex digits, with or without a leading #; quote
/// '#...' in a shell).
///
/// To begin, start a relay with `quip-relay`, and in the same folder: quip chat lobby:main --as alice
#[derive(Debug, Parser)]
#[command(name = "quip", version, disable_help_flag = true, after_help = ending::HELP)]
pub(crate) struct Cli {
    /// Print help.
    #[arg(long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    /// The same. Commands do not have it: in them, "-hello" is no wish for help.
    #[arg(short = 'h', hide = true, action = ArgAction::HelpShort)]
    short_help: Option<bool>,
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Relay and login.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Relay and login")]
pub(crate) struct Common {
    /// Relay address; may be repeated, tried in order [default: the address in DATA/listen, else 127.0.0.1:4433].
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = relay)]
    pub(crate) relay: Vec<String>,
    /// Log in as this user, with the key in the relay's data folder (for development).
    #[arg(id = "as", long = "as", global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The relay's data folder [default: quip-data].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Log in with this token; --as takes precedence.
    #[arg(long, global = true, value_name = "TOKEN", env = "QUIP_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Trust the relay whose certificate has this SHA-256 fingerprint.
    #[arg(long, global = true, value_name = "HEX", value_parser = Trust::fingerprint, conflicts_with = "ca")]
    pub(crate) fingerprint: Option<Trust>,
    /// Trust relays whose certificate is signed by one of these authorities.
    #[arg(long, global = true, value_name = "FILE.pem")]
    pub(crate) ca: Option<PathBuf>,
    /// Store device id, unanswered messages, and the place of `tail` in this file [default: in memory].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// End after so long without a relay [default: 5 at the start, then 15; chat, tail and "send TARGET -" wait for ever].
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) wait: Option<Duration>,
    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Cli {
    /// Reads the command line. Ends the program if it is wrong, or asks for help.
    pub(crate) fn read() -> Self {
        let cli = Self::parse();
        if let Err(error) = cli.check() {
            error.exit();
        }
        cli
    }

    /// What clap cannot check: options may stand before the subcommand too.
    fn check(&self) -> Result<(), clap::Error> {
        match &self.command {
            Command::Tail(TailArgs { from: From::Last, .. }) if self.common.state.is_none() => Err(Self::command()
                .error(
                    ErrorKind::MissingRequiredArgument,
                    "--from last needs --state FILE, which stores where the last tail ended",
                )),
            _ => Ok(()),
        }
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Chat interactively; /help lists the commands.
    Chat(ChatArgs),
    /// Send messages, wait until they are durable, and print the seq of each.
    Send(SendArgs),
    /// Print events as they arrive.
    Tail(TailArgs),
    /// Print past events.
    History(HistoryArgs),
    /// List your conversations with unread counts.
    List,
    /// Create groups; manage and leave groups and rooms.
    Group {
        /// What to do with the group.
        #[command(subcommand)]
        action: GroupAction,
    },
}

impl Command {
    /// Whether it moves the places in the state file.
    pub(crate) fn follows(&self) -> bool {
        matches!(self, Self::Tail(_))
    }

    /// How long the relay may be away; `None` = for ever.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let stays = match self {
            Self::Chat(_) | Self::Tail(_) => true,
            Self::Send(args) => args.is_stream(),
            _ => false,
        };
        (!stays).then_some(PATIENCE)
    }
}

/// Arguments of `chat`.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The conversation; joined if necessary.
    pub(crate) target: TargetArg,
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The conversation; joined if necessary.
    pub(crate) target: TargetArg,
    /// The message; "-" sends each line of standard input. Put "--" before a message that begins with a dash, and
    /// all options before that.
    #[arg(required = true, num_args = 1..)]
    pub(crate) text: Vec<String>,
}

impl SendArgs {
    /// Whether each line of standard input is a message.
    pub(crate) fn is_stream(&self) -> bool {
        self.text == ["-"]
    }
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// The conversation; joined if necessary.
    pub(crate) target: TargetArg,
    /// Where to start: "now", "beginning", a seq, or "last": after what the last tail with this --state file printed (the
    /// first time, "beginning").
    #[arg(long, value_name = "WHERE", default_value = "now", value_parser = from)]
    pub(crate) from: From,
    /// Stop after this many events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// Where `tail` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// The oldest stored event.
    Beginning,
    /// New events only.
    Now,
    /// After what was printed last.
    Last,
    /// The event with this seq.
    Seq(u64),
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The conversation.
    pub(crate) target: TargetArg,
    /// Maximum number of events.
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "all")]
    pub(crate) last: u64,
    /// Only events before this seq.
    #[arg(long, value_name = "SEQ", conflicts_with = "after")]
    pub(crate) before: Option<u64>,
    /// Only events after this seq.
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<u64>,
    /// All events.
    #[arg(long)]
    pub(crate) all: bool,
}

/// The subcommands of `group`.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupAction {
    /// Create a group and print its id.
    Create {
        /// Its title.
        title: Option<String>,
        /// An initial member; may be repeated.
        #[arg(long, value_name = "USER")]
        add: Vec<String>,
    },
    /// Add a member, or lift a ban. Users join rooms by themselves.
    Add {
        /// The group or room.
        group: TargetArg,
        /// The user.
        user: String,
    },
    /// Remove a member.
    Remove {
        /// The group or room.
        group: TargetArg,
        /// The user.
        user: String,
        /// Also ban the user until added again.
        #[arg(long)]
        ban: bool,
    },
    /// Leave a group or room.
    Leave {
        /// The group or room.
        group: TargetArg,
    },
    /// Change a member's role.
    Role {
        /// The group or room.
        group: TargetArg,
        /// The member.
        user: String,
        /// The new role.
        role: Role,
    },
    /// List the members.
    Members {
        /// The group or room, or a direct conversation.
        group: TargetArg,
    },
    /// Change the title.
    Title {
        /// The group or room.
        group: TargetArg,
        /// The new title.
        title: String,
    },
}

/// The role of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// May read and post.
    Member,
    /// May also add and remove members, and delete others' messages.
    Admin,
    /// May do everything, including changing roles.
    Owner,
}

impl Role {
    /// One of [`quip_client::role`].
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Member => role::MEMBER,
            Self::Admin => role::ADMIN,
            Self::Owner => role::OWNER,
        }
    }
}

fn relay(text: &str) -> Result<String, &'static str> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    good.then(|| text.to_owned()).ok_or("expected HOST:PORT, such as 127.0.0.1:4433")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (1..=u64::from(u32::MAX)).contains(seconds));
    seconds.map(Duration::from_secs).ok_or("expected a number of seconds, 1 or more")
}

fn from(text: &str) -> Result<From, &'static str> {
    match text {
        "beginning" => Ok(From::Beginning),
        "now" => Ok(From::Now),
        "last" => Ok(From::Last),
        seq => seq.parse().map(From::Seq).map_err(|_| "expected now, beginning, last, or a seq"),
    }
}

/// How long a command that does one thing waits for a relay that has gone away.
const PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_follow_the_subcommand() {
        for order in [["--as", "alice", "hello", "there"], ["hello", "there", "--as", "alice"]] {
            let cli = Cli::try_parse_from([&["quip", "send", "lobby:main"], &order[..]].concat()).unwrap();
            assert_eq!(cli.common.user.as_deref(), Some("alice"));
            let Command::Send(args) = cli.command else { panic!("not send") };
            assert_eq!(args.text, ["hello", "there"]);
        }
    }

    #[test]
    fn the_user_argument_is_not_the_login() {
        let group = format!("02{}", "ab".repeat(15));
        for action in [vec!["add", &group, "bob"], vec!["remove", &group, "bob"], vec!["role", &group, "bob", "admin"]]
        {
            let cli = Cli::try_parse_from([&["quip", "group"], &action[..], &["--as", "alice"]].concat()).unwrap();
            assert_eq!(cli.common.user.as_deref(), Some("alice"), "{action:?}");
        }
    }

    #[test]
    fn a_dash_means_standard_input() {
        let cli = Cli::try_parse_from(["quip", "send", "@bob", "-"]).unwrap();
        assert!(matches!(cli.command, Command::Send(args) if args.text == ["-"]));
    }

    #[test]
    fn relays_have_a_port() {
        assert!(relay("[::1]:4433").is_ok());
        for bad in ["localhost", ":4433", "localhost:", "localhost:70000"] {
            assert!(relay(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tail_has_four_kinds_of_start() {
        assert_eq!(from("beginning"), Ok(From::Beginning));
        assert_eq!(from("17"), Ok(From::Seq(17)));
        assert!(from("yesterday").is_err());
        for (state, fine) in [(&["--state", "f"][..], true), (&[], false)] {
            let cli = Cli::try_parse_from([&["quip"], state, &["tail", "@bob", "--from", "last"]].concat()).unwrap();
            assert_eq!(cli.check().is_ok(), fine, "{state:?}");
        }
    }

    #[test]
    fn a_text_that_begins_with_a_dash_is_never_an_option() {
        for line in
            [&["send", "@bob", "-hello"][..], &["send", "@bob", "oh", "-haha"], &["group", "title", "@bob", "-h"]]
        {
            let error = Cli::try_parse_from([&["quip"], line].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}: {error}");
        }
        let cli = Cli::try_parse_from(["quip", "send", "@bob", "--", "-hello"]).unwrap();
        assert!(matches!(cli.command, Command::Send(args) if args.text == ["-hello"]));
        for asked in [&["-h"][..], &["--help"], &["send", "--help"], &["group", "title", "--help"]] {
            assert_eq!(Cli::try_parse_from([&["quip"], asked].concat()).unwrap_err().exit_code(), 0, "{asked:?}");
        }
    }
}
