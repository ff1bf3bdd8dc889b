//! Connecting, and opening conversations.

use std::{pin::pin, time::Duration};

use anyhow::Context;
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
    let mut config = relay.config(login).connect_timeout(common.wait.unwrap_or(PATIENCE));
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
    opened.map_err(|error| {
        let hint = open_hint(&error, target);
        anyhow::Error::new(error).context(format!("cannot open {target}{hint}"))
    })
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

/// How long to wait for a relay at first.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_hint_for_not_found_is_to_join() {
        let refused =
            RequestError::Refused { code: Code::NOT_FOUND, retry_after: Default::default(), text: String::new() };
        assert!(format!("{:#}", request(refused, &"lobby:main".parse().unwrap())).contains("quip chat lobby:main"));
    }
}
