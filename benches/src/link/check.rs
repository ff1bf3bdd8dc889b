//! Measures a link with real traffic, and compares it with its parameters.

use std::{thread, time::Duration};

use anyhow::Result;
use quip_link::{Bottleneck, Chance, Direction, Link, Params};

use super::{
    Args, add_counts,
    probe::{self, Arrivals, DATAGRAM, HEADERS},
    report,
};
use crate::report::{Options, Report, Sample};

/// Interval of datagrams, unless the bottleneck needs a longer one.
const GAP: Duration = Duration::from_millis(1);
/// Factor over the rate that is offered to a bottleneck, to check that it limits.
const OFFERED: f64 = 1.25;

pub(super) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = report(args, options);
    let params = args.params();
    let span = Duration::from_secs_f64(args.seconds);
    for run in 0..options.runs() {
        // Each run has its own seed, which is the same in the next check.
        let link = Link::start(&params, args.network.seed + u64::from(run))?;
        report.add("asked", asked(&params));
        let [up, down] = datagrams(&link, &params, span)?;
        for (row, arrivals, rate) in [("udp up", up.0, up.1), ("udp down", down.0, down.1)] {
            report.add(row, seen(&arrivals, rate));
        }
        report.add("tcp", tcp(&link, &params, span)?);
        add_counts(&mut report, &link)?;
    }
    report.note("tcp: rate is received content, measured without loss; delays are round trips");
    report.note("jitter keeps the order, so dense datagrams see more of its upper half");
    Ok(report)
}

fn asked(params: &Params) -> Sample {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let transmission = params.bottleneck.map_or(Duration::ZERO, |narrow| narrow.rate.time(PACKET));
    let middle = params.delay + transmission;
    let held_back = params.reorder.map_or(Duration::ZERO, |reorder| reorder.by);
    let mut sample = Sample::default();
    sample.push("loss_percent", params.mean_loss() * 100.0);
    if let Some(burst) = params.burst.filter(|burst| burst.loss == Chance::ALWAYS) {
        sample.push("lost_in_a_row_mean", 1.0 / burst.leave.get());
    }
    sample.push("duplicated_percent", params.duplicate.get() * 100.0);
    sample.push("overtaken_percent", params.reorder.map_or(0.0, |reorder| reorder.chance.get() * 100.0));
    sample.push("delay_min_us", micros(middle - params.jitter));
    sample.push("delay_p50_us", micros(middle));
    sample.push("delay_max_us", micros(middle + params.jitter + held_back));
    sample.push("round_trip_p50_us", micros(middle * 2));
    if let Some(narrow) = params.bottleneck {
        sample.push("rate_bit_per_s", narrow.rate.get() as f64);
    }
    sample
}

/// Bytes on the wire of a numbered datagram.
const PACKET: u64 = (DATAGRAM + HEADERS) as u64;

type Seen = (Arrivals, Option<f64>);

/// Numbered datagrams both ways at once, and then a flood through a bottleneck, if there is one.
fn datagrams(link: &Link, params: &Params, span: Duration) -> Result<[Seen; 2]> {
    // At half of its rate, a bottleneck adds only the transmission time.
    let gap = params.bottleneck.map_or(GAP, |narrow| GAP.max(narrow.rate.time(2 * PACKET)));
    let ways = [(&link.near, &link.far), (&link.far, &link.near)];
    let measure = |(from, to)| -> Result<Seen> {
        let arrivals = probe::datagrams(from, to, gap, span)?;
        let offered = params.bottleneck.map(|narrow: Bottleneck| narrow.rate.get() as f64 * OFFERED);
        let rate = offered.map(|offered| probe::flood(from, to, offered, span / 2)).transpose()?;
        Ok((arrivals, rate))
    };
    let [up, down] = thread::scope(|scope| {
        let running = ways.map(|way| scope.spawn(move || measure(way)));
        running.map(|way| way.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    Ok([up?, down?])
}

fn seen(arrivals: &Arrivals, rate: Option<f64>) -> Sample {
    let mut sample = Sample::default();
    sample.push("loss_percent", arrivals.lost_percent());
    if let Some(mean) = arrivals.mean_burst() {
        sample.push("lost_in_a_row_mean", mean);
    }
    sample.push("duplicated_percent", arrivals.duplicated_percent());
    sample.push("overtaken_percent", arrivals.overtaken_percent());
    sample.push("delay_min_us", arrivals.delays.micros(0.0));
    sample.push("delay_p50_us", arrivals.delays.micros(0.5));
    sample.push("delay_p99_us", arrivals.delays.micros(0.99));
    sample.push("delay_max_us", arrivals.delays.max_micros());
    sample.push("measured", arrivals.sent as f64);
    if let Some(rate) = rate {
        sample.push("rate_bit_per_s", rate);
    }
    sample
}

fn tcp(link: &Link, params: &Params, span: Duration) -> Result<Sample> {
    let trips = probe::round_trips(link, span)?;
    // The capacity of the link shows only without loss, to which TCP reacts.
    let lossless = Params { loss: Chance::NEVER, burst: None, ..params.clone() };
    for direction in Direction::BOTH {
        link.set(direction, &lossless)?;
    }
    let rate = probe::stream(link, span)?;
    let mut sample = Sample::default();
    sample.push("round_trip_p50_us", trips.micros(0.5));
    sample.push("round_trip_p99_us", trips.micros(0.99));
    sample.push("round_trip_max_us", trips.max_micros());
    sample.push("rate_bit_per_s", rate);
    Ok(sample)
}
