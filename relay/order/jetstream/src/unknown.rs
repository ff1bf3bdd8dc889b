//! Commands that were published, of which it is not known whether the stream has them. Pure.

use std::time::{Duration, Instant};

use async_nats::StatusCode;
use bytes::Bytes;
use quip_core::Command;
use quip_protocol::ConversationId;
use serde::Deserialize;

/// A command that was published and may have to be published again.
pub(crate) struct Unknown {
    pub(crate) conversation: ConversationId,
    pub(crate) weight: usize,
    pub(crate) message: Bytes,
    /// How often it was given another id.
    pub(crate) renewed: u32,
    /// When to publish it again.
    due: Instant,
    /// Since when servers say that a message with its id is in process.
    in_process: Option<Instant>,
}

/// Why the stream did not take a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The server's error code; 0 = none.
    pub(crate) code: u64,
    pub(crate) why: String,
}

impl Unknown {
    /// It is published at `now`.
    pub(crate) fn new(command: &Command, message: Bytes, now: Instant) -> Self {
        let (conversation, weight) = (command.conversation, command.weight());
        Self { conversation, weight, message, renewed: 0, due: now + ANSWER_WITHIN, in_process: None }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// It is published again at `now`.
    pub(crate) fn published(&mut self, now: Instant) {
        self.due = now + ANSWER_WITHIN;
    }

    /// Another connection begins: it is due, and what a server said before may hold no longer.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        (self.due, self.in_process) = (now, None);
    }

    /// It was not taken, and is due again soon. A server that has led the stream may keep the id of a message that was lost at
    /// the election in process until the duplicate window has passed; then only another id helps.
    pub(crate) fn refused(&mut self, code: u64, now: Instant) {
        self.due = now + REFUSED_PAUSE;
        if code != IN_PROCESS {
            self.in_process = None;
        } else if now - *self.in_process.get_or_insert(now) >= ANSWER_WITHIN {
            (self.renewed, self.in_process) = (self.renewed + 1, None);
        }
    }
}

/// The position that the stream gave a message, by its answer.
///
/// # Errors
/// When it did not take the message.
pub(crate) fn position(status: Option<StatusCode>, payload: &[u8]) -> Result<u64, Refusal> {
    match (status, serde_json::from_slice(payload)) {
        (None | Some(StatusCode::OK), Ok(Answer { seq, error: None })) if seq > 0 => Ok(seq),
        (_, Ok(Answer { error: Some(error), .. })) => Err(Refusal { code: error.err_code, why: error.description }),
        (Some(StatusCode::NO_RESPONDERS), _) => Err(Refusal { code: 0, why: "the stream has no leader".to_owned() }),
        _ => Err(Refusal { code: 0, why: "an answer that is not understood".to_owned() }),
    }
}

/// What the stream answers.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    error: Option<AnswerError>,
}

#[derive(Debug, Deserialize)]
struct AnswerError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// After this time without an answer a message is published again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// "duplicate message id is in process": the code of the server's error.
const IN_PROCESS: u64 = 10158;
/// After a refusal.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use quip_protocol::UserId;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn unknown(now: Instant) -> Unknown {
        Unknown::new(&Command::seen(UserId::parse("ann").unwrap(), 1), Bytes::new(), now)
    }

    #[test]
    fn a_message_that_stays_in_process_gets_another_id() {
        let now = Instant::now();
        let mut unknown = unknown(now);
        let mut after = |seconds, code| {
            unknown.refused(code, now + SECOND * seconds);
            unknown.renewed
        };
        let renewed = [(0, IN_PROCESS), (4, IN_PROCESS), (5, 0), (6, IN_PROCESS), (10, IN_PROCESS), (11, IN_PROCESS)];
        assert_eq!(renewed.map(|(seconds, code)| after(seconds, code)), [0, 0, 0, 0, 0, 1]);
        assert_eq!([after(12, IN_PROCESS), after(16, IN_PROCESS), after(17, IN_PROCESS)], [1, 1, 2]);
    }

    #[test]
    fn what_another_server_said_does_not_count() {
        let now = Instant::now();
        let mut unknown = unknown(now);
        unknown.refused(IN_PROCESS, now);
        unknown.reconnected(now + SECOND * 9);
        unknown.refused(IN_PROCESS, now + SECOND * 9);
        assert_eq!(unknown.renewed, 0);
    }

    #[test]
    fn it_is_due_when_no_answer_came_and_soon_after_a_refusal() {
        let now = Instant::now();
        let mut unknown = unknown(now);
        assert!(!unknown.is_due(now + SECOND * 4) && unknown.is_due(now + SECOND * 5));
        unknown.refused(0, now);
        assert!(!unknown.is_due(now) && unknown.is_due(now + SECOND));
        unknown.published(now);
        assert!(!unknown.is_due(now + SECOND));
        unknown.reconnected(now);
        assert!(unknown.is_due(now));
    }

    #[test]
    fn answers_are_read() {
        let refused = |code, why: &str| Err(Refusal { code, why: why.to_owned() });
        assert_eq!(position(None, br#"{"stream":"S","seq":7}"#), Ok(7));
        assert_eq!(position(None, br#"{"stream":"S","seq":7,"duplicate":true}"#), Ok(7));
        let said = br#"{"error":{"code":409,"err_code":10158,"description":"in process"},"seq":0}"#;
        assert_eq!(position(None, said), refused(IN_PROCESS, "in process"));
        assert_eq!(position(Some(StatusCode::NO_RESPONDERS), b""), refused(0, "the stream has no leader"));
        assert_eq!(position(None, b"{"), refused(0, "an answer that is not understood"));
    }
}
