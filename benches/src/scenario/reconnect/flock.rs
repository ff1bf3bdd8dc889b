//! All members and writers of a storm.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    member::{Member, Times},
    storm::{Storm, all},
    writer::Writer,
};
use crate::{check::Faults, crowd::gather, relay::Relay, wire::Clients};

/// Members of one writer: fewer than the conversations that a relay allows on a connection.
const MEMBERS_PER_WRITER: u32 = 500;
/// Clients that share a socket and its receive buffer.
pub(super) const CLIENTS_PER_SOCKET: u32 = 250;

/// Maximum pause before a member joins.
const CALM: Duration = Duration::from_millis(2);

/// All members and writers, connected unless lost.
pub(super) struct Flock {
    sockets: Vec<Clients>,
    members: Vec<Member>,
    desk: Clients,
    writers: Vec<Writer>,
    /// Messages to each member so far.
    total: u64,
}

/// Sockets for `clients` clients.
pub(super) fn sockets(relay: &Relay, clients: u32) -> Result<Vec<Clients>> {
    (0..clients.div_ceil(CLIENTS_PER_SOCKET)).map(|_| Clients::crowd(relay, 1)).collect()
}

/// The socket of the client with this number.
pub(super) fn socket(sockets: &[Clients], client: usize) -> Clients {
    sockets[client / CLIENTS_PER_SOCKET as usize].clone()
}

impl Flock {
    /// Connects all, and sends one message to each member.
    pub(super) async fn gather(relay: &Relay, members: u32) -> Result<Self> {
        let sockets = sockets(relay, members)?;
        let name = |member: u32| format!("member-{member}");
        let writer = |member: u32| format!("writer-{}", member / MEMBERS_PER_WRITER);
        let calm = Storm { start: Instant::now(), jitter: CALM };
        let join = |index: u32| {
            let member = Member::new(relay, name(index), writer(index))?;
            Ok(member.join(socket(&sockets, index as usize), calm))
        };
        let members_in = gather(members, join).await?;
        let desk = Clients::crowd(relay, MEMBERS_PER_WRITER)?;
        let mut writers = Vec::new();
        for first in (0..members).step_by(MEMBERS_PER_WRITER as usize) {
            let until = members.min(first + MEMBERS_PER_WRITER);
            writers.push(Writer::new(relay, &writer(first), (first..until).map(name))?);
        }
        let writers = all(writers.into_iter().map(|writer| writer.open(desk.clone()))).await?;
        let mut flock = Self { sockets, members: members_in, desk, writers, total: 0 };
        flock.post(1).await?;
        flock.read().await?;
        Ok(flock)
    }

    /// Writes `more` messages to each member, and waits until they are accepted.
    pub(super) async fn post(&mut self, more: u64) -> Result<()> {
        self.total += more;
        let writers = std::mem::take(&mut self.writers);
        self.writers = all(writers.into_iter().map(|writer| writer.post(self.total))).await?;
        Ok(())
    }

    /// All members receive what was written.
    pub(super) async fn read(&mut self) -> Result<()> {
        let members = std::mem::take(&mut self.members);
        self.members = all(members.into_iter().map(|member| member.read(self.total))).await?;
        Ok(())
    }

    /// All members disappear at once, without the relay noticing.
    pub(super) fn lose_members(&mut self) -> Result<()> {
        self.sockets.drain(..).try_for_each(Clients::vanish)?;
        self.members.iter_mut().for_each(Member::lose);
        Ok(())
    }

    /// The relay is killed with a message to each member under way and restarted, and the writers reconnect.
    pub(super) async fn lose_relay(&mut self, relay: &mut Relay) -> Result<()> {
        for writer in &mut self.writers {
            writer.send(self.total + 1).await?;
        }
        self.lose_members()?;
        relay.crash()?;
        self.writers.iter_mut().for_each(Writer::lose);
        self.desk = Clients::crowd(relay, MEMBERS_PER_WRITER)?;
        let writers = std::mem::take(&mut self.writers);
        self.writers = all(writers.into_iter().map(|writer| writer.open(self.desk.clone()))).await?;
        Ok(())
    }

    /// All members reconnect at once and catch up; returns the times of each.
    pub(super) async fn come_back(&mut self, relay: &Relay, storm: Storm) -> Result<Vec<Times>> {
        let members = std::mem::take(&mut self.members);
        self.sockets = sockets(relay, members.len() as u32)?;
        let coming = members
            .into_iter()
            .enumerate()
            .map(|(index, member)| member.come_back(socket(&self.sockets, index), storm, self.total));
        let (members, times) = all(coming).await?.into_iter().unzip();
        self.members = members;
        Ok(times)
    }

    /// The faults at all members.
    pub(super) fn faults(&self) -> Faults {
        self.members.iter().map(|member| member.faults(self.total)).sum()
    }
}
