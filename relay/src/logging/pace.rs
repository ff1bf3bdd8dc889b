//! How many lines of each kind are logged, so that strangers cannot fill the log, nor hide other lines in it.

use std::{
    collections::HashMap,
    fmt::{Debug, Write},
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Subscriber, callsite::Identifier, field};
use tracing_log::NormalizeEvent;
use tracing_subscriber::{Layer, layer::Context};

/// Counts the lines of each kind.
pub(super) struct Pace {
    /// Of each kind; 0 = no limit.
    per_second: usize,
    kinds: Mutex<HashMap<Kind, Count>>,
}

/// The place in the code that a line is from. All lines of the crate `log` have one callsite for each level, and their line's
/// number in the source tells them apart.
type Kind = (Identifier, Option<u32>);

/// The lines of one kind.
#[derive(Default)]
struct Count {
    /// When the second began that is counted in.
    began: Option<Instant>,
    logged: usize,
    left_out: u64,
    /// Level and text of one of them.
    like: Option<(Level, String)>,
}

/// Lines of one kind that were not logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) count: u64,
    pub(super) level: Level,
    /// The text of one of them.
    pub(super) like: String,
}

const SECOND: Duration = Duration::from_secs(1);

impl Pace {
    pub(super) fn new(per_second: usize) -> Self {
        Self { per_second, kinds: Mutex::default() }
    }

    /// What was left out, except in seconds that have not passed at `now`.
    pub(super) fn left_out_before(&self, now: Instant) -> Vec<LeftOut> {
        self.take_left_out(|began| now.duration_since(began) >= SECOND)
    }

    /// What was left out.
    pub(super) fn left_out(&self) -> Vec<LeftOut> {
        self.take_left_out(|_| true)
    }

    fn take_left_out(&self, due: impl Fn(Instant) -> bool) -> Vec<LeftOut> {
        let mut kinds = self.lock();
        let due = kinds.values_mut().filter(|count| count.left_out > 0 && count.began.is_some_and(&due));
        let taken = due.filter_map(|count| {
            let (level, like) = count.like.take()?;
            Some(LeftOut { count: take(&mut count.left_out), level, like })
        });
        taken.collect()
    }

    /// Poisoning is ignored: nothing here can panic halfway through a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Count>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line of this kind is logged. `like` is asked for its level and text if it is the first that is left out.
    fn admits(&self, kind: Kind, now: Instant, like: impl FnOnce() -> (Level, String)) -> bool {
        let first = match self.lock().entry(kind.clone()).or_default().take(self.per_second, now) {
            Verdict::Logged => return true,
            Verdict::LeftOut { first } => first,
        };
        // Formatted without the lock: whatever that does may be logged too.
        if first {
            let like = like();
            self.lock().entry(kind).or_default().like = Some(like);
        }
        false
    }
}

enum Verdict {
    Logged,
    LeftOut { first: bool },
}

impl Count {
    fn take(&mut self, per_second: usize, now: Instant) -> Verdict {
        if self.began.is_none_or(|began| now.duration_since(began) >= SECOND) {
            (self.began, self.logged) = (Some(now), 0);
        }
        if per_second == 0 || self.logged < per_second {
            self.logged += 1;
            return Verdict::Logged;
        }
        self.left_out += 1;
        Verdict::LeftOut { first: self.left_out == 1 }
    }
}

/// Keeps lines from the log that are over their kind's rate.
pub(super) struct Paced(pub(super) Arc<Pace>);

impl<S: Subscriber> Layer<S> for Paced {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // What the log says of itself is not left out of it.
        if metadata.target() == super::TARGET {
            return true;
        }
        let line = event.normalized_metadata().and_then(|metadata| metadata.line());
        self.0.admits((metadata.callsite(), line), Instant::now(), || (*metadata.level(), text(event)))
    }
}

/// The text of a line, without its fields.
fn text(event: &Event<'_>) -> String {
    struct Text(String);
    impl field::Visit for Text {
        fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
            if field.name() == "message" {
                // Writing to a string does not fail.
                let _ = write!(self.0, "{value:?}");
            }
        }
    }
    let mut text = Text(String::new());
    event.record(&mut text);
    text.0
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What is logged within one second by a piece of code, and what is left out.
    fn logged(per_second: usize, code: impl FnOnce()) -> (Vec<String>, Vec<LeftOut>) {
        let pace = Arc::new(Pace::new(per_second));
        let written: Arc<Mutex<Vec<u8>>> = Arc::default();
        let writer = Arc::clone(&written);
        let format = tracing_subscriber::fmt::layer().without_time().with_level(false).with_target(false);
        let format = format.with_ansi(false).with_writer(move || Shared(Arc::clone(&writer)));
        let subscriber = tracing_subscriber::registry().with(format).with(Paced(Arc::clone(&pace)));
        tracing::subscriber::with_default(subscriber, code);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        (text.lines().map(str::to_owned).collect(), pace.left_out())
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_kind_has_a_rate_of_its_own_and_what_is_left_out_is_counted() {
        let (lines, left_out) = logged(2, || {
            (0..5).for_each(|i| tracing::info!(i, "a stranger"));
            tracing::error!("something else");
        });
        assert_eq!(lines, ["a stranger i=0", "a stranger i=1", "something else"]);
        assert_eq!(left_out, [LeftOut { count: 3, level: Level::INFO, like: "a stranger".to_owned() }]);
    }

    #[test]
    fn a_rate_of_0_is_no_limit() {
        let (lines, left_out) = logged(0, || (0..500).for_each(|_| tracing::info!("a stranger")));
        assert_eq!((lines.len(), left_out.len()), (500, 0));
    }

    #[test]
    fn a_new_second_has_room_again_and_forgets_nothing() {
        let pace = Pace::new(1);
        let start = Instant::now();
        let place = tracing::callsite!(name: "a line", kind: tracing::metadata::Kind::EVENT, fields: message);
        let like = || (Level::WARN, "x".to_owned());
        let admits = |halves| pace.admits((Identifier(place), None), start + SECOND / 2 * halves, like);
        assert_eq!([0, 1, 1, 2, 3].map(admits), [true, false, false, true, false]);
        assert!(pace.left_out_before(start + SECOND * 3 / 2).is_empty(), "there may be more");
        assert_eq!(pace.left_out_before(start + SECOND * 2)[0].count, 3);
        assert!(pace.left_out().is_empty(), "said already");
    }
}
