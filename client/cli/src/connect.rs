//! Connecting, and opening conversations.

use std::{pin::pin, time::Duration};

use anyhow::{Context, anyhow};
use quip_client::{Client, Code, Conversation, OpenError, OpenOptions, RequestError, Start};
use thiserror::Error;

use crate::{
    args::Common,
    login::{Login, Relay},
    out, show,
    state::{Places, State},
    target::TargetArg,
};

/// A conversation ended although the command did not ask for it.
#[derive(Debug, Error)]
pub(crate) enum Ended {
    /// The membership is over.
    #[error("you are no longer a member of {0}")]
    Membership(TargetArg),
    /// The relay closed it.
    #[error("the relay closed {0}: {1}")]
    Closed(TargetArg, Code),
}

impl Ended {
    pub(crate) fn new(target: &TargetArg, code: Code) -> Self {
        match code {
            Code::ENDED => Self::Membership(target.clone()),
            code => Self::Closed(target.clone(), code),
        }
    }
}

/// Connects as the command line says. `follows`: the command is `tail`.
pub(crate) async fn connect(
    common: &Common,
    relay: &Relay,
    login: Login,
    follows: bool,
) -> anyhow::Result<(Client, Places)> {
    let mut config = relay.config(login).connect_timeout(common.wait.unwrap_or(PATIENCE)).outbox(OUTBOX);
    let places = Places::default();
    if let Some(path) = &common.state {
        let state = State::open(path, follows, &places).with_context(|| format!("--state {}", path.display()))?;
        config = config.state(state);
    }
    Ok((Client::connect(config).await?, places))
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
    opened.map_err(|error| cannot_open(error, target))
}

/// Why a conversation was not opened, in the words of the command line.
pub(crate) fn cannot_open(error: OpenError, target: &TargetArg) -> anyhow::Error {
    let why = match &error {
        OpenError::Refused { code: Code::NOT_FOUND, .. } => not_found(target),
        OpenError::Refused { code: Code::FORBIDDEN, .. } => "this token may not join it",
        OpenError::Refused { code: Code::BEHIND, .. } => "the relay's log ends before that place",
        _ => return anyhow::Error::new(error).context(format!("cannot open {target}")),
    };
    anyhow!("cannot open {target}: {why}")
}

/// Why a request failed, in the words of the command line.
pub(crate) fn request(error: RequestError, target: &TargetArg) -> anyhow::Error {
    match error {
        RequestError::Refused { code: Code::NOT_FOUND, .. } => anyhow!("cannot read {target}: {}", not_found(target)),
        error => anyhow::Error::new(error).context(format!("cannot read {target}")),
    }
}

/// The relay does not tell what does not exist from what is hidden.
fn not_found(target: &TargetArg) -> &'static str {
    match target {
        TargetArg::Room(_) => "not found, or you are not a member; `quip chat` joins a room, and creates it if you may",
        TargetArg::Direct(_) => "not found: nothing was said yet",
        TargetArg::Id(_) => "not found, or you are not a member; `quip list` shows your conversations",
    }
}

/// Unanswered commands of a conversation.
pub(crate) const OUTBOX: usize = 64;
/// How long to wait for a relay at first.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_not_found_is_said_once_with_what_to_do() {
        let (code, retry_after) = (Code::NOT_FOUND, Duration::ZERO);
        let id = format!("02{}", "ab".repeat(15));
        for (target, advice) in
            [("lobby:main", "`quip chat` joins"), ("@bob", "nothing was said"), (&id, "`quip list`")]
        {
            let target = target.parse().unwrap();
            let request = request(RequestError::Refused { code, retry_after, text: String::new() }, &target);
            let open = cannot_open(OpenError::Refused { code, retry_after, text: String::new() }, &target);
            for text in [show::failure(&request), show::failure(&open)] {
                assert!(text.contains(advice) && text.matches("not found").count() == 1, "{text}");
            }
        }
    }
}
