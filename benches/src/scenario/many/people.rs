//! The people of a script on a relay: all connected, with every conversation created and open at all its members.

use std::sync::Arc;

use anyhow::{Context, Error, Result, bail, ensure};
use quip_protocol::{
    ConversationId, ToClient,
    conversation::{Add, Start, Target},
    event::kind,
    frame,
};
use tokio::sync::Semaphore;

use super::script::{LEAST_BYTES, Script};
use crate::{
    crowd::{Crowd, Ear, PER_SOCKET, gather},
    load::{Outlet, PAYLOAD},
    relay::Relay,
    wire::{Clients, Conversation, Poster, Reader, Session},
};

/// A user's connection.
type Person = Arc<Session>;

/// Connects everyone; each requests as many streams as the busiest user opens.
pub(super) async fn connect(relay: &Relay, script: &Script, crowd: &mut Crowd) -> Result<Vec<Person>> {
    let mut open = vec![0; script.users as usize];
    script.circles.iter().flat_map(|circle| &circle.members).for_each(|user| open[*user as usize] += 1);
    let streams = open.into_iter().max().unwrap_or(0);
    let mut clients = Clients::new(relay, streams)?;
    let connected = gather(script.users, |user| {
        if user % PER_SOCKET == 0 {
            clients = Clients::new(relay, streams)?;
            crowd.watch(clients.port()?);
        }
        let (clients, token) = (clients.clone(), relay.token(&name(user))?);
        Ok(async move { Ok((user, Arc::new(clients.connect(&token).await?))) })
    });
    let mut people = connected.await?;
    people.sort_by_key(|(user, _)| *user);
    Ok(people.into_iter().map(|(_, person)| person).collect())
}

/// Creates every conversation and opens it at all members, in the order of the script.
pub(super) async fn open(script: &Script, people: &[Person]) -> Result<Vec<Vec<Conversation>>> {
    let opened = gather(script.circles.len() as u32, |circle| {
        let members = script.circles[circle as usize].members.clone();
        let people = members.iter().map(|user| Arc::clone(&people[*user as usize])).collect();
        Ok(async move { Ok((circle, open_circle(&members, people).await?)) })
    });
    let mut circles = opened.await?;
    circles.sort_by_key(|(circle, _)| *circle);
    Ok(circles.into_iter().map(|(_, opened)| opened).collect())
}

async fn open_circle(members: &[u32], people: Vec<Person>) -> Result<Vec<Conversation>> {
    let mut opened = Vec::with_capacity(members.len());
    if let ([one, other], [first, second]) = (members, &*people) {
        opened.push(first.open_direct(&name(*other), true).await?);
        opened.push(second.open_direct(&name(*one), true).await?);
        return Ok(opened);
    }
    let (creator, others) = people.split_first().context("a conversation has members")?;
    let target = Target::NewGroup(ConversationId::group(rand::random()));
    let mut group = creator.open(&target, true, Start::Now).await?;
    add(&mut group, &members[1..]).await?;
    let id = Target::Id(group.id);
    opened.push(group);
    for person in others {
        opened.push(person.open(&id, false, Start::Now).await?);
    }
    Ok(opened)
}

/// Adds users to a group, and waits until they are in it.
async fn add(group: &mut Conversation, users: &[u32]) -> Result<()> {
    let mut frames = Vec::new();
    for (n, user) in (group.last_n + 1..).zip(users) {
        frame::encode(&Add { n, user: &name(*user) }, &mut frames);
    }
    group.send.write_all(&frames).await?;
    let last = group.last_n + users.len() as u64;
    while group.last_n < last {
        match group.reader.next().await?.context("the relay ended a group")? {
            ToClient::Accepted(accepted) => group.last_n = accepted.n,
            ToClient::Ack(ack) => group.last_n = ack.n,
            ToClient::Event(_) | ToClient::Skip(_) => {}
            other => bail!("unexpected frame for the creator of a group: {other:?}"),
        }
    }
    Ok(())
}

fn name(user: u32) -> String {
    format!("user-{user}")
}

/// A member, which checks what it receives.
pub(super) struct Member {
    reader: Reader,
    first_n: u64,
    /// Numbers of the messages that it sends, in order.
    own: Vec<u64>,
    credit: Arc<Semaphore>,
}

/// Everyone's sending halves, by conversation and place.
pub(super) struct Posters<'a> {
    script: &'a Script,
    posters: Vec<Vec<Poster>>,
    next: usize,
    text: Vec<u8>,
}

/// Splits the open conversations into senders and receivers.
pub(super) fn divide(script: &Script, opened: Vec<Vec<Conversation>>) -> (Posters<'_>, Vec<Member>) {
    let mut own: Vec<Vec<Vec<u64>>> = opened.iter().map(|members| vec![Vec::new(); members.len()]).collect();
    for (number, line) in (0..).zip(&script.lines) {
        own[line.circle as usize][line.sender].push(number);
    }
    let (mut posters, mut listening) = (Vec::new(), Vec::new());
    for (members, own) in opened.into_iter().zip(own) {
        let mut circle = Vec::with_capacity(members.len());
        for (conversation, own) in members.into_iter().zip(own) {
            let Conversation { last_n, send, reader, .. } = conversation;
            let poster = Poster::new(send, last_n);
            let credit = Arc::clone(&poster.credit);
            listening.push(Member { reader, first_n: last_n + 1, own, credit });
            circle.push(poster);
        }
        posters.push(circle);
    }
    (Posters { script, posters, next: 0, text: Vec::new() }, listening)
}

impl Outlet for Posters<'_> {
    /// Sends the next line of the script, with its length.
    async fn send(&mut self, _: [u8; PAYLOAD]) -> Result<()> {
        let line = self.script.lines[self.next];
        self.text.clear();
        self.text.extend_from_slice(format!("{:0LEAST_BYTES$x}", self.next).as_bytes());
        self.text.resize(line.bytes, b'.');
        self.next += 1;
        self.posters[line.circle as usize][line.sender].post(&self.text).await
    }
}

impl Member {
    /// Records every message, own ones when they are accepted; ends only with an error.
    pub(super) async fn listen(mut self, mut ear: Ear) -> Error {
        loop {
            if let Err(error) = self.reader.fill().await.and_then(|more| self.read(more, &mut ear)) {
                return error;
            }
        }
    }

    fn read(&mut self, more: bool, ear: &mut Ear) -> Result<()> {
        ensure!(more, "the relay ended the stream of a member");
        while let Some(message) = self.reader.buffered()? {
            match message {
                ToClient::Event(event) if event.kind == kind::TEXT => ear.hear(number(event.body.0)?),
                // It is delivered in place of the event.
                ToClient::Accepted(accepted) if accepted.n >= self.first_n => {
                    let own = self.own.get((accepted.n - self.first_n) as usize);
                    ear.hear(*own.context("an answer to a message that was not sent")?);
                    self.credit.add_permits(1);
                }
                // The event is delivered too.
                ToClient::Ack(ack) if ack.n >= self.first_n => self.credit.add_permits(1),
                ToClient::Event(_) | ToClient::Skip(_) | ToClient::Accepted(_) | ToClient::Ack(_) => {}
                other => bail!("unexpected frame for a member: {other:?}"),
            }
        }
        Ok(())
    }
}

fn number(text: &[u8]) -> Result<u64> {
    let digits = text.get(..LEAST_BYTES).context("a message without a number")?;
    Ok(u64::from_str_radix(std::str::from_utf8(digits)?, 16)?)
}
