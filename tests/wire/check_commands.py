"""Commands, their numbers and their answers: sections 8 and 13."""

import os

import codec
from checks import *
from client import Client, settle_all, wait
from codec import event_body, frame


@check("Accepted stands in the event's place, the others get the event")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    room = ann.join(name := a_room())
    other = bob.join(name)
    other.next("Event")
    room.post(2, "hello")
    accepted, event = room.find("Accepted"), other.next("Event")
    same((accepted.seq, accepted.number, accepted.at), (event.seq, event.number, event.at))
    same((event.user, event.kind, event.body), (ann.user, TEXT, b"hello"))


@check("answers come in order of n")
def _(relay):
    [ann] = people(relay, "ann")
    group = ann.join((3, b"\x02" + os.urandom(15)))
    commands = [
        frame("Post", n=2, kind=1, body=b"a"),
        frame("Delete", n=3, target=99),
        frame("Post", n=4, kind=2, body=b"\x00"),
        frame("SetRole", n=5, user=ann.user, role=3),
        frame("Post", n=6, kind=1, body=b"b"),
    ]
    group.send(b"".join(commands))
    answers = settle_all(group, 5)
    found = [(answer.what, answer.n) for answer in answers]
    same(found, [("Accepted", 2), ("Rejected", 3), ("Accepted", 4), ("Ack", 5), ("Accepted", 6)])
    same((answers[1].code, answers[3].seq), (NO_TARGET, 0))


@check("a refusal that does not use n up: what follows is dropped until n comes again")
def _(relay):
    [ann] = people(relay, "ann")
    room = ann.join(a_room())
    room.next("Event")
    room.send(
        b"".join(frame("Post", n=n, kind=1, body=body) for n, body in ((2, b"a"), (3, b""), (4, b"c"), (5, b"d")))
    )
    same(room.next("Accepted").n, 2)
    refused = room.next("Rejected")
    same((refused.n, refused.code), (3, MESSAGE_EMPTY))
    room.post(5, "still dropped")
    room.post(3, "c")
    room.post(4, "d")
    same([room.next("Accepted").n, room.next("Accepted").n], [3, 4])
    room.send(frame("Post", n=5, kind=1, body=b"x" * 16385))
    same(room.next("Rejected").code, MESSAGE_TOO_LARGE)


@check("numbers: a repeat gets its outcome, REUSED, MISSING, KNOWN")
def _(relay):
    [ann] = people(relay, "ann")
    room = ann.join(name := a_room())
    room.next("Event")
    room.post(2, "one")
    accepted = room.next("Accepted")
    room.post(2, "one")
    again = room.next("Ack")
    same((again.n, again.seq, again.number, again.at), (2, accepted.seq, accepted.number, accepted.at))
    room.post(2, "two")
    same(room.next("Rejected").code, REUSED)
    room.post(5, "far")
    missing = room.next("Rejected")
    same((missing.n, missing.code, missing.info), (5, MISSING, 2))
    room.post(3, "next")
    same(room.next("Accepted").n, 3)
    for n in range(4, 68):
        room.post(n, "x")
        room.next("Accepted")
    room.post(2, "one")
    same(room.next("Rejected").code, KNOWN)
    opened = ann.open(name).opened()
    same((opened.last_n, [outcome.n for outcome in opened.outcomes]), (67, list(range(4, 68))))
    same({outcome.check for outcome in opened.outcomes}, {codec.check("Post", kind=1, body=b"x")})


@check("unknown commands and extensions: UNSUPPORTED, skipped, and the stream goes on")
def _(relay):
    [ann] = people(relay, "ann")
    room = ann.join(a_room())
    room.next("Event")
    room.send(codec.raw(0x7FFE, b"\x02\xff\xff"))
    refused = room.next("Rejected")
    same((refused.n, refused.code), (2, UNSUPPORTED))
    room.send(frame("Post", [(2, b"")], n=2, kind=1, body=b"x"))
    same(room.next("Rejected").code, UNSUPPORTED)
    room.send(codec.raw(0x7D, b"\x80") + frame("Post", [(0xBD, b"skipped"), (1, b"")], n=2, kind=1, body=b"x"))
    same(room.next("Accepted").n, 2)


@check("edits, deletions, reactions, titles, roles: bodies and tombstones")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    group = ann.join((3, number := b"\x02" + os.urandom(15)))
    group.command("Add", n=2, user=bob.user)
    group.post(3, "helo")
    group.command("Edit", n=4, target=3, body=b"hello")
    group.command("React", n=5, target=3, add=1, reaction="+")
    group.command("SetTitle", n=6, title="Tea")
    group.command("SetRole", n=7, user=bob.user, role=2)
    settle_all(group, 6)
    member = bob.open(number, start=(2, 0, 9))
    same((member.opened().name, member.cursor), ("Tea", 1))
    events = [member.next("Event") for _ in range(6)]
    same([event.kind for event in events], [ADDED, TEXT, EDITED, REACTED, TITLE, ROLE])
    bodies = ["Added", None, "Edited", "Reacted", "Titled", "RoleChanged"]
    found = [event_body(what, event).fields for what, event in zip(bodies, events) if what]
    same(found[:2], [{"user": bob.user}, {"target": 3, "body": b"hello"}])
    same(found[2:], [{"target": 3, "add": 1, "reaction": "+"}, {"title": "Tea"}, {"user": bob.user, "role": 2}])
    member.command("Delete", n=1, target=3)
    same(member.next("Accepted").seq, 8)
    page, _ = ann.ask("History", conversation=number, limit=50)
    kinds = {event.seq: event.kind for event in page[1:]}
    same([kinds[seq] for seq in (3, 4, 5, 8)], [TOMBSTONE, TOMBSTONE, REACTED, DELETED])
    same(event_body("Tombstone", page[3]).by, 8)
    group.command("Edit", n=8, target=3, body=b"gone")
    same(settle_all(group, 1)[0].code, NO_TARGET)


@check("who may do what: direct, strangers, members")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    pair = ann.join("@" + bob.user)
    pair.command("Leave", n=2)
    pair.command("SetTitle", n=3, title="no")
    same([answer.code for answer in settle_all(pair, 2)], [WRONG_KIND, WRONG_KIND])
    group = ann.join((3, number := b"\x02" + os.urandom(15)))
    group.command("Add", n=2, user=bob.user)
    group.post(3, "mine")
    settle_all(group, 2)
    other = bob.open(number)
    other.command("Delete", n=1, target=3)
    other.command("Remove", n=2, user=ann.user)
    other.command("SetTitle", n=3, title="no")
    same([answer.code for answer in settle_all(other, 3)], [FORBIDDEN] * 3)


@check("commands without effect make no event")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    group = ann.join((3, b"\x02" + os.urandom(15)))
    group.command("Add", n=2, user=bob.user)
    settle_all(group, 1)
    group.command("Add", n=3, user=bob.user)
    group.command("SetRole", n=4, user=bob.user, role=1)
    same([(answer.what, answer.seq) for answer in settle_all(group, 2)], [("Ack", 0), ("Ack", 0)])
    group.post(5, "tea")
    target = settle_all(group, 1)[0].seq
    group.command("Edit", n=6, target=target, body=b"tea")
    group.command("React", n=7, target=target, add=0, reaction="+")
    for n in (8, 9):
        group.command("React", n=n, target=target, add=1, reaction="+")
    found = [(answer.what, answer.seq) for answer in settle_all(group, 4)]
    same(found, [("Ack", 0), ("Ack", 0), ("Accepted", target + 1), ("Ack", 0)])
    group.command("Edit", n=10, target=target, body=b"coffee")
    group.command("Edit", n=11, target=target, body=b"coffee")
    group.command("Delete", n=12, target=target + 2)
    group.command("Edit", n=13, target=target, body=b"coffee")
    found = [(answer.what, answer.seq) for answer in settle_all(group, 4)]
    same(found, [("Accepted", target + 2), ("Ack", 0), ("Accepted", target + 3), ("Accepted", target + 4)])


@check("large messages on many streams, within unanswered_bytes")
def _(relay):
    [ann] = people(relay, "ann", streams=24)
    rooms = [ann.join(a_room()) for _ in range(24)]
    waiting = [(room, frame("Post", n=n, kind=2, body=bytes(16384))) for n in (2, 3) for room in rooms]
    room_left, unanswered = ann.welcomed().unanswered_bytes, 0
    while waiting or unanswered:
        while waiting and len(waiting[0][1]) <= room_left:
            room, data = waiting.pop(0)
            room.send(data)
            room_left, unanswered = room_left - len(data), unanswered + 1
        wait(lambda: any(room.messages for room in rooms) or ann.closed is not None, "an answer")
        for room in rooms:
            while room.messages:
                message = room.next("Event", "Accepted")
                if message.what == "Accepted":
                    room_left, unanswered = room_left + len(data), unanswered - 1
        same(ann.closed, None)


@check("after a lost connection: what was decided is known, the rest is sent again, nothing twice")
def _(relay):
    [ann] = people(relay, "ann")
    room = ann.join(name := a_room())
    room.next("Event")
    texts = {n: f"message {n}" for n in range(2, 40)}
    for n, text in texts.items():
        room.post(n, text)
    room.next("Accepted")
    cursor, log = room.cursor, room.generation
    ann.close(code=0x3D)
    back = Client(relay, ann.user, ann.device, ann.instance)
    stream = back.open(name, start=(1, log, cursor))
    opened = stream.opened()
    decided = {outcome.n: outcome.seq for outcome in opened.outcomes}
    for n in range(opened.last_n + 1, 40):
        stream.post(n, texts[n])
    seqs = {}
    while len(seqs) < 39 - cursor:
        message = stream.next()
        if message.what in ("Event", "Accepted"):
            seqs[message.seq] = message
    page, _ = back.ask("History", conversation=opened.conversation, limit=100)
    same([event.body.decode() for event in page[2:]], list(texts.values()))
    assert all(decided[n] == n for n in decided), decided
