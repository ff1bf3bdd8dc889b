//! Many runs, side by side.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    check::{Violation, check},
    plant::Plant,
    world::{Options, Ran, run},
};

/// How long things go wrong in a run.
pub const TIME: Duration = Duration::from_secs(60);

/// A run that broke a promise.
pub struct Broken {
    /// What decides the run.
    pub seed: u64,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// What happened.
    pub ran: Ran,
}

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Totals {
    /// Runs that kept every promise.
    pub runs: u64,
    /// Packets sent in them.
    pub packets: u64,
    /// Entries of their histories.
    pub entries: u64,
    /// Their virtual time.
    pub time: Duration,
    /// Their traces, summed up: the same seeds give the same sum.
    pub trace: u64,
}

/// Runs a seed and judges it.
///
/// # Errors
/// When it broke a promise.
pub fn one(seed: u64, plant: Option<Plant>) -> Result<Ran, Box<Broken>> {
    let ran = run(Options { seed, time: TIME, plant, text: false });
    let violations = check(&ran.history);
    if violations.is_empty() { Ok(ran) } else { Err(Box::new(Broken { seed, violations, ran })) }
}

/// Runs `count` seeds from `first` on, on every core, up to the first that breaks a promise.
///
/// # Errors
/// When one broke a promise.
pub fn many(first: u64, count: u64) -> Result<Totals, Box<Broken>> {
    let (next, found) = (AtomicU64::new(first), Mutex::new((Totals::default(), None::<Box<Broken>>)));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let result = one(seed, None);
                    let (totals, broken) = &mut *found.lock().unwrap_or_else(PoisonError::into_inner);
                    match result {
                        Ok(ran) => totals.add(&ran),
                        Err(found) => {
                            // The lowest is the one to report, so that two equal invocations report the same.
                            if broken.as_ref().is_none_or(|other| found.seed < other.seed) {
                                *broken = Some(found);
                            }
                            next.store(first + count, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    match found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        (totals, None) => Ok(totals),
        (_, Some(broken)) => Err(broken),
    }
}

impl Totals {
    fn add(&mut self, ran: &Ran) {
        self.runs += 1;
        self.packets += ran.packets;
        self.entries += ran.history.entries.len() as u64;
        self.time += ran.time;
        self.trace = self.trace.wrapping_add(ran.trace);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, packets, entries, time, trace } = self;
        write!(
            f,
            "{runs} runs kept every promise: {} s of virtual time, {packets} packets, {entries} entries, trace {trace:016x}",
            time.as_secs()
        )
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, violations, ran } = self;
        write!(f, "{}", ran.history)?;
        writeln!(f, "\nseed {seed} broke {} promises:", violations.len())?;
        violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))?;
        writeln!(f, "run it again with: scripts/simulate 1 {seed}")
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
