//! `quip list`.

use quip_client::{Client, ConversationId};

use crate::{args::Common, out, show};

/// Prints the user's conversations.
pub(crate) async fn run(common: &Common, client: &Client) -> anyhow::Result<()> {
    let mut after: Option<ConversationId> = None;
    loop {
        let page = client.list(after, PAGE).await?;
        for entry in &page.items {
            if common.json { out::line(show::entry_object(entry))? } else { out::line(show::entry(entry))? }
        }
        after = page.items.last().map(|entry| entry.conversation);
        if !page.more || after.is_none() {
            break;
        }
    }
    Ok(())
}

/// Conversations per request; the relay may send fewer.
const PAGE: u64 = 100;
