//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quip_client::role;

use crate::target::{GroupId, TargetArg};

/// Chat over a Quip relay.
///
/// A TARGET is a room (lobby:main), a user (@bob) or the id of a conversation (32 hex digits, with or without a # before
/// them; a shell needs quotes around '#...').
#[derive(Debug, Parser)]
#[command(name = "quip", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which relay, and as whom.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Relay and login")]
pub(crate) struct Common {
    /// The relay; several are tried in turn [default: what DATA/listen says, else 127.0.0.1:4433].
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = relay)]
    pub(crate) relay: Vec<String>,
    /// Log in as this user with the key in the relay's data folder (for development).
    #[arg(id = "as", long = "as", global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The relay's data folder [default: quip-data].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Log in with this token; --as wins over it.
    #[arg(long, global = true, value_name = "TOKEN", env = "QUIP_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Trust the relay whose certificate has this SHA-256.
    #[arg(long, global = true, value_name = "HEX", value_parser = fingerprint, conflicts_with = "ca")]
    pub(crate) fingerprint: Option<[u8; 32]>,
    /// Trust relays whose certificate these authorities signed.
    #[arg(long, global = true, value_name = "FILE.pem")]
    pub(crate) ca: Option<PathBuf>,
    /// Keep device, cursors and unanswered messages in this file [default: in memory].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Talk: shows what is said and sends what is typed. /help tells more.
    Chat(ChatArgs),
    /// Send messages and wait until they are stored; prints the seq of each.
    Send(SendArgs),
    /// Print events as they come.
    Tail(TailArgs),
    /// Print events from the past.
    History(HistoryArgs),
    /// Print one's conversations, with what is unread.
    List,
    /// Make and manage groups.
    Group {
        /// What to do.
        #[command(subcommand)]
        action: GroupAction,
    },
}

/// Where to talk.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The conversation; joined when needed.
    pub(crate) target: TargetArg,
}

/// What to send where.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The conversation; joined when needed.
    pub(crate) target: TargetArg,
    /// The message; "-" sends each line of standard input as one. Put "--" before one that begins with a dash.
    #[arg(required = true, num_args = 1..)]
    pub(crate) text: Vec<String>,
}

/// What to follow.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// The conversation; joined when needed.
    pub(crate) target: TargetArg,
    /// Where to start: "beginning", "now", or a seq.
    #[arg(long, value_name = "WHERE", default_value = "now", value_parser = from)]
    pub(crate) from: From,
    /// Stop after so many events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// Where `tail` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// The oldest event that is kept.
    Beginning,
    /// What comes next.
    Now,
    /// This seq.
    Seq(u64),
}

/// Which part of the past.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The conversation.
    pub(crate) target: TargetArg,
    /// How many events.
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "all")]
    pub(crate) last: u64,
    /// Those before this seq.
    #[arg(long, value_name = "SEQ", conflicts_with = "after")]
    pub(crate) before: Option<u64>,
    /// Those after this seq.
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<u64>,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
}

/// What to do with a group.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupAction {
    /// Make a group; prints its id.
    Create {
        /// Its title.
        title: Option<String>,
        /// A first member. Can be given several times.
        #[arg(long, value_name = "USER")]
        add: Vec<String>,
    },
    /// Add a member.
    Add {
        /// The group.
        group: GroupId,
        /// Who.
        user: String,
    },
    /// Remove a member.
    Remove {
        /// The group.
        group: GroupId,
        /// Who.
        user: String,
        /// Keep them out until they are added again.
        #[arg(long)]
        ban: bool,
    },
    /// Leave.
    Leave {
        /// The group.
        group: GroupId,
    },
    /// Change a member's role.
    Role {
        /// The group.
        group: GroupId,
        /// Whose.
        user: String,
        /// The new role.
        role: Role,
    },
    /// Print the members.
    Members {
        /// The group, or any other conversation.
        group: TargetArg,
    },
    /// Change the title.
    Title {
        /// The group.
        group: GroupId,
        /// The new title.
        title: String,
    },
}

/// What a member of a group may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Reads and posts.
    Member,
    /// Adds and removes members, deletes others' messages.
    Admin,
    /// Everything, roles included.
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
    good.then(|| text.to_owned()).ok_or("write host:port, such as 127.0.0.1:4433")
}

/// 64 hex digits; colons between bytes, as other tools print them, are fine.
pub(crate) fn fingerprint(text: &str) -> Result<[u8; 32], &'static str> {
    let digits: String = text.trim().chars().filter(|digit| *digit != ':').collect();
    let mut bytes = [0; 32];
    let good = digits.len() == 64 && crate::target::decode_hex(&digits, &mut bytes);
    good.then_some(bytes).ok_or("a fingerprint is 64 hex digits; the relay's machine has it in DATA/fingerprint")
}

fn from(text: &str) -> Result<From, &'static str> {
    match text {
        "beginning" => Ok(From::Beginning),
        "now" => Ok(From::Now),
        seq => seq.parse().map(From::Seq).map_err(|_| "write beginning, now, or the seq of an event"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_after_the_subcommand() {
        for order in [["--as", "alice", "hello", "there"], ["hello", "there", "--as", "alice"]] {
            let cli = Cli::try_parse_from([&["quip", "send", "lobby:main"], &order[..]].concat()).unwrap();
            assert_eq!(cli.common.user.as_deref(), Some("alice"));
            let Command::Send(args) = cli.command else { panic!("not send") };
            assert_eq!(args.text, ["hello", "there"]);
        }
    }

    #[test]
    fn a_user_in_a_command_is_not_the_one_who_gives_it() {
        let group = format!("02{}", "ab".repeat(15));
        for action in [vec!["add", &group, "bob"], vec!["remove", &group, "bob"], vec!["role", &group, "bob", "admin"]]
        {
            let cli = Cli::try_parse_from([&["quip", "group"], &action[..], &["--as", "alice"]].concat()).unwrap();
            assert_eq!(cli.common.user.as_deref(), Some("alice"), "{action:?}");
        }
    }

    #[test]
    fn standard_input_can_be_asked_for() {
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
    fn fingerprints_are_as_other_tools_print_them() {
        let plain = "ab".repeat(32);
        let colons = ["AB"; 32].join(":");
        assert_eq!(fingerprint(&plain).unwrap(), [0xab; 32]);
        assert_eq!(fingerprint(&colons).unwrap(), [0xab; 32]);
        assert!(fingerprint(&plain[1..]).is_err());
        assert!(fingerprint(&"xy".repeat(32)).is_err());
        assert!(fingerprint(&"é".repeat(32)).is_err());
    }

    #[test]
    fn tail_starts_where_it_is_told() {
        assert_eq!(from("beginning"), Ok(From::Beginning));
        assert_eq!(from("17"), Ok(From::Seq(17)));
        assert!(from("yesterday").is_err());
    }
}
