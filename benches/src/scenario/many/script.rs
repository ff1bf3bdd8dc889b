//! The conversations and messages of a run, drawn from a mix with a seed before anything runs.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;

use super::mix::Mix;
use crate::load::{Pace, Schedule};

/// Share of conversations that have two members.
const DIRECT: f64 = 0.5;
/// Members of the others.
const GROUP: std::ops::RangeInclusive<usize> = 3..=8;
/// Maximum mean number of gaps before the load begins.
const EARLIER: f64 = 50.0;
/// A message contains at least its number.
pub(super) const LEAST_BYTES: usize = 8;

/// The users of a conversation.
#[derive(Debug, PartialEq)]
pub(super) struct Circle {
    /// Users by number; the first creates it.
    pub(super) members: Vec<u32>,
    /// The number of senders; they are the first users.
    senders: usize,
}

/// A message of the script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// Time since the start of the load.
    at: Duration,
    pub(super) circle: u32,
    /// The place of the sender among the members.
    pub(super) sender: usize,
    pub(super) bytes: usize,
}

/// The script of a run. Messages are numbered by their index in `lines`, which are in order of time.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) users: u32,
    pub(super) circles: Vec<Circle>,
    pub(super) lines: Vec<Line>,
    warmup: Duration,
    length: Duration,
    start: Instant,
}

impl Script {
    pub(super) fn draw(mix: &Mix, conversations: u32, users: u32, pace: &Pace, seed: u64) -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let circles = circles(mix, conversations, users, &mut random)?;
        let warmup = Duration::from_secs_f64(pace.warmup);
        let length = warmup + Duration::from_secs_f64(pace.seconds);
        let mean_gap = f64::from(conversations) / pace.rate;
        let mut lines = Vec::new();
        for (number, circle) in (0..).zip(&circles) {
            lines.extend(talk(mix, number, circle, mean_gap, length, &mut random));
        }
        lines.sort_by_key(|line| line.at);
        ensure!(!lines.is_empty(), "no messages in this time at this rate");
        Ok(Self { users, circles, lines, warmup, length, start: Instant::now() })
    }

    /// The same from another start.
    pub(super) fn starting(self, start: Instant) -> Self {
        Self { start, ..self }
    }

    /// Number of deliveries of all messages, including those to senders.
    pub(super) fn arrivals(&self) -> u64 {
        self.lines.iter().map(|line| self.members(line)).sum()
    }

    /// Number of deliveries to others than the sender.
    pub(super) fn deliveries(&self) -> u64 {
        self.arrivals() - self.total()
    }

    pub(super) fn measured(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.at >= self.warmup)
    }

    pub(super) fn members(&self, line: &Line) -> u64 {
        self.circles[line.circle as usize].members.len() as u64
    }
}

impl Schedule for &Script {
    fn total(&self) -> u64 {
        self.lines.len() as u64
    }

    fn intended(&self, number: u64) -> Instant {
        self.start + self.lines[number as usize].at
    }

    fn is_measured(&self, number: u64) -> bool {
        self.lines[number as usize].at >= self.warmup
    }

    fn measured_from(&self) -> Instant {
        self.start + self.warmup
    }

    fn end(&self) -> Instant {
        self.start + self.length
    }
}

fn circles(mix: &Mix, conversations: u32, users: u32, random: &mut ChaCha8Rng) -> Result<Vec<Circle>> {
    let pairs = u64::from(users) * u64::from(users - 1) / 2;
    ensure!(users as usize >= *GROUP.end(), "there are groups of {}: --users {users} is too few", GROUP.end());
    ensure!(pairs >= 2 * u64::from(conversations), "{users} users are too few for {conversations} conversations");
    let mut direct = HashSet::new();
    let mut circles = Vec::with_capacity(conversations as usize);
    while circles.len() < conversations as usize {
        let size = if random.random_bool(DIRECT) { 2 } else { random.random_range(GROUP) };
        let members: Vec<u32> = index::sample(random, users as usize, size).iter().map(|user| user as u32).collect();
        // Two users have only one direct conversation.
        if size == 2 && !direct.insert([members[0].min(members[1]), members[0].max(members[1])]) {
            continue;
        }
        let senders = (mix.senders.at(random.random()).round() as usize).clamp(1, size);
        circles.push(Circle { members, senders });
    }
    Ok(circles)
}

/// The messages of one conversation, in order of time.
fn talk(
    mix: &Mix,
    number: u32,
    circle: &Circle,
    mean_gap: f64,
    length: Duration,
    random: &mut ChaCha8Rng,
) -> Vec<Line> {
    let unit = mean_gap / mix.gap.mean();
    let mut lines = Vec::new();
    // The conversation began earlier, so the load begins within a gap, and more often within a long one.
    let mut at = -EARLIER * mean_gap * random.random_range(0.5..1.0);
    while at < length.as_secs_f64() {
        if at < 0.0 {
            at += unit * mix.gap.at(random.random());
            continue;
        }
        let bytes = (mix.bytes.at(random.random()).round() as usize).max(LEAST_BYTES);
        let sender = random.random_range(0..circle.senders);
        lines.push(Line { at: Duration::from_secs_f64(at), circle: number, sender, bytes });
        at += unit * mix.gap.at(random.random());
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PACE: Pace = Pace { rate: 1000.0, seconds: 8.0, warmup: 2.0 };

    fn script(seed: u64) -> Script {
        Script::draw(&Mix::built_in(), 500, 100, &PACE, seed).unwrap()
    }

    #[test]
    fn a_seed_decides_everything() {
        let (one, same, other) = (script(1), script(1), script(2));
        assert!(one.circles == same.circles && one.lines == same.lines);
        assert!(one.circles != other.circles && one.lines != other.lines);
    }

    #[test]
    fn a_script_is_what_was_asked_for() {
        let script = script(3);
        let rate = script.lines.len() as f64 / 10.0;
        assert!((rate - PACE.rate).abs() < 0.1 * PACE.rate, "{rate} messages per second");
        assert!(script.lines.is_sorted_by_key(|line| line.at));
        let sizes: HashSet<_> = script.circles.iter().map(|circle| circle.members.len()).collect();
        assert_eq!(sizes, (2..=8).collect());
        let mut pairs = HashSet::new();
        for circle in &script.circles {
            let members: HashSet<_> = circle.members.iter().copied().collect();
            assert!(members.len() == circle.members.len() && members.iter().all(|member| *member < 100));
            assert!(
                circle.members.len() > 2
                    || pairs.insert(members.iter().sum::<u32>() * 1000 + members.iter().min().unwrap())
            );
        }
        let talking: HashSet<_> = script.lines.iter().map(|line| (line.circle, line.sender)).collect();
        assert!(talking.iter().all(|(circle, sender)| *sender < script.circles[*circle as usize].members.len()));
        assert!(script.deliveries() > script.lines.len() as u64);
        assert_eq!(script.arrivals(), script.deliveries() + script.lines.len() as u64);
        assert!(script.measured().count() < script.lines.len());
    }

    #[test]
    fn too_few_users_are_an_error() {
        assert!(Script::draw(&Mix::built_in(), 10, 7, &PACE, 1).is_err());
        assert!(Script::draw(&Mix::built_in(), 1000, 20, &PACE, 1).is_err());
    }
}
