"""Marks, presence, notifications, requests, signals, and a relay that ends: sections 7, 11 and 14."""

import os

import codec
from checks import *
from client import Client, Connection, settle_all, wait
from codec import frame
from relay import NONE, Relay


def two_in_a_room(relay):
    """ann and bob, another connection of ann, and the room of each."""
    ann, bob = people(relay, "ann", "bob")
    other = Client(relay, ann.user)
    other.welcomed()
    name = a_room()
    return ann, bob, other, ann.join(name), bob.join(name)


@check("read marks: the highest counts, above the head it is the head, all connections are told")
def _(relay):
    ann, _, other, room, at_bob = two_in_a_room(relay)
    for n in range(2, 5):
        at_bob.post(n, "x")
    settle_all(at_bob, 3)
    room.send(frame("Mark", seq=2, number=1))
    for session in (ann.session, other.session):
        marked = session.find("Marked")
        same((marked.conversation, marked.seq, marked.number), (room.first.conversation, 2, 1))
    room.send(frame("Mark", seq=1, number=9) + frame("Mark", seq=99, number=99))
    marked = other.session.find("Marked")
    same((marked.seq, marked.number), (5, 3))
    entries, _ = other.ask("List", limit=100)
    same([(entry.read, entry.number - entry.read_number) for entry in entries], [(5, 0)])


@check("unread: neither what one says oneself nor what was deleted")
def _(relay):
    ann, bob, other, room, at_bob = two_in_a_room(relay)

    def unread(who):
        return [(entry.read, entry.number - entry.read_number) for entry in who.ask("List", limit=100)[0]]

    room.post(2, "a")
    settle_all(room, 1)
    marked = other.session.find("Marked")
    first = marked.seq
    same((marked.conversation, marked.number, unread(ann)), (room.first.conversation, 1, [(first, 0)]))
    for n in range(2, 4):
        at_bob.post(n, "b")
    settle_all(at_bob, 2)
    room.post(3, "an answer to what was not read")
    settle_all(room, 1)
    same((other.session.find("Marked").number, unread(ann)), (2, [(first, 2)]))
    at_bob.command("Delete", n=4, target=first + 1)
    settle_all(at_bob, 1)
    same((unread(ann), unread(bob)), ([(first, 1)], [(0, 2)]))


@check("presence: of the others on the session stream, offline after BYE, PresenceIn has oneself")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    pair = ann.join("@" + bob.user)
    presence = ann.session.next("Presence")
    same((presence.user, presence.state), (bob.user, 2))
    found, end = ann.ask("PresenceIn", conversation=pair.first.conversation, limit=10)
    same(([(one.user, one.state) for one in found], end.code), (sorted([(ann.user, 2), (bob.user, 2)]), DONE))
    bob.close(BYE)
    presence = ann.session.next("Presence")
    same((presence.user, presence.state), (bob.user, 0))
    assert presence.last_seen > 0


@check("Changed: for who does not have the conversation open")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    pair = ann.join("@" + bob.user)
    def told(who):
        changed = who.session.next("Changed")
        event = (changed.head, changed.number, changed.kind, changed.user, changed.preview, changed.at > 0)
        return changed.conversation, changed.role, changed.name, event

    same(told(bob), (pair.first.conversation, 1, ann.user, (0, 0, 0, "", "", False)))
    text = "\u20ac" * 43
    pair.post(2, text)
    same(told(bob), (pair.first.conversation, 1, ann.user, (1, 1, 1, ann.user, text[:42], True)))
    group = ann.join((3, b"\x02" + os.urandom(15)))
    group.command("SetTitle", n=2, title="Tea")
    group.command("Add", n=3, user=bob.user)
    same(told(bob), (group.first.conversation, 1, "Tea", (3, 0, 8, ann.user, "", True)))
    group.post(4, "news")
    same(told(bob), (group.first.conversation, 1, "Tea", (4, 1, 1, ann.user, "news", True)))
    group.command("Remove", n=5, user=bob.user)
    same(told(bob), (group.first.conversation, 0, "Tea", (5, 1, 9, ann.user, "", True)))


@check("signals go by channel, the relay fills in the user")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    name, beside = a_room(), a_room()
    ann.join(name, channel=7), ann.join(beside, channel=8)
    bob.join(name, channel=300), bob.join(beside)
    ann.quic.send_datagram_frame(codec.put_varint(0x61) + codec.body("Signal", channel=8, kind=1))
    signal = codec.body("Signal", channel=7, user="mallory", kind=16, body=b"own")
    ann.quic.send_datagram_frame(codec.put_varint(0x61) + signal)
    wait(lambda: bob.datagrams, "a signal")
    same([(one.channel, one.user, one.kind, one.body) for one in bob.datagrams], [(300, ann.user, 16, b"own")])


@check("History: both directions, pages, more")
def _(relay):
    [ann] = people(relay, "ann")
    room = ann.join(a_room())
    for n in range(2, 11):
        room.post(n, f"{n}")
    settle_all(room, 9)
    cases = [
        (0, 0, 3, [8, 9, 10], 1),
        (0, 8, 100, [1, 2, 3, 4, 5, 6, 7], 0),
        (1, 0, 2, [1, 2], 1),
        (1, 8, 9, [9, 10], 0),
    ]
    for forward, start, limit, seqs, more in [*cases, (1, 10, 5, [], 0), (0, 1, 5, [], 0), (0, 0, 0, [10], 1)]:
        ask = {"conversation": room.first.conversation, "forward": forward, "from": start, "limit": limit}
        (page, *events), end = ann.ask("History", **ask)
        same((page.first, page.head, page.count, end.code, end.info), (1, 10, len(seqs), DONE, more))
        same([event.seq for event in events], seqs)


@check("List and Members: in order, in pages")
def _(relay):
    ann, *others = people(relay, "ann", "bob", "cid", "dan")
    group = ann.join((3, number := b"\x02" + os.urandom(15)))
    pair, room = ann.join("@" + others[0].user), ann.join(a_room())
    entries, end = ann.ask("List", limit=2)
    rest, last = ann.ask("List", after=entries[-1].conversation, limit=2)
    wanted = sorted(stream.first.conversation for stream in (group, pair, room))
    same([entry.conversation for entry in entries + rest], wanted)
    same((end.info, last.info), (1, 0))
    for n, other in enumerate(others, 2):
        group.command("Add", n=n, user=other.user)
    settle_all(group, 3)
    members, end = ann.ask("Members", conversation=number, after=ann.user, limit=2)
    same([(one.user, one.role, one.since) for one in members], [(others[0].user, 1, 2), (others[1].user, 1, 3)])
    same(end.info, 1)


@check("SIGTERM: GoAway, all works as before, then SHUTDOWN; after the restart everything goes on from the cursor")
def _(shared):
    relay = Relay(shared.binary, NONE + '[limits]\ngo_away_within = "10m"\n')
    try:
        [ann] = people(relay, "ann")
        room = ann.join(name := a_room())
        room.next("Event")
        room.post(2, "before")
        room.next("Accepted")
        relay.terminate()
        away = ann.session.find("GoAway")
        same(away.code, SHUTDOWN)
        same(away.within, 600_000)
        room.post(3, "while it goes")
        room.next("Accepted")
        same(Connection(relay).wait_closed(), SHUTDOWN)
        # Now it hurries.
        relay.terminate()
        same(ann.wait_closed(), SHUTDOWN)
        same(relay.wait(), 0)
        relay.start()
        back = Client(relay, ann.user, ann.device, ann.instance)
        again = back.open(name, start=(1, room.generation, room.cursor))
        opened = again.opened()
        same((opened.generation, opened.start, opened.last_n), (room.generation, 4, 3))
        again.post(2, "before")
        same(again.next("Ack").seq, 2)
        again.post(4, "after")
        same(again.next("Accepted").seq, 4)
    finally:
        relay.remove()
