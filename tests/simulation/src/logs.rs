//! The logs of a relay, one after the other: one that is restored from a backup has another log than before.

use std::time::Duration;

use quip_order::Ordered;
use quip_protocol::ConversationId;

use crate::truth::{Conversation, Truth};

/// Every log of a run.
#[derive(Default)]
pub struct Logs(Vec<Log>);

/// One log.
pub struct Log {
    /// Its identity.
    pub generation: u64,
    /// What was decided in it.
    pub truth: Truth,
    /// From when on it was the relay's, since the start of the run.
    since: Duration,
    /// Until when.
    until: Duration,
    /// What was handed out of it, and when first.
    commands: Vec<(Duration, Ordered)>,
}

/// How what was handed out fits what was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is the next one.
    New,
    /// It was handed out before, as a restart does.
    Known,
    /// Something else was handed out there before, or something is missing before it.
    Other,
}

impl Logs {
    /// The relay has another log, which begins with the first `kept` commands of the one before. Gives these.
    pub fn begin(&mut self, generation: u64, kept: usize, now: Duration) -> Vec<Ordered> {
        let mut log = Log {
            generation,
            truth: Truth::default(),
            since: now,
            until: Duration::MAX,
            commands: self.0.last().map_or_else(Vec::new, |before| before.commands[..kept].to_vec()),
        };
        for (at, ordered) in &log.commands {
            log.truth.apply(ordered, *at);
        }
        if let Some(before) = self.0.last_mut() {
            before.until = now;
        }
        let commands = log.commands.iter().map(|(_, ordered)| ordered.clone()).collect();
        self.0.push(log);
        commands
    }

    /// Something was handed out as durable.
    pub fn follow(&mut self, ordered: &Ordered, now: Duration) -> Place {
        let Some(log) = self.0.last_mut() else { return Place::Other };
        let known = usize::try_from(ordered.position).ok().and_then(|at| log.commands.get(at.checked_sub(1)?));
        match known {
            Some((_, known)) if known == ordered => Place::Known,
            None if ordered.position == log.commands.len() as u64 + 1 => {
                log.truth.apply(ordered, now);
                log.commands.push((now, ordered.clone()));
                Place::New
            }
            _ => Place::Other,
        }
    }

    /// The log that the relay has now.
    pub fn current(&self) -> &Log {
        self.0.last().expect("a relay has a log")
    }

    /// The log with this identity, if the relay had it by `now`.
    pub fn get(&self, generation: u64, now: Duration) -> Option<&Log> {
        self.0.iter().find(|log| log.generation == generation && log.since <= now)
    }

    /// The logs that the relay had at some time from `since` to `until`.
    pub fn between(&self, since: Duration, until: Duration) -> impl Iterator<Item = &Log> {
        self.0.iter().filter(move |log| log.since <= until && since <= log.until)
    }

    /// A conversation in each of these logs that has it.
    pub fn conversation(
        &self,
        id: ConversationId,
        since: Duration,
        until: Duration,
    ) -> impl Iterator<Item = &Conversation> {
        self.between(since, until).filter_map(move |log| log.truth.conversations.get(&id))
    }
}

impl Log {
    /// How many commands were handed out of it.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether nothing was handed out of it.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// When it took the place of another.
    pub fn restored(&self) -> Option<Duration> {
        (self.since > Duration::ZERO).then_some(self.since)
    }
}

#[cfg(test)]
mod tests {
    use quip_core::Command;
    use quip_protocol::UserId;

    use super::*;

    fn ordered(position: u64, at: u64) -> Ordered {
        Ordered { position, at, command: Command::seen(UserId::parse("alice").unwrap(), at) }
    }

    fn follow(logs: &mut Logs, commands: &[(u64, u64)]) -> Vec<Place> {
        commands.iter().map(|(position, at)| logs.follow(&ordered(*position, *at), Duration::ZERO)).collect()
    }

    #[test]
    fn the_same_again_is_known_and_another_is_not() {
        let mut logs = Logs::default();
        logs.begin(1, 0, Duration::ZERO);
        let places = follow(&mut logs, &[(1, 1), (2, 2), (1, 1), (2, 2), (3, 3), (2, 3), (5, 5)]);
        use Place::{Known, New, Other};
        assert_eq!(places, [New, New, Known, Known, New, Other, Other]);
    }

    #[test]
    fn a_restored_log_begins_with_what_it_kept() {
        let mut logs = Logs::default();
        logs.begin(1, 0, Duration::ZERO);
        follow(&mut logs, &[(1, 1), (2, 2)]);
        assert_eq!(logs.begin(2, 1, Duration::from_secs(1)), [ordered(1, 1)]);
        assert_eq!(follow(&mut logs, &[(1, 1), (2, 9)]), [Place::Known, Place::New]);
        let generations = |since, until| {
            let [since, until] = [since, until].map(Duration::from_secs);
            logs.between(since, until).map(|log| log.generation).collect::<Vec<_>>()
        };
        assert_eq!((generations(0, 0), generations(0, 2), generations(2, 3)), (vec![1], vec![1, 2], vec![2]));
    }
}
