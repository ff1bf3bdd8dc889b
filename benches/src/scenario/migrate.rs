//! A client that changes its port, or also its address, while messages flow both ways: the gap in delivery.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::sleep_until};

use super::latency;
use crate::{
    bare,
    load::{self, Pace, Plan, Received, SETTLE, Sent},
    meter::Usage,
    relay::Relay,
    report::{Options, Report, Sample},
    stats::Latencies,
    wire::Clients,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Messages per second, half in each direction; shorter gaps than their interval are not detected.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Changes of port or address in each run, evenly spaced.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Measured seconds of each row and run.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
}

/// The kind of change.
#[derive(Clone, Copy)]
enum Change {
    Nothing,
    Port,
    Address,
}

const CHANGES: [Change; 3] = [Change::Nothing, Change::Port, Change::Address];
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const MOVER: &str = "mover";
const TALKER: &str = "talker";
const LISTENER: &str = "listener";
/// One towards the client that moves, one from it.
const LANES: u32 = 2;
const GAPS_DOWN: [&str; 2] = ["gap_down_p50_ms", "gap_down_max_ms"];
const GAPS_UP: [&str; 2] = ["gap_up_p50_ms", "gap_up_max_ms"];

type Lane = (Plan, Sent, Received);

impl Change {
    fn row(self) -> &'static str {
        match self {
            Self::Nothing => "still",
            Self::Port => "port",
            Self::Address => "address",
        }
    }

    /// The client's address after the change of this number, from 0; `None` = unchanged.
    fn address(self, number: u32) -> Option<IpAddr> {
        match self {
            Self::Nothing => None,
            Self::Port => Some(HOME),
            Self::Address => Some(if number.is_multiple_of(2) { AWAY } else { HOME }),
        }
    }
}

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("migrate", options);
    let pace = Pace { rate: args.rate, seconds: args.seconds, warmup: args.warmup };
    pace.describe(&mut report);
    report.setting("changes", args.changes);
    for _ in 0..options.runs() {
        for change in CHANGES {
            report.add(change.row(), measure(&pace, args.changes, change, options)?);
        }
    }
    for (name, change) in [("port_gap_max_ms", Change::Port), ("address_gap_max_ms", Change::Address)] {
        let worst = |metric| report.spread(change.row(), metric).map(|spread| spread.max);
        let (up, down) = (worst("gap_up_max_ms"), worst("gap_down_max_ms"));
        report.result(name, up.zip(down).map(|(up, down)| up.max(down)).context("no run")?);
    }
    report.note("a gap is the longest time between two receipts after a change, less the time between two sends");
    report.note("still: the gaps without any change; up: from the client that moves, down: to it");
    report
        .note("the client is the harness's own, which reacts at once, as the client library does on network_changed()");
    Ok(report)
}

fn measure(pace: &Pace, changes: u32, change: Change, options: &Options) -> Result<Sample> {
    let relay = Relay::start(options)?;
    bare::runtime()?.block_on(run_once(&relay, pace, changes, change))
}

async fn run_once(relay: &Relay, pace: &Pace, changes: u32, change: Change) -> Result<Sample> {
    let (movers, others) = (Clients::new(relay, LANES)?, Clients::new(relay, 1)?);
    let mover = movers.connect(&relay.token(MOVER)?).await?;
    let (talker, listener) =
        (others.connect(&relay.token(TALKER)?).await?, others.connect(&relay.token(LISTENER)?).await?);
    // A conversation for each direction, in the order of [`Lanes`]; both on the connection that moves.
    let down = (talker.open_direct(MOVER, true).await?, mover.open_direct(TALKER, true).await?);
    let up = (mover.open_direct(LISTENER, true).await?, listener.open_direct(MOVER, true).await?);
    let start = Instant::now() + SETTLE;
    let mut lanes = JoinSet::new();
    for (lane, (from, to)) in (0..).zip([down, up]) {
        let plan = Plan::lane(pace, start, lane, LANES);
        lanes.spawn(async move {
            let (plan, sent, received, _) = latency::run_pair(plan, from, to, Received::traced(&plan)).await?;
            anyhow::Ok((lane, (plan, sent, received)))
        });
    }
    let whole = Plan::lane(pace, start, 0, LANES);
    let (changed, usage) = tokio::try_join!(
        change_often(&movers, whole, changes, change),
        Usage::between(whole.measured_from(), whole.end(), relay.pid()),
    )?;
    let mut finished: Vec<_> = lanes.join_all().await.into_iter().collect::<Result<_>>()?;
    finished.sort_by_key(|(lane, _)| *lane);
    let finished: Vec<Lane> = finished.into_iter().map(|(_, lane)| lane).collect();
    let mut sample = load::summarise(pace, &finished);
    for (metrics, (plan, _, received)) in [GAPS_DOWN, GAPS_UP].into_iter().zip(&finished) {
        push_gaps(&mut sample, metrics, &gaps(&changed, plan, received));
    }
    let path = mover.connection.stats().path;
    sample.push("client_lost_packets", path.lost_packets as f64);
    usage.add_to(&mut sample, load::measured(&finished));
    mover.connection.close_reason().map_or(Ok(()), Err).context("the connection did not survive")?;
    Ok(sample)
}

/// Makes the changes in the middle of equal parts of the measured time; returns their due times.
async fn change_often(movers: &Clients, plan: Plan, changes: u32, change: Change) -> Result<Vec<Instant>> {
    let part = (plan.end() - plan.measured_from()) / changes;
    let mut changed = Vec::new();
    for number in 0..changes {
        let at = plan.measured_from() + part * number + part / 2;
        sleep_until(at.into()).await;
        changed.push(Instant::now());
        change.address(number).map_or(Ok(()), |address| movers.rebind(address))?;
    }
    Ok(changed)
}

/// The longest gap of a receiver after each change and before the next, minus the time between two sends.
fn gaps(changed: &[Instant], plan: &Plan, received: &Received) -> Latencies {
    let mut gaps = Latencies::new();
    let times: Vec<Instant> = received.trace().iter().map(|(_, at)| *at).collect();
    for (number, from) in changed.iter().enumerate() {
        let to = changed.get(number + 1).copied().unwrap_or(plan.end());
        let silences = times.windows(2).filter(|pair| pair[1] > *from && pair[0] < to).map(|pair| pair[1] - pair[0]);
        // A receiver that gets nothing any more is reported as loss.
        gaps.record(silences.max().unwrap_or_default().saturating_sub(plan.gap()));
    }
    gaps
}

fn push_gaps(sample: &mut Sample, [p50, max]: [&'static str; 2], gaps: &Latencies) {
    sample.push(p50, gaps.micros(0.5) / 1e3);
    sample.push(max, gaps.max_micros() / 1e3);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn a_gap_is_what_a_change_adds_to_the_time_between_sends() {
        let start = Instant::now();
        let plan = Plan::lane(&Pace { rate: 100.0, seconds: 0.1, warmup: 0.0 }, start, 0, 1);
        let mut received = Received::traced(&plan);
        for number in 0..10 {
            let late = if number >= 5 { 30 } else { 0 };
            let at = plan.intended(number) + Duration::from_millis(late);
            received.record_at(&plan, number, at).unwrap();
        }
        let changed = [start + Duration::from_millis(15), start + Duration::from_millis(45)];
        let gaps = gaps(&changed, &plan, &received);
        assert_eq!(gaps.count(), 2);
        assert!((gaps.max_micros() - 30_000.0).abs() < 100.0, "{}", gaps.max_micros());
        let early = super::gaps(
            &changed[..1],
            &Plan::lane(&Pace { rate: 100.0, seconds: 0.03, warmup: 0.0 }, start, 0, 1),
            &received,
        );
        assert!(early.max_micros() < 100.0, "{}", early.max_micros());
    }
}
