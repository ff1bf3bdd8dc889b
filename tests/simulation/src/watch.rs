//! What the product says in its log, and panics of its tasks, as entries of the history.

use std::{cell::RefCell, fmt, panic, sync::Once};

use tracing::{Event, Level, Subscriber, field::Visit, subscriber::DefaultGuard};
use tracing_subscriber::{
    Layer,
    filter::LevelFilter,
    layer::{Context, SubscriberExt},
};

use crate::history::{Entry, Recorder};

/// Watches this thread until it is dropped.
pub struct Watch {
    recorder: Recorder,
    _guard: DefaultGuard,
}

impl Watch {
    /// Notes every warning of the product on this thread. With `QUIP_SIMULATION_LOG` in the environment, everything up to debug
    /// goes to standard error as well.
    pub fn start(recorder: Recorder) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                let noted =
                    PANICS.with_borrow_mut(|panics| panics.as_mut().map(|panics| panics.push(info.to_string())));
                eprintln!("{info}");
                if noted.is_none() {
                    before(info);
                }
            }));
        });
        PANICS.set(Some(Vec::new()));
        let aloud = std::env::var_os("QUIP_SIMULATION_LOG").is_some();
        let level = if aloud { LevelFilter::DEBUG } else { LevelFilter::WARN };
        let layer = Notes { recorder: recorder.clone(), aloud }.with_filter(level);
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        Self { recorder, _guard: guard }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for panic in PANICS.take().unwrap_or_default() {
            self.recorder.note(Entry::Panicked(panic));
        }
    }
}

thread_local! {
    /// Panics on this thread, while it is watched.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Notes {
    recorder: Recorder,
    aloud: bool,
}

impl<S: Subscriber> Layer<S> for Notes {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        if !meta.target().starts_with("quip") {
            return;
        }
        let mut text = Text(format!("{}: ", meta.target()));
        event.record(&mut text);
        if self.aloud {
            eprintln!("{:.6} {} {}", self.recorder.elapsed().as_secs_f64(), meta.level(), text.0);
        }
        if *meta.level() <= Level::WARN {
            self.recorder.note(Entry::Warned(text.0));
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        let written = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("writing to a string never fails");
    }
}
