//! The log, on standard error.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the whole process; does nothing when something else already did. A filter in `RUST_LOG` wins over
/// the one in the config; one that cannot be read there is reported on standard error and not used.
pub fn init(config: &LogConfig) {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let filter = from_environment.as_deref().unwrap_or(&config.level);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|error| {
        eprintln!("RUST_LOG is not a log filter ({error}); using \"{}\"", config.level);
        EnvFilter::new(&config.level)
    });
    // A log that cannot be written, on a full disk say, must not bring a thread down: reporting that would.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    // An error here means that a subscriber is set, as in tests that start several relays in one process.
    let _already_set = match config.format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
