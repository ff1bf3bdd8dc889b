//! `quip tail`.

use std::io;

use anyhow::bail;
use jiff::tz::TimeZone;
use quip_client::{Client, ConversationEvent, Start};
use serde_json::json;

use crate::{
    args::{Common, From, TailArgs},
    connect::{self, Ended},
    out, show,
    state::Places,
};

/// Prints events up to the count, or until the conversation ends.
pub(crate) async fn run(common: &Common, client: &Client, args: &TailArgs, places: &Places) -> anyhow::Result<()> {
    let start = match args.from {
        From::Now => Start::Now,
        From::Last if places.has(args.target.target().conversation(client.user())) => Start::Cursor,
        From::Beginning | From::Last => Start::Beginning,
        From::Seq(seq) => Start::After(seq.saturating_sub(1)),
    };
    let mut conversation = connect::open(client, &args.target, start).await?;
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
        match event {
            Some(ConversationEvent::Ended(code)) => return Err(Ended::new(&args.target, code).into()),
            Some(event) => {
                print(&event, common.json, &zone)?;
                left -= u64::from(matches!(event, ConversationEvent::Event(_)));
            }
            None => bail!("{} is closed", args.target),
        }
        // Only what is written is taken: what a tail that was killed had not written comes again.
        conversation.acknowledge();
    }
    Ok(())
}

fn print(event: &ConversationEvent, json: bool, zone: &TimeZone) -> io::Result<()> {
    match event {
        ConversationEvent::Event(event) if json => out::line(show::object(event))?,
        ConversationEvent::Event(event) => out::line(show::line(event, zone))?,
        ConversationEvent::Skipped { to, why } if json => {
            out::line(json!({ "skipped_to": to, "why": show::skipped(*to, *why) }))?;
        }
        ConversationEvent::Skipped { to, why } => out::note(show::skipped(*to, *why)),
        ConversationEvent::Reset { first, .. } if json => out::line(json!({ "reset_from": first }))?,
        ConversationEvent::Reset { first, .. } => {
            out::note(format_args!("the relay was restored from a backup: discard events from {first} on"));
        }
        _ => {}
    }
    Ok(())
}
