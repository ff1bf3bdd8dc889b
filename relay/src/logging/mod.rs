//! The log, on standard error, which may be a pipe or a terminal that nobody reads.
//!
//! No thread waits for it: lines go through a bounded queue (`lines`), and one that finds no room is lost and counted.
//! Strangers do not fill it: each kind of line has a rate (`pace`), and what is over it is counted too.

mod lines;
mod pace;

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use tracing::Level;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogConfig, LogFormat};
use lines::Lines;
use pace::{LeftOut, Pace, Paced};

/// Of the whole process, as standard error is.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    lines: Lines,
    pace: Arc<Pace>,
}

/// Lines of this module.
const TARGET: &str = module_path!();
/// How long the end of the process waits until the log is written.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Starts logging for the whole process, panics included; does nothing when that was done already. A filter in `RUST_LOG`
/// wins over the one in the config; one that cannot be read there is reported and not used.
///
/// # Errors
/// When the thread that writes cannot be started.
pub fn init(config: &LogConfig) -> io::Result<()> {
    let log = start(config)?;
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let asked = from_environment.as_deref().unwrap_or(&config.level);
    let (filter, refused) = match EnvFilter::try_new(asked) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(&config.level), Some(error)),
    };
    let writer = log.lines.clone();
    // A line that cannot be written must not bring a thread down: reporting that would.
    let format = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).log_internal_errors(false);
    let format = match config.format {
        LogFormat::Text => format.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => format.json().flatten_event(true).boxed(),
    };
    // An error here means that a subscriber is set, as in tests that start several relays in one process.
    if tracing_subscriber::registry().with(filter).with(format).with(Paced(Arc::clone(&log.pace))).try_init().is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let thread = thread::current().name().unwrap_or("unnamed").to_owned();
            let backtrace = std::backtrace::Backtrace::capture();
            tracing::error!(thread, "{panic}\n{backtrace}");
            // The process may end right behind this.
            flush();
        }));
    }
    if let Some(error) = refused {
        tracing::warn!("RUST_LOG is not a log filter ({error}); using \"{}\"", config.level);
    }
    Ok(())
}

/// Writes a text to standard error as it is, behind the lines that wait.
pub fn say(text: &str) {
    match start(&LogConfig::default()) {
        Ok(log) => log.lines.put(text.as_bytes()),
        // Without a thread to wait for, it is written here.
        Err(_) => _ = io::stderr().write_all(text.as_bytes()),
    }
}

/// Waits until the log is written, but not long: nobody may be reading it. To be called before the process ends.
pub fn flush() {
    if let Some(Log { lines, pace }) = LOG.get()
        && lines.flush(FLUSH_WITHIN)
    {
        report(lines, pace.left_out());
        lines.flush(FLUSH_WITHIN);
    }
}

/// The log, which the first call starts.
fn start(config: &LogConfig) -> io::Result<&'static Log> {
    if let Some(log) = LOG.get() {
        return Ok(log);
    }
    // Not through std's handle, which has a lock that everybody else would wait for.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let pace = Arc::new(Pace::new(config.lines_per_second));
    let of_thread = Arc::clone(&pace);
    let reports = move |lines: &Lines| report(lines, of_thread.left_out_before(Instant::now()));
    let lines = Lines::start(stderr, config.waiting_bytes, reports)?;
    Ok(LOG.get_or_init(|| Log { lines, pace }))
}

/// Logs what is not in the log.
fn report(lines: &Lines, left_out: Vec<LeftOut>) {
    for LeftOut { count, level, like } in left_out {
        match level {
            Level::ERROR => tracing::error!("{count} more like this: {like}"),
            Level::WARN => tracing::warn!("{count} more like this: {like}"),
            Level::INFO => tracing::info!("{count} more like this: {like}"),
            _ => tracing::debug!("{count} more like this: {like}"),
        }
    }
    let lost = lines.take_lost();
    if lost > 0 {
        tracing::error!("{lost} lines of this log were lost: standard error took them too slowly, or not at all");
    }
}
