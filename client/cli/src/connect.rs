//! Connecting, with hints on failure.

use std::time::Duration;

use anyhow::{Context, anyhow};
use quip_client::{
    Client, Code, ConnectError, ConnectionLost, Conversation, FileStore, OpenError, OpenOptions, RequestError, Start,
};

use crate::{
    args::Common,
    login::{Login, Relay},
    target::TargetArg,
};

/// Connects as the command line says.
pub(crate) async fn connect(common: &Common) -> anyhow::Result<Client> {
    // The login comes first: without a data folder, its error is the more helpful one.
    let login = Login::find(common)?;
    let relay = Relay::find(common)?;
    let by_token = matches!(login, Login::Token(_));
    let mut config = relay.config(login).connect_timeout(PATIENCE);
    if let Some(path) = &common.state {
        config = config.state(FileStore::open(path).with_context(|| format!("--state {}", path.display()))?);
    }
    Client::connect(config).await.map_err(|error| explain(error, &relay, by_token))
}

/// Opens a conversation, joining it if necessary.
pub(crate) async fn open(client: &Client, target: &TargetArg, start: Start) -> anyhow::Result<Conversation> {
    let opened = client.open(target.target(), OpenOptions::join().start(start)).await;
    opened.map_err(|error| {
        let hint = open_hint(&error, target);
        anyhow::Error::new(error).context(format!("cannot open {target}{hint}"))
    })
}

/// Adds a hint to a failed connect.
fn explain(error: ConnectError, relay: &Relay, by_token: bool) -> anyhow::Error {
    let hint = connect_hint(&error, relay, by_token);
    match hint {
        Some(hint) => anyhow!("{error}\n{hint}"),
        None => error.into(),
    }
}

/// Adds a hint to a failed request.
pub(crate) fn request(error: RequestError, target: &TargetArg) -> anyhow::Error {
    let hint = match &error {
        RequestError::Refused { code: Code::NOT_FOUND, .. } => {
            format!("{target} not found, or you were never a member; `quip chat {target}` joins it")
        }
        _ => format!("cannot read {target}"),
    };
    anyhow::Error::new(error).context(hint)
}

fn connect_hint(error: &ConnectError, relay: &Relay, by_token: bool) -> Option<String> {
    let (ConnectError::Unreachable(lost) | ConnectError::Refused(lost)) = error else { return None };
    let data = relay.data.display();
    let addresses = relay.addresses.join(", ");
    match lost {
        ConnectionLost::Closed { code: Code::UNAUTHENTICATED, .. } if by_token => {
            Some(format!("Use a token from an issuer that the relay at {addresses} trusts."))
        }
        ConnectionLost::Closed { code: Code::UNAUTHENTICATED, .. } => Some(format!(
            "The relay at {addresses} does not use the key {data}/keys/signing.pem: name its data folder with --data, \
             or log in with --token."
        )),
        ConnectionLost::Closed { code: Code::TOKEN_EXPIRED, .. } => Some("Get a new token.".to_owned()),
        ConnectionLost::Closed { .. } | ConnectionLost::Token(_) => None,
        ConnectionLost::Untrusted(text) if is_about_trust(text) => Some(format!(
            "The certificate at {addresses} is not the trusted one: compare --fingerprint (or {data}/fingerprint) with the \
             file fingerprint in the relay's data folder."
        )),
        ConnectionLost::Untrusted(_) | ConnectionLost::Protocol(_) => {
            Some("Is this a Quip relay of the same version?".to_owned())
        }
        ConnectionLost::Address { .. } => Some("Is the host name in --relay correct?".to_owned()),
        _ => Some(format!(
            "Is a relay running at {addresses}? Start one with `quip-relay --data {data}`, or name its address with --relay."
        )),
    }
}

/// TLS reports why it does not trust the peer as text only.
fn is_about_trust(text: &str) -> bool {
    ["certificate", "UnknownIssuer", "fingerprint"].iter().any(|word| text.contains(word))
}

fn open_hint(error: &OpenError, target: &TargetArg) -> &'static str {
    let OpenError::Refused { code, .. } = error else { return "" };
    match (*code, target) {
        (Code::NOT_FOUND, TargetArg::Id(_)) => ": not found, or you are not a member",
        (Code::NOT_FOUND, _) => ": not found, and this token may not create it",
        (Code::FORBIDDEN, _) => ": this token may not join it",
        _ => "",
    }
}

/// How long to wait for a relay.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quip_client::Trust;

    use super::*;

    fn hint(lost: ConnectionLost) -> String {
        let relay = Relay { addresses: vec!["h:1".into()], trust: Trust::Fingerprint([0; 32]), data: "folder".into() };
        explain(ConnectError::Unreachable(lost), &relay, false).to_string()
    }

    #[test]
    fn each_failure_has_its_own_hint() {
        assert!(hint(ConnectionLost::Timeout(Duration::from_secs(5))).contains("quip-relay --data folder"));
        let closed = |code| ConnectionLost::Closed { code, text: String::new() };
        assert!(hint(closed(Code::UNAUTHENTICATED)).contains("--data"));
        assert!(hint(closed(Code::TOKEN_EXPIRED)).contains("new token"));
        let tls = "the cryptographic handshake failed: error 46: invalid peer certificate: BadSignature";
        assert!(hint(ConnectionLost::Untrusted(tls.into())).contains("fingerprint"));
    }

    #[test]
    fn the_hint_for_not_found_is_to_join() {
        let refused =
            RequestError::Refused { code: Code::NOT_FOUND, retry_after: Default::default(), text: String::new() };
        assert!(format!("{:#}", request(refused, &"lobby:main".parse().unwrap())).contains("quip chat lobby:main"));
    }
}
