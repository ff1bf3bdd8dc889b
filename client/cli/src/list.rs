//! `quip list`.

use quip_client::ConversationId;

use crate::{args::Common, connect, out, show};

/// Prints the user's conversations.
pub(crate) async fn run(common: &Common) -> anyhow::Result<()> {
    let client = connect::connect(common).await?;
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
    client.close().await;
    Ok(())
}

/// Conversations per request; the relay may send fewer.
const PAGE: u64 = 100;
