//! Latency in a room with one sender: every message at every recipient, at the first and at the last one.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{
    check::{Faults, Seen, Sequence},
    crowd::{Arrival, Crowd},
    load::{Outcome, Pace, Plan, Schedule, Sent},
    report::Sample,
    stats::Latencies,
};

/// Runs `sending` and returns what the crowd received.
pub(crate) async fn attend(
    crowd: Crowd,
    pace: &Pace,
    plan: Plan,
    sending: impl Future<Output = Result<Sent>>,
) -> Result<Sample> {
    let recipients = crowd.recipients();
    let deliveries = plan.total() * u64::from(recipients);
    let attended = crowd.attend(&plan, deliveries, sending).await?;
    let heard = Heard::judge(&plan, recipients, &attended.arrivals)?;
    let mut sample = summarise(pace, &plan, recipients, &attended.sent, &heard);
    attended.add_to(&mut sample, plan.measured(), heard.all.count(), deliveries);
    Ok(sample)
}

/// The latencies of a plan's messages.
struct Heard {
    /// Every delivery.
    all: Latencies,
    /// Every message at the first and at the last of its recipients.
    first: Latencies,
    last: Latencies,
    faults: Faults,
    /// Time of the last delivery.
    until: Option<Instant>,
}

impl Heard {
    /// Checks the arrivals against the plan: every message once and in order at each recipient.
    fn judge(plan: &Plan, recipients: u32, arrivals: &[Arrival]) -> Result<Self> {
        let mut sequences: Vec<Sequence> = (0..recipients).map(|_| Sequence::default()).collect();
        let mut spans: Vec<Option<(Instant, Instant, u32)>> = vec![None; plan.total() as usize];
        let mut all = Latencies::new();
        for Arrival { recipient, number, at } in arrivals {
            ensure!(*number < plan.total(), "message {number} arrived, but only {} were sent", plan.total());
            if sequences[*recipient as usize].record(*number) == Seen::Duplicate {
                continue;
            }
            let (first, last, count) = spans[*number as usize].unwrap_or((*at, *at, 0));
            spans[*number as usize] = Some((first.min(*at), last.max(*at), count + 1));
            if plan.is_measured(*number) {
                all.record(at.saturating_duration_since(plan.intended(*number)));
            }
        }
        let (mut first, mut last) = (Latencies::new(), Latencies::new());
        for (number, span) in (0..).zip(spans).filter(|(number, _)| plan.is_measured(*number)) {
            let since = |at: Instant| at.saturating_duration_since(plan.intended(number));
            if let Some((from, to, count)) = span {
                first.record(since(from));
                // A message with a missing delivery has no last recipient.
                if count == recipients {
                    last.record(since(to));
                }
            }
        }
        let faults = sequences.iter().map(|sequence| sequence.faults(plan.total())).sum();
        Ok(Self { all, first, last, faults, until: arrivals.iter().map(|arrival| arrival.at).max() })
    }
}

/// The sample of a run with one sender and many recipients.
fn summarise(pace: &Pace, plan: &Plan, recipients: u32, sent: &Sent, heard: &Heard) -> Sample {
    let due = plan.end() - plan.measured_from();
    let span = heard.until.map_or(due, |until| due.max(until - plan.measured_from()));
    let deliveries = heard.all.count() as f64 / span.as_secs_f64();
    let mut sample = Outcome {
        latency: &heard.all,
        lag: &sent.lag,
        blocked: sent.blocked,
        faults: heard.faults,
        offered: pace.rate,
        achieved: deliveries / f64::from(recipients),
    }
    .sample();
    for (part, latencies, [p50, p99]) in [
        ("first recipient", &heard.first, ["first_p50_us", "first_p99_us"]),
        ("last recipient", &heard.last, ["last_p50_us", "last_p99_us"]),
    ] {
        sample.keep(part, latencies);
        sample.push(p50, latencies.micros(0.5));
        sample.push(p99, latencies.micros(0.99));
    }
    sample.push("deliveries_per_s", deliveries);
    sample
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    const PACE: Pace = Pace { rate: 100.0, seconds: 0.03, warmup: 0.01 };
    const RECIPIENTS: u32 = 3;

    /// Four messages, the first of which is warm-up, at three recipients, who get each 1, 2 and 3 ms after it was due.
    fn plan() -> (Plan, Vec<Arrival>) {
        let plan = Plan::lane(&PACE, Instant::now(), 0, 1);
        let all = (0..4).flat_map(|number| (0..RECIPIENTS).map(move |recipient| (number, recipient)));
        let arrivals = all.map(|(number, recipient)| {
            let at = plan.intended(number) + Duration::from_millis(1) * (recipient + 1);
            Arrival { recipient, number, at }
        });
        (plan, arrivals.collect())
    }

    fn faults(plan: &Plan, arrivals: &[Arrival]) -> (u64, u64, u64) {
        let Faults { lost, duplicated, reordered } = Heard::judge(plan, RECIPIENTS, arrivals).unwrap().faults;
        (lost, duplicated, reordered)
    }

    #[test]
    fn first_and_last_recipient_are_told_apart() {
        let (plan, arrivals) = plan();
        let heard = Heard::judge(&plan, RECIPIENTS, &arrivals).unwrap();
        assert_eq!(heard.faults, Faults::default());
        assert_eq!((heard.all.count(), heard.first.count(), heard.last.count()), (9, 3, 3));
        for (latencies, micros) in [(&heard.first, 1000.0), (&heard.all, 2000.0), (&heard.last, 3000.0)] {
            assert!((latencies.micros(0.5) - micros).abs() < 5.0, "{} is not {micros}", latencies.micros(0.5));
        }
    }

    #[test]
    fn planted_faults_are_found_at_any_recipient() {
        let (plan, arrivals) = plan();
        for index in 0..arrivals.len() {
            let mut lost = arrivals.clone();
            lost.remove(index);
            assert_eq!(faults(&plan, &lost), (1, 0, 0), "{index} is lost");
            let mut repeated = arrivals.clone();
            repeated.push(arrivals[index]);
            assert_eq!(faults(&plan, &repeated), (0, 1, 0), "{index} comes twice");
        }
        for index in 0..arrivals.len() - RECIPIENTS as usize {
            let mut swapped = arrivals.clone();
            // The same recipient's next message.
            swapped.swap(index, index + RECIPIENTS as usize);
            assert_eq!(faults(&plan, &swapped), (0, 0, 1), "{index} comes late");
        }
    }

    #[test]
    fn a_message_that_one_never_got_has_no_last_recipient() {
        let (plan, mut arrivals) = plan();
        arrivals.pop();
        let heard = Heard::judge(&plan, RECIPIENTS, &arrivals).unwrap();
        assert_eq!((heard.first.count(), heard.last.count()), (3, 2));
    }

    #[test]
    fn a_message_that_nobody_sent_is_an_error() {
        let (plan, mut arrivals) = plan();
        arrivals[0].number = 4;
        assert!(Heard::judge(&plan, RECIPIENTS, &arrivals).is_err());
    }
}
