//! What happened, as a hash to compare runs by and, on request, as text.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A trace, as a cheap handle.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<State>>);

struct State {
    start: Instant,
    /// With fixed keys, so that it is the same in every process.
    hash: DefaultHasher,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace that begins now; `text` keeps a line for each packet and entry.
    pub fn new(text: bool) -> Self {
        let (hash, lines) = (DefaultHasher::new(), text.then(Vec::new));
        Self(Arc::new(Mutex::new(State { start: Instant::now(), hash, lines })))
    }

    /// How long the run has taken, in virtual time.
    pub fn elapsed(&self) -> Duration {
        self.with(|state| state.start.elapsed())
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.with(|state| state.hash.finish())
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.with(|state| state.lines.clone().unwrap_or_default())
    }

    /// Adds something that is not a packet. Without text only its kind counts, which is much faster.
    pub fn note<T: fmt::Debug>(&self, what: &T) {
        self.with(|state| {
            state.hash.write_u64(state.start.elapsed().as_micros() as u64);
            std::mem::discriminant(what).hash(&mut state.hash);
            if state.lines.is_some() {
                let line = format!("{what:?}");
                state.hash.write(line.as_bytes());
                state.push(&format_args!("{line}"));
            }
        });
    }

    pub(crate) fn packet(&self, now: Instant, from: SocketAddr, to: SocketAddr, size: usize, arrives: bool) {
        self.with(|state| {
            for part in [(now - state.start).as_micros() as u64, size as u64, u64::from(arrives)] {
                state.hash.write_u64(part);
            }
            for address in [from, to] {
                if let SocketAddr::V4(address) = address {
                    state.hash.write_u32((*address.ip()).into());
                    state.hash.write_u16(address.port());
                }
            }
            if state.lines.is_some() {
                let lost = if arrives { "" } else { " lost" };
                state.push(&format_args!("{from} -> {to} {size}{lost}"));
            }
        });
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn push(&mut self, what: &fmt::Arguments<'_>) {
        let line = format!("{:.6} {what}", self.start.elapsed().as_secs_f64());
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }
}
