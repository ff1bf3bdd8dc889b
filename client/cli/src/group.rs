//! `quip group`.

use anyhow::{Context, bail};
use quip_client::{Client, Code, OpenOptions, Receipt, ReceiptError, SendError, Sender, Start, Target};
use serde_json::json;

use crate::{
    advice,
    args::{Common, GroupAction},
    connect, out,
    people::people,
    target::TargetArg,
};

/// Executes the action and waits until it is durable.
pub(crate) async fn run(common: &Common, client: &Client, action: GroupAction) -> anyhow::Result<()> {
    let done = async |receipt| done(receipt, common).await;
    match action {
        GroupAction::Create { title, add } => create(common, client, title.as_deref(), &add).await?,
        GroupAction::Members { group } => members(common, client, &group).await?,
        GroupAction::Add { group, user } => done(open(client, &group).await?.add(&user).await).await?,
        GroupAction::Remove { group, user, ban } => done(open(client, &group).await?.remove(&user, ban).await).await?,
        GroupAction::Leave { group } => leave(common, client, &group).await?,
        GroupAction::Role { group, user, role } => {
            done(open(client, &group).await?.set_role(&user, role.number()).await).await?;
        }
        GroupAction::Title { group, title } => done(open(client, &group).await?.set_title(&title).await).await?,
    }
    Ok(())
}

async fn create(common: &Common, client: &Client, title: Option<&str>, members: &[String]) -> anyhow::Result<()> {
    let made = client.open(Target::new_group(), OpenOptions::join().start(Start::Now)).await;
    let group = made.context("the group was not created")?;
    let id = group.id();
    // The id is printed first: the group exists even if a member cannot be added.
    if common.json {
        out::line(json!({ "conversation": id.to_string() }))?
    } else {
        out::line(format!("#{id}"))?
    }
    let (sender, _) = group.split();
    if let Some(title) = title {
        done(sender.set_title(title).await, common).await.context("group created, but its title was not set")?;
    }
    for user in members {
        done(sender.add(user).await, common)
            .await
            .with_context(|| format!("group created, but {user} was not added"))?;
    }
    Ok(())
}

async fn members(common: &Common, client: &Client, target: &TargetArg) -> anyhow::Result<()> {
    let id = target.target().conversation(client.user());
    let (people, _) = people(client, id, usize::MAX).await.map_err(|error| connect::request(error, target))?;
    for person in people {
        if common.json { out::line(person.object())? } else { out::line(person.line())? }
    }
    Ok(())
}

async fn leave(common: &Common, client: &Client, target: &TargetArg) -> anyhow::Result<()> {
    match open(client, target).await?.leave().await?.accepted().await {
        Err(ReceiptError::Refused(Code::LAST_OWNER)) => {
            let target = target.to_string();
            let target = target.trim_start_matches('#');
            bail!("you are the last owner; name another first: `quip group role {target} USER owner`")
        }
        left => left.map(|_| ()).map_err(|error| advice::unanswered(error, common.state.is_some())),
    }
}

async fn open(client: &Client, target: &TargetArg) -> anyhow::Result<Sender> {
    let opened = client.open(target.target(), OpenOptions::member().start(Start::Now)).await;
    let group = opened.map_err(|error| connect::cannot_open(error, target))?;
    Ok(group.split().0)
}

async fn done(receipt: Result<Receipt, SendError>, common: &Common) -> anyhow::Result<()> {
    receipt?.accepted().await.map(|_| ()).map_err(|error| advice::unanswered(error, common.state.is_some()))
}
