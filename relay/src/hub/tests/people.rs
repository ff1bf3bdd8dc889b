//! Presence, last seen and notifications.

use quip_core::{Action, Effect};
use quip_protocol::session::presence::{OFFLINE, ONLINE, UNREACHABLE};
use quip_store::Members;

use super::*;

/// Opens a direct conversation, in which the other one is watched.
fn watch(relay: &mut Relay, client: Client, name: &str, other: &str) -> StreamKey {
    let target = Target::Direct(user(other));
    let stream = relay.ask(client, 1, &target, 0, Start::Now);
    let (a, b) = if name < other { (name, other) } else { (other, name) };
    let naming = Naming::Direct(user(a), user(b));
    let companions = Some(vec![(user(other), 5)]);
    relay.found_rows(OpenRows { companions, ..rows(row(0, naming), Some(present())) });
    stream
}

fn shown(name: &str, state: u8) -> Vec<ToSee> {
    vec![ToSee::Presence(name.to_owned(), state)]
}

#[test]
fn silence_shows_as_unreachable_and_then_as_offline() {
    let mut relay = Relay::new();
    let ann = relay.client("ann");
    watch(&mut relay, ann, "ann", "bob");
    assert_eq!(relay.said(ann.session), shown("bob", OFFLINE));
    let bob = relay.client("bob");
    assert_eq!(relay.said(ann.session), shown("bob", ONLINE));
    let alive = |relay: &mut Relay, seconds| {
        for _ in 0..seconds {
            relay.wait(Duration::from_secs(1));
            relay.world().connections[ann.at].frames += 1;
        }
    };
    alive(&mut relay, 18);
    assert_eq!(relay.said(ann.session), []);
    alive(&mut relay, 6);
    assert_eq!(relay.said(ann.session), shown("bob", UNREACHABLE));
    relay.world().connections[bob.at].frames += 1;
    alive(&mut relay, 3);
    assert_eq!(relay.said(ann.session), shown("bob", ONLINE));
    alive(&mut relay, 36);
    assert_eq!(relay.said(ann.session), [shown("bob", UNREACHABLE), shown("bob", OFFLINE)].concat());
    assert_eq!((relay.closed(bob), relay.closed(ann)), (Some(Code::IDLE), None));
}

#[test]
fn a_broken_connection_shows_after_a_pause_and_a_goodbye_at_once() {
    let mut relay = Relay::new();
    let ann = relay.client("ann");
    let bob = relay.client("bob");
    watch(&mut relay, ann, "ann", "bob");
    relay.said(ann.session);
    relay.hub.disconnected(bob.at, crate::hub::DisconnectReason::Broken);
    relay.wait(Duration::from_secs(2));
    assert_eq!(relay.said(ann.session), []);
    relay.wait(Duration::from_secs(2));
    assert_eq!(relay.said(ann.session), shown("bob", OFFLINE));
    let bob = relay.client("bob");
    relay.hub.finished(bob.session);
    assert_eq!(relay.said(ann.session), [shown("bob", ONLINE), shown("bob", OFFLINE)].concat());
}

#[test]
fn a_user_who_closed_the_conversation_sees_nothing_more() {
    let mut relay = Relay::new();
    let ann = relay.client("ann");
    let stream = watch(&mut relay, ann, "ann", "bob");
    relay.said(ann.session);
    relay.hub.finished(stream);
    relay.client("bob");
    assert_eq!(relay.said(ann.session), []);
}

#[test]
fn members_who_come_to_a_small_group_are_watched_and_those_who_go_are_not() {
    let mut relay = Relay::new();
    let ann = relay.client("ann");
    let stream = relay.ask(ann, 1, &Target::Id(group()), 0, Start::Now);
    relay.found_rows(OpenRows { companions: Some(Vec::new()), ..rows(group_row(1), Some(present())) });
    relay.said(stream);
    let visible = |to| Effect::Visible { user: user("bob"), from: 1, to, role: 1, name: String::new() };
    relay.commit(vec![Change { effects: vec![visible(u64::MAX)], ..event(2) }]);
    assert_eq!(relay.said(ann.session), shown("bob", OFFLINE));
    let bob = relay.client("bob");
    assert_eq!(relay.said(ann.session), shown("bob", ONLINE));
    relay.commit(vec![Change { effects: vec![visible(2)], ..event(3) }]);
    relay.hub.finished(bob.session);
    assert_eq!(relay.said(ann.session), []);
}

#[test]
fn one_who_was_removed_sees_no_presence_while_the_stream_is_unread() {
    let mut relay = Relay::new();
    let ann = relay.client("ann");
    let stream = relay.ask(ann, 1, &Target::Id(group()), 0, Start::Now);
    let companions = Some(vec![(user("bob"), 0), (user("cat"), 0)]);
    relay.found_rows(OpenRows { companions, ..rows(group_row(1), Some(present())) });
    relay.said(stream);
    relay.said(ann.session);
    relay.world().streams[stream].room = 0;
    let removed = Effect::Visible { user: user("ann"), from: 1, to: 2, role: 0, name: String::new() };
    relay.commit(vec![Change { effects: vec![removed], ..event(2) }]);
    relay.client("bob");
    let added = Effect::Visible { user: user("dan"), from: 3, to: u64::MAX, role: 1, name: String::new() };
    relay.commit(vec![Change { effects: vec![added], ..event(3) }]);
    relay.client("dan");
    assert_eq!(relay.said(ann.session), []);
    // Back again, an old stream stays one of the membership that ended.
    let added = Effect::Visible { user: user("ann"), from: 4, to: u64::MAX, role: 1, name: String::new() };
    relay.commit(vec![Change { effects: vec![added], ..event(4) }]);
    relay.client("cat");
    assert_eq!(relay.said(ann.session), []);
    relay.world().streams[stream].room = usize::MAX;
    relay.hub.writable(stream);
    assert_eq!(relay.said(stream), [ToSee::Event(2), ToSee::End(Code::ENDED)]);
}

/// Answers a read of the group's members: these three. Gives what was asked for.
fn read_members(relay: &mut Relay) -> Vec<(ConversationId, Option<UserId>)> {
    let own = std::mem::take(&mut relay.world().own_reads);
    let asked = own.into_iter().find_map(|read| match read {
        Wanted::GroupMembers { places, .. } => Some(places),
        _ => None,
    });
    let members = [user("ann"), user("bob"), user("gone")].map(|user| (user, present())).to_vec();
    let page = GroupPage { title: "Tea".to_owned(), members: Members { members, next: None } };
    relay.hub.mail(Mail::Read(ReadDone(Got::GroupMembers(vec![Ok(page)]))));
    asked.expect("a read of members")
}

#[test]
fn members_who_are_here_and_do_not_have_a_group_open_are_notified_of_its_messages() {
    let mut relay = Relay::new();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| relay.client(name));
    relay.open(bob, 0, Start::Now);
    relay.commit(vec![event(1)]);
    relay.commit(vec![event(2)]);
    relay.wait(Duration::from_millis(900));
    relay.world().own_reads.retain(|read| !matches!(read, Wanted::LastSeen(_)));
    assert!(relay.world().own_reads.is_empty());
    relay.wait(Duration::from_millis(200));
    assert_eq!(read_members(&mut relay), [(group(), None)]);
    let told = |head, preview: &str| vec![ToSee::Changed(head, "Tea".to_owned(), preview.to_owned())];
    assert_eq!(relay.said(ann.session), told(2, "hello"));
    // One that is deleted before its notification.
    relay.commit(vec![event(3), event(4)]);
    let deletion = NewEvent { kind: kind::DELETED, ..event(5).event.unwrap() };
    let record = deletion.record.clone();
    let effects = vec![Effect::Rewritten { seq: 4, record }];
    relay.commit(vec![Change { event: Some(deletion), effects, ..event(5) }]);
    relay.wait(Duration::from_millis(1100));
    read_members(&mut relay);
    assert_eq!(relay.said(ann.session), told(4, ""));
    assert_eq!((relay.said(bob.session), relay.said(eve.session)), (vec![], vec![]));
}

#[test]
fn a_mark_that_moves_with_an_own_message_is_told_where_the_conversation_is_not_open() {
    let mut relay = Relay::new();
    let [open, other] = [relay.client("ann"), relay.client("ann")];
    relay.open(open, 0, Start::Now);
    let marked = || vec![Effect::Marked { user: user("ann"), seq: 1, number: 1 }];
    relay.commit(vec![Change { effects: marked(), ..event(1) }]);
    assert_eq!((relay.said(open.session), relay.said(other.session)), (vec![], vec![ToSee::Marked(1)]));
    relay.commit(vec![Change { event: None, effects: marked(), ..event(1) }]);
    assert_eq!((relay.said(open.session), relay.said(other.session)), (vec![ToSee::Marked(1)], vec![ToSee::Marked(1)]));
}

#[test]
fn when_a_user_was_last_seen_is_written_when_they_come_and_after_they_left() {
    let mut relay = Relay::with(|config| config.presence.last_seen_every = Duration::from_secs(1));
    let client = relay.client("ann");
    relay.wait(TICK);
    let Some(Wanted::LastSeen(commands)) = relay.world().own_reads.pop_front() else { panic!("no read") };
    relay.world().refusal = Some(quip_order::SubmitError::Full { retry_after_ms: 50 });
    relay.hub.mail(Mail::Read(ReadDone(Got::LastSeen(commands))));
    relay.world().refusal = None;
    relay.wait(TICK);
    let Some(Wanted::LastSeen(commands)) = relay.world().own_reads.pop_front() else { panic!("due again") };
    relay.hub.mail(Mail::Read(ReadDone(Got::LastSeen(commands))));
    let submitted = relay.world().submitted.pop().unwrap();
    assert_eq!(submitted.action, Action::Seen { user: user("ann"), at: TIME });
    let written = Effect::Seen { user: user("ann"), at: TIME };
    relay.commit(vec![Change { event: None, effects: vec![written], ..event(1) }]);
    relay.hub.finished(client.session);
    relay.wait(Duration::from_secs(3));
    assert!(relay.world().own_reads.is_empty(), "it is stored, and there is nothing newer");
}
