//! What conversations are, told a second time and otherwise: whole objects, no rows, no bytes.

use std::collections::{BTreeMap, BTreeSet};

use quip_core::{Action, Authority, By, Command, JoinAs, Policy};
use quip_protocol::{
    Blob, Code, ConversationId, DeviceId, Kind, UserId, conversation::Outcome, event, event::kind, event::role,
};
use serde::Serialize;

use crate::world::Seen;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Member,
    Left,
    Banned,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) standing: Standing,
    pub(crate) role: u8,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) unread_from: u64,
    pub(crate) mark: (u64, u64),
    /// How often they began to speak while something was unread for them.
    pub(crate) own_runs: usize,
    /// What was visible in earlier memberships.
    pub(crate) past: BTreeSet<u64>,
    /// The message number and the title of a group at the end of the membership.
    pub(crate) parting: (u64, String),
}

impl Person {
    pub(crate) fn sees(&self, seq: u64) -> bool {
        self.past.contains(&seq) || (self.from..=self.to).contains(&seq)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Talk {
    pub(crate) is_group: bool,
    pub(crate) policy: Policy,
    pub(crate) title: String,
    pub(crate) events: Vec<Seen>,
    pub(crate) first_kept: u64,
    /// The edits of each message that is not deleted.
    pub(crate) edits: BTreeMap<u64, Vec<u64>>,
    /// The edits that were deleted alone.
    pub(crate) reverted: BTreeSet<u64>,
    /// Who reacted how to each message that is not deleted.
    pub(crate) reactions: BTreeMap<u64, BTreeSet<(UserId, String)>>,
    pub(crate) people: BTreeMap<String, Person>,
    pub(crate) began: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) talks: BTreeMap<ConversationId, Talk>,
    /// When users were heard last.
    pub(crate) seen: BTreeMap<String, u64>,
    /// Everything that a device was ever told, in order of `n`, with what it had asked for.
    pub(crate) told: BTreeMap<(ConversationId, UserId, DeviceId), Vec<(Action, Outcome)>>,
}

/// The event that it becomes, if any.
type Answer = Result<Option<(u64, Vec<u8>)>, Code>;

impl Talk {
    pub(crate) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    pub(crate) fn number(&self) -> u64 {
        self.events.last().map_or(0, |event| event.number)
    }

    pub(crate) fn last_at(&self) -> u64 {
        self.events.last().map_or(self.began, |event| event.at)
    }

    pub(crate) fn members(&self) -> usize {
        self.people.values().filter(|person| person.standing == Standing::Member).count()
    }

    pub(crate) fn owners(&self) -> usize {
        let owner = |person: &&Person| person.standing == Standing::Member && person.role == role::OWNER;
        self.people.values().filter(owner).count()
    }

    fn current(&self, name: &str) -> Option<&Person> {
        self.people.get(name).filter(|person| person.standing == Standing::Member)
    }

    fn enter(&mut self, name: &str, role: u8) {
        let next = self.head() + 1;
        let from = if self.policy.history_open { 1 } else { next };
        let before = self.people.get(name);
        let mark = before.map_or((0, 0), |person| person.mark);
        let past =
            before.map(|person| person.past.iter().copied().chain(person.from..=person.to.min(self.head())).collect());
        let (unread_from, past, parting) = (self.number(), past.unwrap_or_default(), (0, String::new()));
        let own_runs = before.map_or(0, |person| person.own_runs);
        let (standing, to) = (Standing::Member, u64::MAX);
        let person = Person { standing, role, from, to, unread_from, mark, own_runs, past, parting };
        self.people.insert(name.to_owned(), person);
    }

    fn exit(&mut self, name: &str, standing: Standing, shown: bool) {
        let to = self.head() + u64::from(shown);
        let title = if self.is_group { self.title.clone() } else { String::new() };
        let parting = (self.number(), title);
        let person = self.people.get_mut(name).unwrap();
        (person.standing, person.to, person.parting) = (standing, to, parting);
    }

    /// How many messages are unread for somebody: all of others that are not deleted, behind the mark and the latest joining.
    pub(crate) fn unread(&self, name: &str) -> u64 {
        let person = &self.people[name];
        let last = if person.standing == Standing::Member { self.number() } else { person.parting.0 };
        let unread = person.mark.1.max(person.unread_from) + 1..=last;
        let messages = self.events.iter().filter(|event| [kind::TEXT, kind::DATA].contains(&event.kind));
        messages.filter(|event| unread.contains(&event.number) && event.user.as_str() != name).count() as u64
    }

    /// Messages that were deleted.
    pub(crate) fn deleted(&self) -> usize {
        let before = |at: usize| at.checked_sub(1).map_or(0, |at| self.events[at].number);
        let gone = |(at, event): &(usize, &Seen)| event.kind == kind::TOMBSTONE && event.number > before(*at);
        self.events.iter().enumerate().filter(gone).count()
    }

    /// Somebody has said the newest message.
    fn said(&mut self, name: &str) {
        let (seq, number, is_behind) = (self.head(), self.number(), self.unread(name) > 0);
        let person = self.people.get_mut(name).unwrap();
        if is_behind {
            person.own_runs += 1;
        } else {
            person.mark = (seq, number);
        }
    }

    /// A message that this member can see.
    fn message(&self, me: &Person, seq: u64) -> Option<&Seen> {
        self.content(seq).filter(|event| event.kind != kind::EDITED && me.sees(seq))
    }

    /// What clients show of a message, unless the edit that says so may be gone.
    fn shown<'a>(&'a self, message: &'a Seen) -> Option<&'a [u8]> {
        let Some(newest) = self.edits.get(&message.seq).and_then(|edits| edits.last()) else {
            return Some(&message.body);
        };
        if self.reverted.iter().any(|gone| gone >= newest) {
            return None;
        }
        let edited: event::Edited<'_> = postcard::from_bytes(&self.events[*newest as usize - 1].body).unwrap();
        Some(edited.body.0)
    }

    /// A message or an edit that is kept.
    fn content(&self, seq: u64) -> Option<&Seen> {
        let event = self.events.get(usize::try_from(seq).ok()?.checked_sub(1)?)?;
        let is_content = [kind::TEXT, kind::DATA, kind::EDITED].contains(&event.kind);
        (seq >= self.first_kept && is_content).then_some(event)
    }
}

fn bytes(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).unwrap()
}

impl Model {
    /// Decides one command; the outcome that its device gets.
    pub(crate) fn apply(&mut self, command: &Command, at: u64) -> Option<Outcome> {
        let id = command.conversation;
        let (user, device, n) = match &command.by {
            By::Relay => {
                if let Action::Seen { user, at: heard } = &command.action {
                    let seen = self.seen.entry(user.as_str().to_owned()).or_default();
                    *seen = (*heard).min(at).max(if *seen <= at { *seen } else { 0 });
                }
                if let Action::Forget { user, device, before } = &command.action {
                    let told = self.told.entry((id, user.clone(), *device)).or_default();
                    if told.last().is_some_and(|(_, outcome)| outcome.at < *before) {
                        told.clear();
                    }
                }
                self.standing_order(id, &command.action);
                return None;
            }
            By::Device { user, device, n } => (user, *device, *n),
        };
        if let Action::Mark { seq, number } = command.action {
            self.mark(id, user, seq, number);
            return None;
        }
        let at = self.talks.get(&id).map_or(at, |talk| talk.last_at().max(at));
        let told = self.told.entry((id, user.clone(), device)).or_default();
        let last = told.len() as u64;
        let check = quip_core::check(&command.action);
        let answer = |code, seq| Some(Outcome { n, code, seq, number: 0, at, check });
        if n > last + 1 {
            return answer(Code::MISSING, last);
        }
        if n <= last {
            if n + 64 <= last {
                return answer(Code::KNOWN, 0);
            }
            let (asked, outcome) = &told[n as usize - 1];
            let joins = |a: &Action, b: &Action| matches!((a, b), (Action::Join(_), Action::Join(_)));
            let same = *asked == command.action || joins(asked, &command.action);
            return if same { Some(*outcome) } else { answer(Code::REUSED, 0) };
        }
        let outcome = match self.decide(id, user, &command.authority, &command.action, at) {
            Err(code) => Outcome { n, code, seq: 0, number: 0, at, check },
            Ok(None) => Outcome { n, code: Code::DONE, seq: 0, number: 0, at, check },
            Ok(Some((kind, body))) => {
                let talk = self.talks.get_mut(&id).unwrap();
                let seq = talk.head() + 1;
                let number = talk.number() + u64::from(kind == kind::TEXT || kind == kind::DATA);
                talk.events.push(Seen { seq, number, at, user: user.clone(), kind, body });
                if matches!(command.action, Action::Post { .. }) {
                    talk.said(user.as_str());
                }
                Outcome { n, code: Code::DONE, seq, number, at, check }
            }
        };
        if self.talks.contains_key(&id) {
            self.told.get_mut(&(id, user.clone(), device)).unwrap().push((command.action.clone(), outcome));
        }
        Some(outcome)
    }

    fn standing_order(&mut self, id: ConversationId, action: &Action) {
        let Some(talk) = self.talks.get_mut(&id) else { return };
        match action {
            Action::SetPolicy { policy } if id.kind() == Some(Kind::Room) => talk.policy = *policy,
            Action::Trim { first_kept } => talk.first_kept = (*first_kept).clamp(talk.first_kept, talk.head() + 1),
            _ => {}
        }
    }

    fn mark(&mut self, id: ConversationId, user: &UserId, seq: u64, number: u64) {
        let Some(talk) = self.talks.get_mut(&id) else { return };
        let (head, total) = (talk.head(), talk.number());
        let Some(me) = talk.people.get_mut(user.as_str()) else { return };
        let seq = seq.min(head).min(me.to);
        let last = if me.standing == Standing::Member { total } else { me.parting.0 };
        if seq > me.mark.0 {
            me.mark = (seq, number.min(last).max(me.mark.1));
        }
    }

    fn decide(&mut self, id: ConversationId, user: &UserId, may: &Authority, action: &Action, at: u64) -> Answer {
        let name = user.as_str();
        match action {
            Action::Join(how) => return self.join(id, user, may, how, at),
            Action::SetPolicy { .. } | Action::Trim { .. } | Action::Forget { .. } | Action::Seen { .. } => {
                return Err(Code::FORBIDDEN);
            }
            _ => {}
        }
        let talk = self.talks.get_mut(&id).ok_or(Code::NOT_FOUND)?;
        let me = match talk.people.get(name) {
            None => return Err(Code::NOT_FOUND),
            Some(person) if person.standing == Standing::Left => return Err(Code::NOT_A_MEMBER),
            Some(person) if person.standing == Standing::Banned => return Err(Code::BANNED),
            Some(person) => person.clone(),
        };
        let (direct, room) = (id.kind() == Some(Kind::Direct), id.kind() == Some(Kind::Room));
        let leads = me.role >= role::ADMIN || (room && may.moderate);
        let shown = talk.policy.joins_shown;
        let alter = matches!(
            action,
            Action::Leave
                | Action::Add { .. }
                | Action::Remove { .. }
                | Action::SetRole { .. }
                | Action::SetTitle { .. }
        );
        if direct && alter {
            return Err(Code::WRONG_KIND);
        }
        match action {
            Action::Post { .. } if room && !may.post => Err(Code::FORBIDDEN),
            Action::Post { kind, body } => Ok(Some((*kind, body.to_vec()))),
            Action::Edit { .. } if room && !may.post => Err(Code::FORBIDDEN),
            Action::Edit { target, body } => match talk.message(&me, *target) {
                None => Err(Code::NO_TARGET),
                Some(event) if event.user != *user => Err(Code::FORBIDDEN),
                Some(event) if event.kind == kind::TEXT && std::str::from_utf8(body).is_err() => Err(Code::NOT_TEXT),
                Some(event) if talk.shown(event) == Some(&body[..]) => Ok(None),
                Some(_) if talk.edits.get(target).is_some_and(|edits| edits.len() == 200) => Err(Code::TOO_MANY_EDITS),
                Some(_) => {
                    let seq = talk.head() + 1;
                    talk.edits.entry(*target).or_default().push(seq);
                    Ok(Some((kind::EDITED, bytes(&event::Edited { target: *target, body: Blob(body) }))))
                }
            },
            Action::Delete { target } => match talk.content(*target) {
                None => Err(Code::NO_TARGET),
                Some(event) if event.user != *user && !me.sees(*target) => Err(Code::NO_TARGET),
                Some(event) if event.user != *user && !leads => Err(Code::FORBIDDEN),
                Some(event) => {
                    let by = talk.head() + 1;
                    if event.kind == kind::EDITED {
                        talk.reverted.insert(*target);
                    }
                    talk.reactions.remove(target);
                    let edits = talk.edits.remove(target).unwrap_or_default();
                    for gone in [*target].into_iter().chain(edits) {
                        let event = &mut talk.events[gone as usize - 1];
                        (event.kind, event.body) = (kind::TOMBSTONE, bytes(&event::Tombstone { by }));
                    }
                    Ok(Some((kind::DELETED, bytes(&event::Deleted { target: *target }))))
                }
            },
            Action::React { target, add, reaction } => match talk.message(&me, *target) {
                None => Err(Code::NO_TARGET),
                Some(_) => {
                    let there = talk.reactions.entry(*target).or_default();
                    let this = (user.clone(), reaction.clone());
                    let body = event::Reacted { target: *target, add: *add, reaction };
                    let changed = if *add { there.insert(this) } else { there.remove(&this) };
                    Ok(changed.then(|| (kind::REACTED, bytes(&body))))
                }
            },
            Action::Leave => {
                if me.role == role::OWNER && talk.owners() == 1 && talk.members() > 1 {
                    return Err(Code::LAST_OWNER);
                }
                talk.exit(name, Standing::Left, shown);
                Ok(shown.then(|| (kind::LEFT, Vec::new())))
            }
            Action::Add { .. } if !leads => Err(Code::FORBIDDEN),
            Action::Add { user: other } if room => match talk.people.get_mut(other.as_str()) {
                Some(person) if person.standing == Standing::Banned => {
                    person.standing = Standing::Left;
                    Ok(None)
                }
                _ => Err(Code::NO_TARGET),
            },
            Action::Add { user: other } => {
                if talk.current(other.as_str()).is_some() {
                    return Ok(None);
                }
                if talk.members() >= may.group_members as usize {
                    return Err(Code::CONVERSATION_FULL);
                }
                if !may.add {
                    return Err(Code::ADDED_TOO_OFTEN);
                }
                talk.enter(other.as_str(), role::MEMBER);
                Ok(Some((kind::ADDED, bytes(&event::Added { user: other.as_str() }))))
            }
            Action::Remove { user: other, .. } if other == user => Err(Code::WRONG_KIND),
            Action::Remove { user: other, ban } => {
                let other = other.as_str();
                let theirs = talk.current(other).map_or(0, |person| person.role);
                let above = me.role == role::OWNER || (me.role == role::ADMIN && theirs < role::ADMIN);
                let moderates = room && may.moderate;
                if !(above || moderates) {
                    return Err(Code::FORBIDDEN);
                }
                let standing = if *ban { Standing::Banned } else { Standing::Left };
                if theirs > 0 {
                    talk.exit(other, standing, shown);
                    if theirs == role::OWNER && talk.owners() == 0 {
                        talk.people.get_mut(name).unwrap().role = role::OWNER;
                    }
                    return Ok(shown.then(|| (kind::REMOVED, bytes(&event::Removed { user: other, ban: *ban }))));
                }
                if !ban {
                    return Err(Code::NO_TARGET);
                }
                let nobody = Person {
                    standing,
                    role: role::MEMBER,
                    from: 1,
                    to: 0,
                    unread_from: 0,
                    mark: (0, 0),
                    own_runs: 0,
                    past: BTreeSet::new(),
                    parting: (0, String::new()),
                };
                talk.people.entry(other.to_owned()).or_insert(nobody).standing = standing;
                Ok(None)
            }
            Action::SetRole { .. } if me.role != role::OWNER => Err(Code::FORBIDDEN),
            Action::SetRole { user: other, role: new } => {
                let held = talk.current(other.as_str()).ok_or(Code::NO_TARGET)?.role;
                if held == *new {
                    return Ok(None);
                }
                if held == role::OWNER && talk.owners() == 1 {
                    return Err(Code::LAST_OWNER);
                }
                talk.people.get_mut(other.as_str()).unwrap().role = *new;
                Ok(Some((kind::ROLE, bytes(&event::RoleChanged { user: other.as_str(), role: *new }))))
            }
            Action::SetTitle { .. } if !leads => Err(Code::FORBIDDEN),
            Action::SetTitle { title } if talk.title == *title => Ok(None),
            Action::SetTitle { title } => {
                talk.title.clone_from(title);
                Ok(Some((kind::TITLE, bytes(&event::Titled { title }))))
            }
            Action::Join(_)
            | Action::Mark { .. }
            | Action::SetPolicy { .. }
            | Action::Trim { .. }
            | Action::Forget { .. }
            | Action::Seen { .. } => {
                unreachable!()
            }
        }
    }

    fn join(&mut self, id: ConversationId, user: &UserId, may: &Authority, how: &JoinAs, at: u64) -> Answer {
        let name = user.as_str();
        let fits = match how {
            JoinAs::Existing => id.kind().is_some(),
            JoinAs::NewGroup => id.kind() == Some(Kind::Group),
            JoinAs::Direct(peer) => id == ConversationId::direct(peer, user),
            JoinAs::Room(room) => {
                quip_protocol::RoomName::parse(room).is_ok_and(|room| id == ConversationId::room(&room))
            }
        };
        if !fits {
            return Err(Code::NOT_FOUND);
        }
        let room = id.kind() == Some(Kind::Room);
        let known = self.talks.get(&id).map(|talk| talk.people.get(name).map(|person| person.standing));
        let by_name = matches!(how, JoinAs::Room(_));
        match known {
            Some(Some(Standing::Member)) => return Ok(None),
            Some(Some(Standing::Banned)) => return Err(Code::BANNED),
            Some(Some(Standing::Left)) if room && !may.join => return Err(Code::FORBIDDEN),
            Some(_) if room && may.join => {}
            _ if by_name && !may.join => return Err(Code::FORBIDDEN),
            None if by_name && may.create => {}
            None if matches!(how, JoinAs::NewGroup | JoinAs::Direct(_)) => {}
            _ => return Err(Code::NOT_FOUND),
        }
        let talk = self.talks.entry(id).or_insert_with(|| Talk {
            is_group: id.kind() == Some(Kind::Group),
            policy: match how {
                JoinAs::Direct(_) => Policy { history_open: true, joins_shown: false },
                JoinAs::NewGroup => Policy { history_open: false, joins_shown: true },
                _ => may.policy,
            },
            title: String::new(),
            events: Vec::new(),
            first_kept: 1,
            edits: BTreeMap::new(),
            reverted: BTreeSet::new(),
            reactions: BTreeMap::new(),
            people: BTreeMap::new(),
            began: at,
        });
        if let JoinAs::Direct(peer) = how {
            talk.enter(name, role::MEMBER);
            talk.enter(peer.as_str(), role::MEMBER);
            return Ok(None);
        }
        let shown = talk.policy.joins_shown;
        let owns = talk.owners() == 0 && may.create;
        talk.enter(name, if owns || !room { role::OWNER } else { role::MEMBER });
        Ok(shown.then(|| (kind::JOINED, Vec::new())))
    }
}
