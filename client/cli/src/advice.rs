//! What a person can do about an error of the connection.

use std::error::Error;

use quip_client::{ClosedReason, Code, ConnectError, ConnectionLost, OpenError, ReceiptError, RequestError, Untrusted};

use crate::{
    login::{Login, Relay},
    show,
    stop::Stop,
};

/// Knows how the command tried to connect.
#[derive(Debug)]
pub(crate) struct Advice {
    addresses: String,
    data: String,
    by_token: bool,
}

/// An error, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{}\n{advice}", show::failure(.error))]
struct Advised {
    #[source]
    error: anyhow::Error,
    advice: String,
}

impl Advice {
    pub(crate) fn new(relay: &Relay, login: &Login) -> Self {
        Self {
            addresses: relay.addresses.join(", "),
            data: relay.data.display().to_string(),
            by_token: matches!(login, Login::Token(_)),
        }
    }

    /// Adds what to do, if there is anything to say.
    pub(crate) fn add(&self, error: anyhow::Error) -> anyhow::Error {
        match error.chain().find_map(|cause| self.about(cause)) {
            Some(advice) => Advised { error, advice }.into(),
            None => error,
        }
    }

    fn about(&self, cause: &(dyn Error + 'static)) -> Option<String> {
        match cause.downcast_ref() {
            Some(ConnectError::Unreachable(lost) | ConnectError::Refused(lost)) => return self.lost(lost),
            Some(ConnectError::OtherUser { .. }) => return Some("Name another file with --state.".to_owned()),
            _ => {}
        }
        match cause.downcast_ref() {
            Some(Stop::Closed(reason)) => return self.closed(reason),
            Some(Stop::Away(_)) => return Some(self.is_it_running()),
            _ => {}
        }
        match cause.downcast_ref() {
            Some(OpenError::Closed(reason)) => return self.closed(reason),
            Some(OpenError::Timeout(_)) => return Some(self.is_it_running()),
            _ => {}
        }
        match cause.downcast_ref() {
            Some(RequestError::Closed(reason)) => self.closed(reason),
            Some(RequestError::Lost(lost)) => self.lost(lost),
            _ => None,
        }
    }

    fn closed(&self, reason: &ClosedReason) -> Option<String> {
        match reason {
            ClosedReason::Refused(lost) => self.lost(lost),
            ClosedReason::Replaced => {
                Some("It runs with a copy of the same --state file: give each process a file of its own.".to_owned())
            }
            _ => None,
        }
    }

    fn lost(&self, lost: &ConnectionLost) -> Option<String> {
        let Self { addresses, data, by_token } = self;
        match lost {
            ConnectionLost::Closed { code: Code::UNAUTHENTICATED, .. } if *by_token => {
                Some(format!("Use a token from an issuer that the relay at {addresses} trusts."))
            }
            ConnectionLost::Closed { code: Code::UNAUTHENTICATED, .. } => Some(format!(
                "The relay at {addresses} does not use the key {data}/keys/signing.pem: name its data folder with --data, \
                 or log in with --token."
            )),
            ConnectionLost::Closed { code: Code::TOKEN_EXPIRED, .. } if *by_token => {
                Some("Get a new token, and name it with --token or QUIP_TOKEN.".to_owned())
            }
            ConnectionLost::Closed { code: Code::TOKEN_EXPIRED, .. } => {
                Some("Are the clocks of this machine and the relay's right?".to_owned())
            }
            ConnectionLost::Closed { .. } | ConnectionLost::Token(_) => None,
            ConnectionLost::Untrusted(Untrusted::OtherFingerprint { .. }) => {
                Some(format!("The pinned one is from --fingerprint, or from {data}/fingerprint."))
            }
            ConnectionLost::Untrusted(
                Untrusted::Authority | Untrusted::UnknownAuthority | Untrusted::OtherName { .. },
            ) => Some(
                "--fingerprint pins a certificate; `quip-relay check` shows the relay's, or `openssl x509 -noout -sha256 \
                 -fingerprint -in FILE`."
                    .to_owned(),
            ),
            ConnectionLost::Untrusted(_) => None,
            ConnectionLost::Handshake(_) | ConnectionLost::Protocol(_) => {
                Some(format!("Is there a Quip relay of the same version at {addresses}?"))
            }
            ConnectionLost::Address { .. } => Some("Is the host name in --relay correct?".to_owned()),
            _ => Some(self.is_it_running()),
        }
    }

    fn is_it_running(&self) -> String {
        let Self { addresses, data, .. } = self;
        format!(
            "Is a relay running at {addresses}? Start one with `quip-relay --data {data}`, or name its address with --relay."
        )
    }
}

/// Why a command has no good answer. `kept`: a state file keeps commands without an answer.
pub(crate) fn unanswered(error: ReceiptError, kept: bool) -> anyhow::Error {
    let what = match (error, kept) {
        (ReceiptError::Refused(_), _) => return error.into(),
        (ReceiptError::Closed, true) => {
            "no answer came; the next command with this --state file that opens the conversation sends it, once"
        }
        _ => "no answer came; look with `quip history` before you repeat it",
    };
    anyhow::Error::msg(what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn advice(by_token: bool) -> Advice {
        Advice { addresses: "h:1".into(), data: "folder".into(), by_token }
    }

    fn shown(error: impl Into<anyhow::Error>) -> String {
        show::failure(&advice(false).add(error.into()))
    }

    fn hint(lost: ConnectionLost) -> String {
        shown(ConnectError::Unreachable(lost))
    }

    fn closed(code: Code) -> ConnectionLost {
        ConnectionLost::Closed { code, text: String::new() }
    }

    #[test]
    fn each_failure_has_its_own_hint() {
        assert!(hint(ConnectionLost::Timeout(Duration::from_secs(5))).contains("quip-relay --data folder"));
        assert!(hint(closed(Code::UNAUTHENTICATED)).contains("--data"));
        assert!(hint(closed(Code::TOKEN_EXPIRED)).contains("clocks"));
        assert!(hint(ConnectionLost::Handshake("no application protocol".into())).contains("same version at h:1"));
    }

    #[test]
    fn the_reason_is_the_same_whichever_operation_meets_it() {
        let expired = || ClosedReason::Refused(closed(Code::TOKEN_EXPIRED));
        for error in [
            anyhow::Error::from(Stop::Closed(expired())),
            OpenError::Closed(expired()).into(),
            RequestError::Closed(expired()).into(),
            anyhow::Error::from(Stop::Closed(expired())).context("2 lines stored"),
        ] {
            let text = show::failure(&advice(true).add(error));
            assert_eq!(text.matches("token expired").count(), 1, "{text}");
            assert!(text.ends_with("QUIP_TOKEN."), "{text}");
        }
        assert!(shown(Stop::Closed(ClosedReason::Replaced)).contains("copy of the same --state file"));
    }

    #[test]
    fn what_has_no_answer_is_not_to_be_repeated_blindly() {
        let words = |error, kept| show::failure(&unanswered(error, kept));
        assert!(words(ReceiptError::Closed, true).contains("--state file"));
        assert!(words(ReceiptError::Closed, false).contains("`quip history`"), "nothing keeps it");
        assert!(words(ReceiptError::Unknown, true).contains("`quip history`"), "it is not sent again");
        assert!(words(ReceiptError::Refused(Code::RATE), true).contains("refused"));
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_never_a_relay_that_is_not_running() {
        let (name, names) = ("a".to_owned(), Vec::new());
        let day = Duration::from_secs(86_400);
        for (why, advice) in [
            (Untrusted::OtherFingerprint { found: [0; 32] }, "folder/fingerprint"),
            (Untrusted::UnknownAuthority, "--fingerprint pins"),
            (Untrusted::Authority, "--fingerprint pins"),
            (Untrusted::OtherName { name, names }, "--fingerprint pins"),
            (Untrusted::Expired { ago: day }, "needs a new one"),
            (Untrusted::NotYetValid { wait: day }, "check the clock"),
            (Untrusted::NotForServers, "needs another one"),
            (Untrusted::NoKey, "does not have its key"),
            (Untrusted::Other("odd".into()), "odd"),
        ] {
            let text = hint(why.into());
            assert!(text.contains("is not trusted") && text.contains(advice), "{text}");
            assert!(!text.contains("running"), "{text}");
        }
    }
}
