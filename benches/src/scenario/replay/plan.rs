//! Turns the entries of a log into a schedule for each user.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use quip_client::UserId;
use quip_protocol::limit;

use super::parse::{Act, Entry};

/// The schedule of one file.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The users, each with a connection of its own.
    pub(crate) actors: Vec<UserId>,
    /// Their actions in order of time. Remaining members leave at the end.
    pub(crate) steps: Vec<Step>,
    /// Number of messages among the steps.
    pub(crate) lines: usize,
}

/// One action of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Time from the start of the file, at the speed of the replay.
    pub(crate) at: Duration,
    /// Index of the user in [`Plan::actors`].
    pub(crate) actor: usize,
    /// The action.
    pub(crate) action: Action,
}

/// An action of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Connects, ahead of its first action.
    Connect,
    /// Joins the room.
    Join,
    /// Sends a message.
    Say(Box<str>),
    /// Leaves the room, and stays connected.
    Leave,
}

/// Plans a file at `speed` times real time, up to `most` messages.
pub(crate) fn plan(entries: Vec<Entry>, speed: f64, most: usize) -> Plan {
    let mut planner = Planner { speed, ..Planner::default() };
    for Entry { at, act } in entries {
        if planner.lines >= most {
            break;
        }
        planner.act(at, act);
    }
    // A stable sort keeps the order of a user's actions at one time.
    planner.steps.sort_by_key(|step| step.at);
    Plan { actors: planner.actors, steps: planner.steps, lines: planner.lines }
}

#[derive(Default)]
struct Planner {
    speed: f64,
    actors: Vec<UserId>,
    /// The state of each actor.
    states: Vec<State>,
    /// The current actor of each nick.
    nicks: HashMap<String, usize>,
    taken: HashSet<UserId>,
    steps: Vec<Step>,
    lines: usize,
}

#[derive(Default)]
struct State {
    member: bool,
    /// When the actor last left.
    left: Duration,
}

impl Planner {
    fn act(&mut self, at: Duration, act: Act) {
        let at = LEAD + at.div_f64(self.speed);
        match act {
            Act::Say(nick, text) => {
                let actor = self.actor(&nick, at);
                // A user who was present before the log begins joins ahead of the first message.
                self.join(actor, at.saturating_sub(LEAD / 2).max(self.states[actor].left));
                self.step(at, actor, Action::Say(text.into()));
                self.lines += 1;
            }
            Act::Join(nick) => {
                let actor = self.actor(&nick, at);
                self.join(actor, at);
            }
            Act::Leave(nick) => self.leave(&nick, at),
            Act::Rename(old, new) => {
                // A nick that did nothing yet has no actor.
                if let Some(actor) = self.nicks.remove(&old) {
                    self.nicks.insert(new, actor);
                }
            }
        }
    }

    /// The actor of this nick; a new one connects ahead of time.
    fn actor(&mut self, nick: &str, at: Duration) -> usize {
        if let Some(actor) = self.nicks.get(nick) {
            return *actor;
        }
        let actor = self.actors.len();
        let user = self.free(nick);
        self.taken.insert(user.clone());
        self.actors.push(user);
        self.states.push(State::default());
        self.nicks.insert(nick.to_owned(), actor);
        self.step(at.saturating_sub(LEAD), actor, Action::Connect);
        actor
    }

    /// An unused user id for a nick. Its own may belong to a user who has changed nick.
    fn free(&self, nick: &str) -> UserId {
        let mut user = user_id(nick, "");
        for other in 2.. {
            if !self.taken.contains(&user) {
                break;
            }
            user = user_id(nick, &format!("~{other}"));
        }
        user
    }

    fn join(&mut self, actor: usize, at: Duration) {
        if !self.states[actor].member {
            self.states[actor].member = true;
            self.step(at, actor, Action::Join);
        }
    }

    fn leave(&mut self, nick: &str, at: Duration) {
        let Some(&actor) = self.nicks.get(nick) else { return };
        if self.states[actor].member {
            self.states[actor] = State { member: false, left: at };
            self.step(at, actor, Action::Leave);
        }
    }

    fn step(&mut self, at: Duration, actor: usize, action: Action) {
        self.steps.push(Step { at, actor, action });
    }
}

/// The nick without control characters, truncated to the length of a user id.
fn user_id(nick: &str, suffix: &str) -> UserId {
    let clean: String = nick.chars().filter(|c| !c.is_control()).collect();
    let clean = if clean.is_empty() { "_" } else { &clean };
    let cut = clean.floor_char_boundary(limit::USER - suffix.len());
    UserId::parse(&format!("{}{suffix}", &clean[..cut]))
        .expect("not empty, short enough, and free of control characters")
}

/// How long before its first action a user connects, and when the first line of a file is due. Connecting takes milliseconds;
/// the rest is for many at once.
pub(crate) const LEAD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::replay::parse::parse;

    fn planned(log: &str) -> Plan {
        plan(parse(log.as_bytes()), 60.0, usize::MAX)
    }

    /// Milliseconds from when the first line is due, who, and what.
    fn steps(plan: &Plan) -> Vec<(i64, &str, Action)> {
        let time = |at: Duration| at.as_millis() as i64 - LEAD.as_millis() as i64;
        plan.steps.iter().map(|step| (time(step.at), plan.actors[step.actor].as_str(), step.action.clone())).collect()
    }

    fn say(text: &str) -> Action {
        Action::Say(text.into())
    }

    #[test]
    fn who_speaks_without_having_joined_is_there_in_time() {
        let plan = planned("[10:00] <alice> 1\n[10:01] <alice> 2\n[10:01] <alice> 3\n[10:02] <bob> 4\n");
        let expected = [
            (-1000, "alice", Action::Connect),
            (-500, "alice", Action::Join),
            (0, "alice", say("1")),
            (1000, "alice", say("2")),
            (1000, "bob", Action::Connect),
            (1500, "alice", say("3")),
            (1500, "bob", Action::Join),
            (2000, "bob", say("4")),
        ];
        assert_eq!(steps(&plan), expected);
        assert_eq!(plan.lines, 4);
    }

    #[test]
    fn joins_and_leaves_happen_when_the_log_says() {
        let plan = planned(
            "[10:00] <x> -\n=== alice [h] has joined #ubuntu\n[10:02] <alice> 1\n[10:02] <x> -\n[10:02] <x> -\n=== alice [h] has left #ubuntu []\n\
             [10:03] <alice> 2\n=== nobody [h] has left #ubuntu []\n",
        );
        let alice: Vec<_> = steps(&plan).into_iter().filter(|step| step.1 == "alice").collect();
        let expected = [
            (-500, "alice", Action::Connect),
            (500, "alice", Action::Join),
            (2000, "alice", say("1")),
            (2750, "alice", Action::Leave),
            (2750, "alice", Action::Join),
            (3000, "alice", say("2")),
        ];
        assert_eq!(alice, expected);
        assert_eq!(plan.actors.len(), 2);
    }

    #[test]
    fn one_who_joins_twice_joins_once() {
        let plan = planned("[10:00] <a> 1\n=== a [h] has joined #ubuntu\n=== a [h] has joined #ubuntu\n");
        assert_eq!(plan.steps.iter().filter(|step| step.action == Action::Join).count(), 1);
    }

    #[test]
    fn a_rename_changes_the_nick_and_not_the_user() {
        let plan = planned(
            "[10:00] <tux_> 1\n=== tux_ is now known as tux\n[10:01] <tux> 2\n[10:02] <tux_> 3\n=== ghost is now known as g\n\
             [10:03] <g> 4\n",
        );
        let said: Vec<_> = steps(&plan).into_iter().filter(|step| matches!(step.2, Action::Say(_))).collect();
        let by: Vec<_> = said.iter().map(|step| step.1).collect();
        assert_eq!(by, ["tux_", "tux_", "tux_~2", "g"], "the first tux_ keeps its user id under the new nick");
    }

    #[test]
    fn a_nick_that_is_no_user_id_becomes_one() {
        assert_eq!(user_id("a\u{1}b", "").as_str(), "ab");
        assert_eq!(user_id("\u{1}", "").as_str(), "_");
        assert_eq!(user_id(&"é".repeat(40), "~2").as_str(), format!("{}~2", "é".repeat(31)));
    }

    #[test]
    fn a_limit_ends_the_plan_early() {
        let plan = plan(parse(b"[10:00] <a> 1\n[10:00] <b> 2\n=== c [h] has joined #ubuntu\n[10:01] <a> 3\n"), 1.0, 2);
        assert_eq!((plan.lines, plan.actors.len()), (2, 2));
    }
}
