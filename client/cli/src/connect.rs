//! Connecting, with hints on failure.

use std::{pin::pin, time::Duration};

use anyhow::{Context, anyhow};
use quip_client::{
    Client, Code, ConnectError, ConnectionLost, Conversation, FileStore, OpenError, OpenOptions, RequestError, Start,
    Untrusted,
};

use crate::{
    args::Common,
    login::{Login, Relay},
    out, show,
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

/// Opens a conversation, joining it if necessary. Says so if the relay is behind what this device has.
pub(crate) async fn open(client: &Client, target: &TargetArg, start: Start) -> anyhow::Result<Conversation> {
    let mut told = client.events();
    let asked = if let Start::After(seq) = start { Some(seq + 1) } else { None };
    let mut opening = pin!(client.open(target.target(), OpenOptions::join().start(start)));
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            Some(event) = told.next() => show::behind(&event, asked).into_iter().for_each(out::note),
        }
    };
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
        ConnectionLost::Untrusted(Untrusted::OtherFingerprint { .. }) => {
            Some(format!("The pinned one is from --fingerprint, or from {data}/fingerprint."))
        }
        ConnectionLost::Untrusted(Untrusted::Authority | Untrusted::UnknownAuthority | Untrusted::OtherName { .. }) => {
            Some(
                "--fingerprint pins a certificate; `quip-relay check` shows the relay's, or `openssl x509 -noout -sha256 \
                 -fingerprint -in FILE`."
                    .to_owned(),
            )
        }
        ConnectionLost::Untrusted(_) => None,
        ConnectionLost::Handshake(_) | ConnectionLost::Protocol(_) => {
            Some(format!("Is there a Quip relay of the same version at {addresses}?"))
        }
        ConnectionLost::Address { .. } => Some("Is the host name in --relay correct?".to_owned()),
        _ => Some(format!(
            "Is a relay running at {addresses}? Start one with `quip-relay --data {data}`, or name its address with --relay."
        )),
    }
}

fn open_hint(error: &OpenError, target: &TargetArg) -> &'static str {
    let OpenError::Refused { code, .. } = error else { return "" };
    match (*code, target) {
        (Code::NOT_FOUND, TargetArg::Id(_)) => ": not found, or you are not a member",
        (Code::NOT_FOUND, _) => ": not found, and this token may not create it",
        (Code::BEHIND, _) => ": the relay's log ends before that place",
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
        assert!(hint(ConnectionLost::Handshake("no application protocol".into())).contains("same version at h:1"));
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

    #[test]
    fn the_hint_for_not_found_is_to_join() {
        let refused =
            RequestError::Refused { code: Code::NOT_FOUND, retry_after: Default::default(), text: String::new() };
        assert!(format!("{:#}", request(refused, &"lobby:main".parse().unwrap())).contains("quip chat lobby:main"));
    }
}
