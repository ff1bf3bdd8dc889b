//! How the program ends: the exit status, and the last words.

use std::{io, process::ExitCode};

use quip_client::{ConnectError, OpenError, ReceiptError, RequestError};

use crate::{out, show, stop::Stop};

/// The part of the help about exit statuses.
pub(crate) const HELP: &str = "\
Exit status:
  0    done
  1    refused or failed; standard error says why
  2    wrong command line
  3    no relay in time, or a busy one: the same command may succeed later
  129, 130, 143
       ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM; a second signal ends at once
  141  standard output was closed, as by `head`";

/// Says why the program ends, and returns its exit status.
pub(crate) fn report(ended: anyhow::Result<()>) -> ExitCode {
    let Err(error) = ended else { return ExitCode::SUCCESS };
    if !needs_no_words(&error) {
        out::note(format_args!("error: {}", show::failure(&error)));
    }
    ExitCode::from(status(&error))
}

/// Who sends a signal or closes the output knows it.
fn needs_no_words(error: &anyhow::Error) -> bool {
    let Some(first) = error.chain().next() else { return false };
    matches!(first.downcast_ref(), Some(Stop::Signal(_) | Stop::Unread)) || first.downcast_ref().is_some_and(is_unread)
}

fn status(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        let later = None
            .or_else(|| cause.downcast_ref().map(ConnectError::may_retry))
            .or_else(|| cause.downcast_ref().map(OpenError::may_retry))
            .or_else(|| cause.downcast_ref().map(RequestError::may_retry))
            .or_else(|| cause.downcast_ref().map(ReceiptError::may_retry));
        match cause.downcast_ref() {
            Some(Stop::Signal(signal)) => return signal.status(),
            Some(Stop::Unread) => return UNREAD,
            Some(Stop::Away(_)) => return LATER,
            _ if later == Some(true) => return LATER,
            _ if cause.downcast_ref().is_some_and(is_unread) => return UNREAD,
            _ => {}
        }
    }
    FAILED
}

fn is_unread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

const FAILED: u8 = 1;
const LATER: u8 = 3;
/// As of a program that SIGPIPE ended.
const UNREAD: u8 = 141;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use anyhow::anyhow;
    use quip_client::{Code, ConnectionLost};

    use super::*;
    use crate::signals::Signal;

    fn refused(code: Code) -> RequestError {
        RequestError::Refused { code, retry_after: Duration::ZERO, text: String::new() }
    }

    #[test]
    fn each_ending_has_its_status_whatever_is_said_around_it() {
        for (error, expected) in [
            (anyhow!("anything"), 1),
            (refused(Code::NOT_FOUND).into(), 1),
            (refused(Code::BUSY).into(), 3),
            (RequestError::Lost(ConnectionLost::Timeout(Duration::from_secs(1))).into(), 3),
            (ConnectError::NoRelay.into(), 1),
            (ConnectError::Unreachable(ConnectionLost::Transport("gone".into())).into(), 3),
            (Stop::Away(Duration::from_secs(1)).into(), 3),
            (Stop::Signal(Signal::Hangup).into(), 129),
            (Stop::Signal(Signal::Interrupt).into(), 130),
            (Stop::Signal(Signal::Terminate).into(), 143),
            (Stop::Unread.into(), 141),
            (io::Error::from(io::ErrorKind::BrokenPipe).into(), 141),
            (io::Error::from(io::ErrorKind::StorageFull).into(), 1),
        ] {
            assert_eq!(status(&error), expected, "{error:#}");
            assert_eq!(status(&error.context("while sending")), expected);
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = RequestError::Lost(ConnectionLost::Timeout(Duration::from_secs(15)));
        let error = anyhow::Error::new(error).context("cannot read lobby:main");
        assert_eq!(show::failure(&error), "cannot read lobby:main: no answer: timed out after 15s");
        assert_eq!(show::failure(&anyhow!("inner").context("outer")), "outer: inner");
    }

    #[test]
    fn a_signal_alone_needs_no_words() {
        let signal = || anyhow::Error::from(Stop::Signal(Signal::Interrupt));
        assert!(needs_no_words(&signal()));
        assert!(!needs_no_words(&signal().context("2 lines were stored")));
        assert!(!needs_no_words(&anyhow!("anything")));
    }
}
