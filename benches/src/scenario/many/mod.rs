//! Thousands of small conversations at once, between people who each take part in several. Lengths of messages, times between
//! them and numbers of senders are drawn from logs of a chat channel.

mod judge;
mod mix;
mod people;
mod script;

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, ensure};

use self::{
    mix::Mix,
    script::{Line, Script},
};
use crate::{
    bare,
    check::Faults,
    crowd::{Arrival, Attended, Crowd},
    load::{self, Outcome, Pace, SETTLE, Schedule},
    relay::Relay,
    report::{Options, Report, Sample},
    stats::Latencies,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Conversations, half of them direct and half groups of 3 to 8 members.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    conversations: u32,
    /// Users, each with one connection [default: a quarter of the conversations].
    #[arg(long)]
    users: Option<u32>,
    /// Messages per second, all conversations together.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Folder with logs of an IRC channel; without logs, a built-in table is used.
    #[arg(long, default_value = "../shared/data/ubuntu-irc")]
    logs: PathBuf,
    /// Seed of the conversations; each run takes the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const QUIP: &str = "quip";
/// Users if there are few conversations.
const LEAST_USERS: u32 = 24;

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let logs = Mix::of_logs(&args.logs)?;
    let users = args.users.unwrap_or((args.conversations / 4).max(LEAST_USERS));
    let pace = Pace { rate: args.rate, seconds: args.seconds, warmup: args.warmup };
    let mut report = Report::new("many", options);
    report.setting("conversations", args.conversations);
    report.setting("users", users);
    report.setting("rate", args.rate);
    report.setting("seconds", args.seconds);
    report.setting("mix", if logs.is_some() { "logs" } else { "built-in table" });
    report.setting("seed", args.seed);
    let mix = logs.unwrap_or_else(Mix::built_in);
    for run in 0..options.runs() {
        let script = Script::draw(&mix, args.conversations, users, &pace, args.seed + u64::from(run))?;
        report.add(QUIP, measure(script, options)?);
    }
    for result in ["p50_us", "p99_us", "relay_cpu_us_per_delivery"] {
        report.result_of(QUIP, result);
    }
    report.note("latency is that of every message at every other member; delivery to senders is checked too");
    report.note("every run has another seed; offered_per_s is the rate of its script");
    Ok(report)
}

/// One run against a new relay.
fn measure(script: Script, options: &Options) -> Result<Sample> {
    let relay = Relay::start(options)?;
    bare::runtime()?.block_on(run_once(&relay, script))
}

async fn run_once(relay: &Relay, script: Script) -> Result<Sample> {
    let mut crowd = Crowd::new(relay.address.port(), relay.pid(), script.arrivals());
    let people = people::connect(relay, &script, &mut crowd).await?;
    let opened = people::open(&script, &people).await?;
    people.iter().for_each(|person| crowd.count(person.connection.clone()));
    let script = &script.starting(Instant::now() + SETTLE);
    let (mut posters, members) = people::divide(script, opened);
    members.into_iter().for_each(|member| crowd.join(|ear| member.listen(ear)));
    let attended = crowd.attend(&script, script.arrivals(), load::drive(script, &mut posters)).await?;
    summarise(script, &attended)
}

fn summarise(script: &Script, attended: &Attended) -> Result<Sample> {
    // First, because it refuses messages that were never sent.
    let faults = faults(script, &attended.arrivals)?;
    let (latency, until) = latencies(script, &attended.arrivals);
    let others = |line: &Line| script.members(line) - 1;
    let (messages, expected) = (script.measured().count(), script.measured().map(others).sum::<u64>());
    let due = script.end() - script.measured_from();
    let span = until.map_or(due, |until| due.max(until.saturating_duration_since(script.measured_from())));
    let offered = messages as f64 / due.as_secs_f64();
    let delivered = latency.count() as f64 / expected.max(1) as f64;
    let mut sample = Outcome {
        latency: &latency,
        lag: &attended.sent.lag,
        blocked: attended.sent.blocked,
        faults,
        offered,
        achieved: offered * delivered * due.as_secs_f64() / span.as_secs_f64(),
    }
    .sample();
    let bytes: usize = script.measured().map(|line| line.bytes).sum();
    sample.push("payload_mean_bytes", bytes as f64 / messages.max(1) as f64);
    sample.push("recipients_per_message", expected as f64 / messages.max(1) as f64);
    sample.push("deliveries_per_s", latency.count() as f64 / span.as_secs_f64());
    attended.add_to(&mut sample, messages as u64, latency.count(), script.deliveries());
    Ok(sample)
}

/// The conversation and the place of each recipient, in the order in which they joined.
fn seats(script: &Script) -> Vec<(u32, usize)> {
    let circles = (0..).zip(&script.circles);
    circles.flat_map(|(circle, members)| (0..members.members.len()).map(move |place| (circle, place))).collect()
}

/// The latency of every measured message at all members but its sender, and the time of the last receipt.
fn latencies(script: &Script, arrivals: &[Arrival]) -> (Latencies, Option<Instant>) {
    let (seats, mut latency, mut until) = (seats(script), Latencies::new(), None);
    for Arrival { recipient, number, at } in arrivals {
        let (_, place) = seats[*recipient as usize];
        if script.is_measured(*number) && script.lines[*number as usize].sender != place {
            latency.record(at.saturating_duration_since(script.intended(*number)));
            until = until.max(Some(*at));
        }
    }
    (latency, until)
}

/// What each conversation makes of its messages.
fn faults(script: &Script, arrivals: &[Arrival]) -> Result<Faults> {
    let seats = seats(script);
    let mut said: Vec<Vec<(u64, usize)>> = vec![Vec::new(); script.circles.len()];
    for (number, line) in (0..).zip(&script.lines) {
        said[line.circle as usize].push((number, line.sender));
    }
    let mut got: Vec<Vec<Vec<u64>>> =
        script.circles.iter().map(|circle| vec![Vec::new(); circle.members.len()]).collect();
    for Arrival { recipient, number, .. } in arrivals {
        let (circle, place) = seats[*recipient as usize];
        let line = script.lines.get(*number as usize);
        ensure!(line.is_some_and(|line| line.circle == circle), "message {number} came in another conversation");
        got[circle as usize][place].push(*number);
    }
    Ok(said.iter().zip(&got).map(|(said, got)| judge::judge(said, got)).sum())
}
