//! Connecting, and saying what to do when that fails.

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
    // Who comes first: without a data folder, that is what to say.
    let login = Login::find(common)?;
    let relay = Relay::find(common)?;
    let by_token = matches!(login, Login::Token(_));
    let mut config = relay.config(login).connect_timeout(PATIENCE);
    if let Some(path) = &common.state {
        config = config.state(FileStore::open(path).with_context(|| format!("--state {}", path.display()))?);
    }
    Client::connect(config).await.map_err(|error| explain(error, &relay, by_token))
}

/// Opens a conversation, joining it when needed.
pub(crate) async fn open(client: &Client, target: &TargetArg, start: Start) -> anyhow::Result<Conversation> {
    let opened = client.open(target.target(), OpenOptions::join().start(start)).await;
    opened.map_err(|error| {
        let hint = open_hint(&error, target);
        anyhow::Error::new(error).context(format!("cannot open {target}{hint}"))
    })
}

/// A failed connect, with what to do about it.
fn explain(error: ConnectError, relay: &Relay, by_token: bool) -> anyhow::Error {
    let hint = connect_hint(&error, relay, by_token);
    match hint {
        Some(hint) => anyhow!("{error}\n{hint}"),
        None => error.into(),
    }
}

/// A failed request, with what to do about it.
pub(crate) fn request(error: RequestError, target: &TargetArg) -> anyhow::Error {
    let hint = match &error {
        RequestError::Refused { code: Code::NOT_FOUND, .. } => {
            format!("{target} is not there, or you were never in it; `quip chat {target}` joins it")
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
            Some(format!("Bring a token of the issuer that the relay at {addresses} trusts."))
        }
        ConnectionLost::Closed { code: Code::UNAUTHENTICATED, .. } => Some(format!(
            "The relay at {addresses} has another key than {data}/keys/signing.pem: name its data folder with --data, \
             or bring a token with --token."
        )),
        ConnectionLost::Closed { code: Code::TOKEN_EXPIRED, .. } => Some("Get a new token.".to_owned()),
        ConnectionLost::Closed { .. } | ConnectionLost::Token(_) => None,
        ConnectionLost::Transport(text) if is_about_trust(text) => Some(format!(
            "Something else answers at {addresses}, or the relay has a new certificate: compare --fingerprint (or \
             {data}/fingerprint) with the file fingerprint in the data folder of that relay."
        )),
        ConnectionLost::Protocol(_) => Some("Is it a Quip relay, and of this version?".to_owned()),
        ConnectionLost::Address { .. } => Some("Is the name in --relay right?".to_owned()),
        _ => Some(format!(
            "Is a relay running at {addresses}? Start one with `quip-relay --data {data}`, or say where it is with --relay."
        )),
    }
}

/// TLS says why it does not trust the other side in text only.
fn is_about_trust(text: &str) -> bool {
    ["certificate", "UnknownIssuer", "fingerprint"].iter().any(|word| text.contains(word))
}

fn open_hint(error: &OpenError, target: &TargetArg) -> &'static str {
    let OpenError::Refused { code, .. } = error else { return "" };
    match (*code, target) {
        (Code::NOT_FOUND, TargetArg::Id(_)) => ": there is no such conversation, or you were not added to it",
        (Code::NOT_FOUND, _) => ": it does not exist, and this token may not create it",
        (Code::FORBIDDEN, _) => ": this token does not let you join it",
        _ => "",
    }
}

/// How long a person waits for a relay.
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
    fn what_to_do_depends_on_what_went_wrong() {
        assert!(hint(ConnectionLost::Timeout(Duration::from_secs(5))).contains("quip-relay --data folder"));
        let closed = |code| ConnectionLost::Closed { code, text: String::new() };
        assert!(hint(closed(Code::UNAUTHENTICATED)).contains("--data"));
        assert!(hint(closed(Code::TOKEN_EXPIRED)).contains("new token"));
        let tls = "the cryptographic handshake failed: error 46: invalid peer certificate: BadSignature";
        assert!(hint(ConnectionLost::Transport(tls.into())).contains("fingerprint"));
    }

    #[test]
    fn what_cannot_be_read_may_have_to_be_joined() {
        let refused =
            RequestError::Refused { code: Code::NOT_FOUND, retry_after: Default::default(), text: String::new() };
        assert!(format!("{:#}", request(refused, &"lobby:main".parse().unwrap())).contains("quip chat lobby:main"));
    }
}
