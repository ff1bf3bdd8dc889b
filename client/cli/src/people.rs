//! The members of a conversation and their presence.

use std::collections::HashMap;

use quip_client::{Client, ConversationId, Presence, PresenceState, RequestError, UserId};
use serde_json::json;

use crate::{
    show::{self, Json, cells},
    target::TargetArg,
};

/// A member.
pub(crate) struct Person {
    user: UserId,
    role: u8,
    since: u64,
    presence: Option<Presence>,
}

/// Up to `most` members in order of user id, and whether there are more.
pub(crate) async fn people(
    client: &Client,
    conversation: ConversationId,
    most: usize,
) -> Result<(Vec<Person>, bool), RequestError> {
    let mut people: Vec<Person> = Vec::new();
    let mut more = true;
    while more && people.len() < most {
        let after = people.last().map(|person| person.user.clone());
        let page = client.members(conversation, after.as_ref(), PAGE).await?;
        more = page.more && !page.items.is_empty();
        people.extend(page.items.into_iter().map(|member| Person {
            user: member.user,
            role: member.role,
            since: member.since,
            presence: None,
        }));
    }
    more |= people.len() > most;
    people.truncate(most);
    add_presence(client, conversation, &mut people).await?;
    Ok((people, more))
}

/// A note if a target is a user of whom the relay has never heard: the name may be mistyped.
pub(crate) async fn stranger(client: &Client, target: &TargetArg) -> Option<String> {
    let TargetArg::Direct(user) = target else { return None };
    let both = client.presence_in(target.target().conversation(client.user()), None, 2).await.ok()?;
    let presence = both.items.iter().find(|presence| presence.user == *user)?;
    let is_known = presence.state != PresenceState::Offline || presence.last_seen.is_some();
    (!is_known).then(|| {
        format!("@{}: nobody of that name has been here yet; what you send waits for them", show::name(user.as_str()))
    })
}

async fn add_presence(
    client: &Client,
    conversation: ConversationId,
    people: &mut [Person],
) -> Result<(), RequestError> {
    let mut known: HashMap<UserId, Presence> = HashMap::new();
    let mut after: Option<UserId> = None;
    while let Some(last) = people.last()
        && after.as_ref().is_none_or(|after| *after < last.user)
    {
        let page = client.presence_in(conversation, after.as_ref(), PAGE).await?;
        let Some(end) = page.items.last() else { break };
        after = Some(end.user.clone());
        known.extend(page.items.into_iter().map(|presence| (presence.user.clone(), presence)));
        if !page.more {
            break;
        }
    }
    for person in people {
        person.presence = known.remove(&person.user);
    }
    Ok(())
}

impl Person {
    /// The person as a line.
    pub(crate) fn line(&self) -> String {
        let user = self.user.as_str();
        let presence = self.presence.as_ref().map_or("", |presence| show::presence_name(presence.state));
        let remark = show::lookalikes(user).unwrap_or_default();
        format!("{} {:<8} {presence:<11} {remark}", cells::padded(&show::name(user), 32), show::role_name(self.role))
            .trim_end()
            .to_owned()
    }

    /// The person as an object.
    pub(crate) fn object(&self) -> Json {
        Json(json!({
            "user": self.user.as_str(),
            "role": show::role_name(self.role),
            "since": self.since,
            "presence": self.presence.as_ref().map(|presence| show::presence_name(presence.state)),
            "last_seen": self.presence.as_ref().and_then(|presence| presence.last_seen),
        }))
    }
}

/// Members per request; the relay may send fewer.
const PAGE: u64 = 100;
