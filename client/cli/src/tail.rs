//! `quip tail`.

use anyhow::bail;
use jiff::tz::TimeZone;
use quip_client::{Client, Code, ConversationEvent, Start};
use serde_json::json;

use crate::{
    args::{Common, From, TailArgs},
    connect, out, show,
};

/// Prints events up to the count, or until the conversation ends.
pub(crate) async fn run(common: &Common, client: &Client, args: &TailArgs) -> anyhow::Result<()> {
    let mut conversation = connect::open(client, &args.target, start(args.from)).await?;
    let zone = TimeZone::system();
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut told = client.events();
    while left > 0 {
        let event = tokio::select! {
            event = conversation.next() => event,
            Some(event) = told.next() => {
                show::behind(&event, None).into_iter().for_each(out::note);
                continue;
            }
        };
        let Some(event) = event else { break };
        match event {
            ConversationEvent::Event(event) => {
                if common.json {
                    out::line(show::object(&event))?;
                } else {
                    out::line(show::line(&event, &zone))?;
                }
                left -= 1;
            }
            ConversationEvent::Skipped { to, why } if common.json => {
                out::line(json!({ "skipped_to": to, "why": show::skipped(to, why) }))?;
            }
            ConversationEvent::Skipped { to, why } => out::note(show::skipped(to, why)),
            ConversationEvent::Reset { first, .. } => {
                out::note(format!("the relay was restored from a backup: discard events from {first} on"));
            }
            ConversationEvent::Ended(Code::ENDED) => out::note(format!("{}: you are no longer a member", args.target)),
            ConversationEvent::Ended(code) => bail!("{}: {code}", args.target),
            _ => {}
        }
    }
    conversation.acknowledge();
    Ok(())
}

fn start(from: From) -> Start {
    match from {
        From::Beginning => Start::Beginning,
        From::Now => Start::Now,
        From::Seq(seq) => Start::After(seq.saturating_sub(1)),
    }
}
