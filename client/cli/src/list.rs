//! `quip list`.

use quip_client::{Client, ConversationId, Entry};

use crate::{args::Common, out, show};

/// Prints the user's conversations, those with the newest events first.
pub(crate) async fn run(common: &Common, client: &Client) -> anyhow::Result<()> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut after: Option<ConversationId> = None;
    loop {
        let page = client.list(after, PAGE).await?;
        after = page.items.last().map(|entry| entry.conversation);
        entries.extend(page.items);
        if !page.more || after.is_none() {
            break;
        }
    }
    sort(&mut entries);
    for entry in &entries {
        if common.json { out::line(show::entry_object(entry))? } else { out::line(show::entry(entry))? }
    }
    if entries.is_empty() {
        out::note("no conversations yet; `quip chat lobby:main` joins a room, `quip chat @bob` writes to bob");
    }
    Ok(())
}

/// Newest first.
fn sort(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.at), entry.conversation));
}

/// Conversations per request; the relay may send fewer.
const PAGE: u64 = 100;
