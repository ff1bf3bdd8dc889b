//! What is said of the connection: once when it changes, not with every attempt.

use quip_client::{Code, ConnectionLost, ConnectionState};

/// What was said last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    #[default]
    Good,
    Silent,
    Away,
    TokenFailing,
}

impl Contact {
    /// Whether there is a relay that answers.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::Good | Self::TokenFailing)
    }

    /// Takes the state of the connection; what there is to say of it.
    pub(crate) fn take(&mut self, state: &ConnectionState) -> Option<String> {
        let now = match state {
            // The client asks for a new token, and gets one or is closed.
            ConnectionState::Connecting {
                attempt: 1,
                cause: Some(ConnectionLost::Closed { code: Code::TOKEN_EXPIRED, .. }),
                ..
            } => return None,
            ConnectionState::Online { .. } => Self::Good,
            ConnectionState::Unresponsive { .. } => Self::Silent,
            ConnectionState::TokenFailing { .. } => Self::TokenFailing,
            _ => Self::Away,
        };
        let before = std::mem::replace(self, now);
        if before == now {
            return None;
        }
        Some(match (state, before) {
            (ConnectionState::Unresponsive { .. }, _) => "the relay does not answer".to_owned(),
            (ConnectionState::TokenFailing { error, .. }, _) => format!("the token cannot be renewed: {error}"),
            (ConnectionState::Connecting { cause: Some(cause), .. }, _) => {
                format!("no connection to the relay ({cause}); trying to connect again")
            }
            (ConnectionState::Online { .. }, Self::Away) => "connected to the relay again".to_owned(),
            (ConnectionState::Online { .. }, Self::Silent) => "the relay answers again".to_owned(),
            (ConnectionState::Online { .. }, Self::TokenFailing) => "the token is renewed".to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use quip_client::TokenError;

    use super::*;

    #[test]
    fn each_change_is_said_once() {
        let mut contact = Contact::default();
        let relay = || "r".to_owned();
        let online = ConnectionState::Online { relay: relay() };
        let silent = ConnectionState::Unresponsive { relay: relay(), since: Instant::now() };
        let cause = Some(ConnectionLost::Transport("timed out".into()));
        let away = |attempt| ConnectionState::Connecting { attempt, cause: cause.clone(), retry_at: None };
        let error = TokenError::temporary("no network");
        let failing = ConnectionState::TokenFailing { relay: relay(), error, ends: Instant::now() };
        assert_eq!(contact.take(&online), None);
        assert_eq!(contact.take(&silent).unwrap(), "the relay does not answer");
        assert!(!contact.is_good());
        assert_eq!(
            contact.take(&away(1)).unwrap(),
            "no connection to the relay (connection failed: timed out); trying to connect again"
        );
        assert_eq!(contact.take(&away(2)), None);
        let expired = ConnectionLost::Closed { code: Code::TOKEN_EXPIRED, text: String::new() };
        let expired = ConnectionState::Connecting { attempt: 1, cause: Some(expired), retry_at: None };
        assert_eq!(contact.take(&expired), None);
        assert_eq!(contact.take(&online).unwrap(), "connected to the relay again");
        assert_eq!(contact.take(&failing).unwrap(), "the token cannot be renewed: no token: no network");
        assert!(contact.is_good());
        assert_eq!(contact.take(&online).unwrap(), "the token is renewed");
    }
}
