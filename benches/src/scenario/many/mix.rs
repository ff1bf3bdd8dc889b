//! The message pattern of people, as distributions: from logs of an IRC channel if available, otherwise from a table of
//! quantiles of such logs.

use std::{collections::HashSet, fs, path::Path};

use anyhow::{Context, Result};

/// Number of consecutive messages whose different senders are counted.
const CHUNK: usize = 5;
const MINUTES_OF_DAY: u64 = 24 * 60;

/// Quantiles: values at ascending shares, interpolated in between.
#[derive(Clone, Debug)]
pub(super) struct Quantiles(Vec<(f64, f64)>);

/// The distributions of a load.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    /// Bytes of a message.
    pub(super) bytes: Quantiles,
    /// Time between two messages of a conversation, relative to its mean. The logs have minutes only; messages are spread
    /// evenly within a minute, so that bursts are longer and flatter than in reality.
    pub(super) gap: Quantiles,
    /// Number of different senders of five consecutive messages.
    pub(super) senders: Quantiles,
}

/// Quantiles of #ubuntu on 51 days of 2004 to 2017.
const BYTES: &[(f64, f64)] = &[
    (0.0, 0.0),
    (0.01, 2.0),
    (0.05, 4.0),
    (0.1, 9.0),
    (0.25, 22.0),
    (0.4, 34.0),
    (0.5, 43.0),
    (0.6, 54.0),
    (0.75, 77.0),
    (0.9, 126.0),
    (0.95, 168.0),
    (0.99, 278.0),
    (0.995, 325.0),
    (0.999, 426.0),
    (1.0, 464.0),
];
const GAP: &[(f64, f64)] = &[
    (0.0, 0.075),
    (0.01, 0.186),
    (0.05, 0.293),
    (0.1, 0.364),
    (0.25, 0.515),
    (0.4, 0.648),
    (0.5, 0.735),
    (0.6, 0.836),
    (0.75, 1.081),
    (0.9, 1.599),
    (0.95, 2.287),
    (0.99, 5.85),
    (0.995, 8.21),
    (0.999, 18.44),
    (1.0, 124.7),
];
/// A step function, since the number of senders is an integer.
const SENDERS: &[(f64, f64)] = &[
    (0.0, 1.0),
    (0.0045, 1.0),
    (0.0055, 2.0),
    (0.0800, 2.0),
    (0.0815, 3.0),
    (0.3280, 3.0),
    (0.3300, 4.0),
    (0.7330, 4.0),
    (0.7355, 5.0),
    (1.0, 5.0),
];

impl Mix {
    /// The built-in table.
    pub(super) fn built_in() -> Self {
        let table = |points: &[(f64, f64)]| Quantiles(points.to_vec());
        Self { bytes: table(BYTES), gap: table(GAP), senders: table(SENDERS) }
    }

    /// The distributions of all `*.log` files in a folder; `None` if there are none.
    pub(super) fn of_logs(folder: &Path) -> Result<Option<Self>> {
        let Ok(files) = fs::read_dir(folder) else { return Ok(None) };
        let mut seen = Seen::default();
        for file in files {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = fs::read(&path).with_context(|| path.display().to_string())?;
                seen.add(&String::from_utf8_lossy(&log));
            }
        }
        Ok((!seen.bytes.is_empty()).then(|| seen.mix()))
    }
}

impl Quantiles {
    /// The quantiles of values, which must not be empty.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = (values.len() - 1).max(1) as f64;
        Self((0..).zip(values).map(|(place, value)| (f64::from(place) / last, value)).collect())
    }

    /// The value at a share from 0 to 1.
    pub(super) fn at(&self, share: f64) -> f64 {
        let above = self.0.partition_point(|(at, _)| *at < share).clamp(1, self.0.len().max(2) - 1);
        let Some(&(to, high)) = self.0.get(above) else { return self.0[0].1 };
        let (from, low) = self.0[above - 1];
        low + (high - low) * ((share - from) / (to - from)).clamp(0.0, 1.0)
    }

    pub(super) fn mean(&self) -> f64 {
        self.0.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum()
    }
}

/// The values from logs.
#[derive(Default)]
struct Seen {
    bytes: Vec<f64>,
    gaps: Vec<f64>,
    senders: Vec<f64>,
}

impl Seen {
    fn add(&mut self, log: &str) {
        let lines: Vec<(u64, &str, &str)> = log.lines().filter_map(said).collect();
        self.bytes.extend(lines.iter().map(|(.., text)| text.len() as f64));
        let nicks = |lines: &[(u64, &str, &str)]| lines.iter().map(|(_, nick, _)| *nick).collect::<HashSet<_>>().len();
        self.senders.extend(lines.chunks_exact(CHUNK).map(|chunk| nicks(chunk) as f64));
        let gaps = gaps(&lines.iter().map(|(minute, ..)| *minute).collect::<Vec<_>>());
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        self.gaps.extend(gaps.iter().map(|gap| gap / mean));
    }

    fn mix(self) -> Mix {
        Mix { bytes: Quantiles::of(self.bytes), gap: Quantiles::of(self.gaps), senders: Quantiles::of(self.senders) }
    }
}

/// Minute of the day, nick and text of a line `[HH:MM] <nick> text`.
fn said(line: &str) -> Option<(u64, &str, &str)> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] <")?;
    let (hours, minutes) = time.split_once(':')?;
    let (nick, text) = rest.split_once('>')?;
    let minute = hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?;
    (minute < MINUTES_OF_DAY).then(|| (minute, nick, text.strip_prefix(' ').unwrap_or(text)))
}

/// Minutes between messages; those of one minute are spread over it. Empty where the clock goes back.
fn gaps(minutes: &[u64]) -> Vec<f64> {
    let mut times = Vec::with_capacity(minutes.len());
    for same in minutes.chunk_by(|a, b| a == b) {
        let step = 1.0 / same.len() as f64;
        times.extend((0..).zip(same).map(|(place, minute)| *minute as f64 + step * f64::from(place)));
    }
    times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap >= 0.0).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines_that_somebody_said_are_read() {
        let log = "[10:00] <a> four\n=== b [h] has joined #ubuntu\n[10:00]  * a looks\n[10:01] <b>\n[10:03] <a> x > y\n[99:00] <c> no\n";
        let mut seen = Seen::default();
        seen.add(log);
        assert_eq!(seen.bytes, [4.0, 0.0, 5.0]);
        // One minute and two minutes, relative to their mean.
        assert_eq!(seen.gaps, [1.0 / 1.5, 2.0 / 1.5]);
        assert_eq!(gaps(&[5, 5, 5, 5, 7, 3]), [0.25, 0.25, 0.25, 1.25]);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values = Quantiles::of(vec![30.0, 10.0, 20.0]);
        for (share, value) in [(0.0, 10.0), (0.25, 15.0), (0.5, 20.0), (0.75, 25.0), (1.0, 30.0)] {
            assert_eq!(values.at(share), value, "at {share}");
        }
        assert_eq!(values.mean(), 20.0);
        assert_eq!(Quantiles::of(vec![7.0]).at(0.5), 7.0);
    }

    /// The folder next to the checkout, or next to its parent.
    fn of_logs() -> Option<Mix> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let folders = here.map(|folder| folder.join("shared/data/ubuntu-irc"));
        let mixes: Vec<_> = folders.filter_map(|folder| Mix::of_logs(&folder).unwrap()).collect();
        mixes.into_iter().next()
    }

    #[test]
    fn the_table_agrees_with_the_logs() {
        let Some(logs) = of_logs() else { return eprintln!("skipped: there is no ../shared/data/ubuntu-irc") };
        let table = Mix::built_in();
        for (name, logs, table) in [
            ("bytes", &logs.bytes, &table.bytes),
            ("gap", &logs.gap, &table.gap),
            ("senders", &logs.senders, &table.senders),
        ] {
            for &(share, found) in &table.0 {
                let expected = logs.at(share);
                assert!(
                    (expected - found).abs() <= 0.01 * expected.max(1.0),
                    "{name} at {share}: {found}, not {expected}"
                );
            }
            let (expected, found) = (logs.mean(), table.mean());
            assert!((expected - found).abs() <= 0.1 * expected, "{name} on average: {found}, not {expected}");
        }
    }
}
