//! What a user might do next.

use std::time::Duration;

use bytes::Bytes;
use quip_client::{HistoryQuery, Receipt, RequestError, SendError, Sender, kind, role};
use quip_protocol::{
    Blob, ConversationId, Kind,
    event::{Added, Deleted, Edited, Reacted, Removed, RoleChanged, Titled},
};
use serde::Serialize;
use tokio::time::timeout;

use super::{app::App, place::Place};
use crate::{history::App as Entry, plant::Plant};

impl App {
    /// Does one thing.
    pub(super) async fn act(&mut self) {
        let host = self.process.host.clone();
        let places = &self.process.shared.places;
        let place = places[host.draw(places.len() as u64) as usize].clone();
        let id = place.id();
        match host.draw(20) {
            0..=2 => {
                let join = place.may_join(&self.process.user) && host.draw(5) > 0;
                // Some users are impatient and give up in the middle.
                let patience = if host.draw(6) == 0 { host.draw(100) } else { 20_000 };
                self.open(&place, join, Duration::from_millis(patience)).await;
            }
            3 => self.close(id),
            4 if host.draw(3) == 0 => self.drop_reader(id),
            4 => self.client.network_changed(),
            5 | 6 => self.ask(id).await,
            7 if host.draw(4) == 0 => self.burst(id).await,
            7 if host.draw(4) == 0 => self.flood().await,
            7..=13 => self.say(id).await,
            14..=16 => self.change(id).await,
            17 => self.mark(id),
            _ => self.govern(&place).await,
        }
    }

    fn sender(&self, id: ConversationId) -> Option<Sender> {
        self.open.get(&id).map(|open| open.sender.clone())
    }

    /// A text that nobody has used before.
    fn compose(&mut self) -> String {
        self.composed += 1;
        let (device, at) = (self.process.device.0, self.process.shared.recorder.elapsed().as_micros());
        format!("{device}.{at}.{}", self.composed)
    }

    async fn say(&mut self, id: ConversationId) {
        let Some(sender) = self.sender(id) else { return };
        let host = self.process.host.clone();
        let mut text = self.compose();
        let size = [0, 0, 0, 100, 2000, 16_000][host.draw(6) as usize];
        text.extend(std::iter::repeat_n('x', host.draw(size + 1) as usize));
        let body = Bytes::from(text.clone());
        self.send(id, kind::TEXT, body, sender.send(&text)).await;
    }

    async fn burst(&mut self, id: ConversationId) {
        for _ in 0..self.process.host.draw(80) {
            let (Some(sender), text) = (self.sender(id), self.compose()) else { return };
            self.send(id, kind::TEXT, Bytes::from(text.clone()), sender.send(&text)).await;
        }
    }

    /// Says as much as there may be in a message, in every open conversation at once.
    async fn flood(&mut self) {
        let ids: Vec<_> = self.open.keys().copied().collect();
        for _ in 0..self.process.host.draw(12) {
            for id in &ids {
                let (Some(sender), mut text) = (self.sender(*id), self.compose()) else { continue };
                text.extend(std::iter::repeat_n('x', LARGE));
                self.send(*id, kind::TEXT, Bytes::from(text.clone()), sender.send(&text)).await;
            }
        }
    }

    /// Changes or answers something that was said.
    async fn change(&mut self, id: ConversationId) {
        let (Some(sender), host) = (self.sender(id), self.process.host.clone()) else { return };
        let head = sender.opened().map_or(0, |opened| opened.head);
        let target = 1 + host.draw(head + 3);
        let text = self.compose();
        match host.draw(3) {
            0 => {
                let body = body(&Edited { target, body: Blob(text.as_bytes()) });
                self.send(id, kind::EDITED, body, sender.edit(target, &text)).await;
            }
            1 => self.send(id, kind::DELETED, body(&Deleted { target }), sender.delete(target)).await,
            _ => {
                let reaction = &text[..text.len().min(32)];
                let body = body(&Reacted { target, add: true, reaction });
                self.send(id, kind::REACTED, body.clone(), sender.react(target, reaction, true)).await;
                // Once more, which changes nothing.
                self.send(id, kind::REACTED, body, sender.react(target, reaction, true)).await;
            }
        }
    }

    fn mark(&self, id: ConversationId) {
        if let Some(sender) = self.sender(id) {
            match sender.opened() {
                Some(opened) => sender.mark_read(opened.head, opened.number),
                None => sender.mark_all_read(),
            }
            sender.typing();
        }
    }

    /// What those do who decide about members, or try to.
    async fn govern(&mut self, place: &Place) {
        let id = place.id();
        let (Some(sender), host) = (self.sender(id), self.process.host.clone()) else { return };
        let users = self.process.shared.recorder.users();
        // The last user stays alone.
        let social = users.len() as u64 - u64::from(place.kind() != Kind::Room);
        let user = users[host.draw(social) as usize].as_str();
        match host.draw(10) {
            0 => self.send(id, kind::LEFT, Bytes::new(), sender.leave()).await,
            1..=4 => self.send(id, kind::ADDED, body(&Added { user }), sender.add(user)).await,
            5 | 6 => {
                let ban = host.draw(3) == 0;
                self.send(id, kind::REMOVED, body(&Removed { user, ban }), sender.remove(user, ban)).await;
            }
            7 | 8 => {
                let role = [role::MEMBER, role::ADMIN, role::OWNER][host.draw(3) as usize];
                self.send(id, kind::ROLE, body(&RoleChanged { user, role }), sender.set_role(user, role)).await;
            }
            _ => {
                let title = self.compose();
                self.send(id, kind::TITLE, body(&Titled { title: &title }), sender.set_title(&title)).await;
            }
        }
    }

    /// Sends, and notes what becomes of it.
    async fn send(
        &self,
        conversation: ConversationId,
        kind: u64,
        body: Bytes,
        sending: impl Future<Output = Result<Receipt, SendError>>,
    ) {
        let Ok(Ok(receipt)) = timeout(SEND, sending).await else { return };
        let process = self.process.clone();
        let ticket = process.shared.ticket(process.device);
        process.note(Entry::Sent { ticket, conversation, kind, body });
        self.process.host.spawn(async move {
            let mut fate = receipt.accepted().await;
            if process.planted(Plant::FinalCode, 100) {
                fate = Err(quip_client::ReceiptError::Refused(quip_protocol::Code::FORBIDDEN));
            }
            process.note(Entry::Fate { ticket, fate });
            process.shared.told(process.device);
        });
    }

    /// Asks for something about a conversation.
    async fn ask(&self, conversation: ConversationId) {
        let host = &self.process.host;
        let failed = match host.draw(4) {
            0 => {
                let query = match host.draw(3) {
                    0 => HistoryQuery::newest(20),
                    1 => HistoryQuery::after(host.draw(50), 20),
                    _ => HistoryQuery::before(1 + host.draw(50), 20),
                };
                let page = self.client.history(conversation, query).await;
                page.map(|page| self.process.note(Entry::Read { conversation, page })).err()
            }
            1 => {
                let page = self.client.members(conversation, None, 100).await;
                let members = page.map(|page| page.items.into_iter().map(|member| member.user).collect());
                members.map(|members| self.process.note(Entry::Members { conversation, members })).err()
            }
            2 => {
                let page = self.client.presence_in(conversation, None, 100).await;
                page.map(|page| self.process.note(Entry::Present { conversation, members: page.items })).err()
            }
            _ => {
                let page = self.client.list(None, 100).await;
                page.map(|page| self.process.note(Entry::Listed(page.items))).err()
            }
        };
        if let Some(error) = failed {
            let code = if let RequestError::Refused { code, .. } = error { Some(code) } else { None };
            self.process.note(Entry::NotAnswered { conversation, code });
        }
    }
}

fn body(of: &impl Serialize) -> Bytes {
    postcard::to_stdvec(of).expect("plain data serialises into a Vec").into()
}

/// How long a user waits until a command is taken.
const SEND: Duration = Duration::from_secs(2);

/// Bytes of the largest messages, less what makes each its own.
const LARGE: usize = 16_000;
