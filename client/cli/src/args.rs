//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quip_client::{Trust, role};

use crate::target::TargetArg;

/// Chat over a Quip relay.
///
/// A TARGET is a room (lobby:main), a user (@bob), or a conversation id (32 hex digits, with or without a leading #; quote
/// '#...' in a shell).
#[derive(Debug, Parser)]
#[command(name = "quip", version)]
pub(crate) struct Cli {
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
    /// Store device id, cursors and unanswered messages in this file [default: in memory].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
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
    /// The message; "-" sends each line of standard input. Put "--" before a message that begins with a dash.
    #[arg(required = true, num_args = 1..)]
    pub(crate) text: Vec<String>,
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// The conversation; joined if necessary.
    pub(crate) target: TargetArg,
    /// Where to start: "beginning", "now", or a seq.
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

fn from(text: &str) -> Result<From, &'static str> {
    match text {
        "beginning" => Ok(From::Beginning),
        "now" => Ok(From::Now),
        seq => seq.parse().map(From::Seq).map_err(|_| "expected beginning, now, or a seq"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

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
    fn tail_has_three_kinds_of_start() {
        assert_eq!(from("beginning"), Ok(From::Beginning));
        assert_eq!(from("17"), Ok(From::Seq(17)));
        assert!(from("yesterday").is_err());
    }
}
