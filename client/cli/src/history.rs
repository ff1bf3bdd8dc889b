//! `quip history`.

use std::{cell::Cell, collections::VecDeque};

use jiff::tz::TimeZone;
use quip_client::{Client, ConversationId, HistoryQuery, OwnedEvent, RequestError, SkipReason};

use crate::{
    args::{Common, HistoryArgs},
    connect, out, show,
};

/// Prints the events in order of seq.
pub(crate) async fn run(common: &Common, client: &Client, args: &HistoryArgs) -> anyhow::Result<()> {
    let id = args.target.target().conversation(client.user());
    let zone = TimeZone::system();
    let last = Cell::new(None);
    let print = |event: &OwnedEvent| {
        if last.replace(Some(event.seq)).is_some_and(|last| last + 1 < event.seq) {
            out::note(show::skipped(event.seq - 1, SkipReason::NotVisible));
        }
        if common.json { out::line(show::object(event)) } else { out::line(show::line(event, &zone)) }
    };
    let failed = |error| connect::request(error, &args.target);
    if args.all || args.after.is_some() {
        let mut pages = Forward { after: args.after.unwrap_or(0), before: args.before, left: limit(args) };
        while let Some(events) = pages.next(client, id).await.map_err(failed)? {
            events.iter().try_for_each(print)?;
        }
    } else {
        let events = backward(client, id, args.before.unwrap_or(0), args.last).await.map_err(failed)?;
        events.iter().try_for_each(print)?;
    }
    Ok(())
}

fn limit(args: &HistoryArgs) -> u64 {
    if args.all { u64::MAX } else { args.last }
}

/// Pages towards newer events; holds one page in memory.
struct Forward {
    after: u64,
    before: Option<u64>,
    left: u64,
}

impl Forward {
    /// The next page; `None` after the last one.
    async fn next(&mut self, client: &Client, id: ConversationId) -> Result<Option<Vec<OwnedEvent>>, RequestError> {
        if self.left == 0 {
            return Ok(None);
        }
        let page = client.history(id, HistoryQuery::after(self.after, self.left.min(PAGE))).await?;
        let mut events = page.events;
        if let Some(before) = self.before {
            events.retain(|event| event.seq < before);
        }
        let Some(last) = events.last() else { return Ok(None) };
        self.after = last.seq;
        self.left = if page.more { self.left.saturating_sub(events.len() as u64) } else { 0 };
        Ok(Some(events))
    }
}

/// The last `count` events before `from` (0 = the newest), in order of seq.
async fn backward(
    client: &Client,
    id: ConversationId,
    mut from: u64,
    count: u64,
) -> Result<VecDeque<OwnedEvent>, RequestError> {
    let mut events = VecDeque::new();
    while (events.len() as u64) < count {
        let limit = (count - events.len() as u64).min(PAGE);
        let query = if from == 0 { HistoryQuery::newest(limit) } else { HistoryQuery::before(from, limit) };
        let page = client.history(id, query).await?;
        let Some(first) = page.events.first() else { break };
        from = first.seq;
        page.events.into_iter().rev().for_each(|event| events.push_front(event));
        if !page.more {
            break;
        }
    }
    Ok(events)
}

/// Events per request; the relay may send fewer.
const PAGE: u64 = 500;
