//! Why a relay's certificate is not trusted.

use std::{fmt, sync::Arc, time::Duration};

use rustls::CertificateError;
use rustls_pki_types::UnixTime;
use thiserror::Error;

/// Why a relay's certificate is not trusted. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Untrusted {
    /// It is another certificate than the pinned one.
    #[error(
        "its SHA-256 is {}, not the pinned one; compare both with the file fingerprint in the relay's data folder",
        Hex(*found)
    )]
    OtherFingerprint {
        /// The SHA-256 of the certificate.
        found: [u8; 32],
    },
    /// No trusted authority signed it.
    #[error("no trusted authority signed it; trust the authority that did, or pin its fingerprint")]
    UnknownAuthority,
    /// It is that of an authority.
    #[error(
        "it is the certificate of an authority (CA:TRUE), as `openssl req -x509` makes it; pin its fingerprint, or give the \
         relay one with CA:FALSE"
    )]
    Authority,
    /// It does not have the relay's name.
    #[error("it is not for {name}: it {}; connect by a name that it has, or pin its fingerprint", Names(names))]
    OtherName {
        /// The name in the client's configuration.
        name: String,
        /// The names in the certificate.
        names: Vec<String>,
    },
    /// It has expired.
    #[error("it expired {} ago; the relay needs a new one, unless the clock of this machine is wrong", Span(*ago))]
    Expired {
        /// How long ago.
        ago: Duration,
    },
    /// It is not valid yet.
    #[error("it is not valid for another {}; check the clock of this machine", Span(*wait))]
    NotYetValid {
        /// How long it will take.
        wait: Duration,
    },
    /// It is for another purpose.
    #[error("it is not for servers (extended key usage); the relay needs another one")]
    NotForServers,
    /// The relay cannot sign with its key.
    #[error("the relay does not have its key; something else may answer in the relay's place")]
    NoKey,
    /// Anything else.
    #[error("{0}")]
    Other(Arc<str>),
}

impl Untrusted {
    /// What a verifier said of the signature of a handshake.
    pub(crate) fn of_signature(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::BadSignature) => Self::NoKey,
            other => Self::Other(other.to_string().into()),
        }
    }

    /// What a verifier said of the certificate with this fingerprint.
    pub(crate) fn of_certificate(error: &rustls::Error, fingerprint: [u8; 32]) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else { return Self::Other(error.to_string().into()) };
        match error {
            CertificateError::ApplicationVerificationFailure => Self::OtherFingerprint { found: fingerprint },
            // The other one is the answer when two authorities have the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names = presented.iter().map(|name| plain(name)).collect();
                Self::OtherName { name: expected.to_str().into_owned(), names }
            }
            CertificateError::ExpiredContext { time, not_after } => Self::Expired { ago: between(*not_after, *time) },
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { wait: between(*time, *not_before) }
            }
            CertificateError::InvalidPurposeContext { .. } => Self::NotForServers,
            // The type behind it is of a crate that is not named here.
            CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => Self::Authority,
            other => Self::Other(other.to_string().into()),
        }
    }
}

fn between(from: UnixTime, to: UnixTime) -> Duration {
    Duration::from_secs(to.as_secs().saturating_sub(from.as_secs()))
}

/// A name without its kind, which is around it: `DnsName("a.example")`, `IpAddress(127.0.0.1)`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

struct Hex([u8; 32]);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("has no names"),
            names => write!(f, "is for {}", names.join(", ")),
        }
    }
}

/// A length of time for people.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
        let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= *unit).unwrap_or(units[3]);
        let count = seconds / unit;
        write!(f, "{count} {name}{}", if count == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_names_are_for_people() {
        let span = |seconds| Span(Duration::from_secs(seconds)).to_string();
        assert_eq!([0, 1, 119, 7200, 86_400 * 3].map(span), ["0 seconds", "1 second", "1 minute", "2 hours", "3 days"]);
        let names = ["DnsName(\"a.example\")", "IpAddress(127.0.0.1)", "odd"].map(plain);
        assert_eq!(names, ["a.example", "127.0.0.1", "odd"]);
        assert_eq!(Names(&[]).to_string(), "has no names");
        assert_eq!(Names(&names[..2]).to_string(), "is for a.example, 127.0.0.1");
    }
}
