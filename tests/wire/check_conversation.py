"""Opening, where delivery starts, and how it ends: sections 6 and 12."""

import os

import codec
from checks import *
from client import settle_all
from codec import frame


@check("every kind of target: room, direct, new group, by id")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    room = ann.join(name := a_room())
    same((room.first.conversation, room.first.name, room.first.role), (codec.room(name), name, 3))
    pair = ann.join("@" + bob.user)
    same((pair.first.conversation, pair.first.name), (codec.direct(ann.user, bob.user), bob.user))
    same((pair.first.members, pair.first.head), (2, 0))
    other = bob.open("@" + ann.user)
    same((other.opened().name, other.generation), (ann.user, pair.generation))
    group = b"\x02" + os.urandom(15)
    made = ann.join((3, group))
    same((made.first.conversation, made.first.role, made.first.name, made.first.start), (group, 3, "", 1))
    same(made.next("Event").kind, JOINED)
    by_id = ann.open(codec.room(name), start=(2, 0, 5))
    same(by_id.opened().name, name)
    same(by_id.next("Event").kind, JOINED)
    for target in (group, b"\x02" + os.urandom(15), a_room(), "@" + ann.user, bytes(16)):
        same(people(relay, "eve")[0].open(target).next("End").code, NOT_FOUND)
    same(bob.open(group, join=1).next("End").code, NOT_FOUND)


@check("where delivery starts: now, last, after, another generation")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    room = ann.join(name := a_room())
    for n in range(2, 7):
        room.post(n, f"message {n}")
    settle_all(room, 5)
    same(bob.join(name).first.start, 7)
    log, starts = room.generation, {NOW: 8, (2, 0, 3): 5, (2, 0, 99): 1, BEGINNING: 1}
    starts |= {(1, log, 4): 5, (1, log, 7): 8, (1, 0, 4): 1, (1, log - 1, 4): 1}
    for start, first in starts.items():
        stream = bob.open(name, start=start)
        opened = stream.opened()
        same((start, opened.start, opened.first_kept, opened.head), (start, first, 1, 7))
        same([stream.next("Event").seq for _ in range(first, 8)], list(range(first, 8)))


@check("a cursor ahead of the relay waits and gets BEHIND with the head")
def _(relay):
    [ann] = people(relay, "ann")
    room = ann.join(name := a_room())
    end = ann.open(name, start=(1, room.generation, 9)).next("End")
    same((end.code, end.info), (BEHIND, 1))


@check("Skip: what was before one joined is stated")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    room = ann.join(name := fresh("quiet:room-"))
    same((room.first.head, room.first.start), (0, 1))
    for n in range(2, 5):
        room.post(n, "before")
    settle_all(room, 3)
    late = bob.join(name, start=BEGINNING)
    same((late.first.first_kept, late.first.head, late.first.start), (4, 3, 4))
    skip = late.next("Skip")
    same((skip.to, skip.why), (3, 2))
    room.post(5, "after")
    same(late.next("Event").seq, 4)
    page, _ = bob.ask("History", conversation=late.first.conversation, limit=10)
    same((page[0].first, page[0].head, [event.seq for event in page[1:]]), (4, 4, [4]))


@check("digest: the right one resumes, another one begins from the first event")
def _(relay):
    [ann] = people(relay, "ann")
    room = ann.join(name := a_room())
    joined = room.next("Event")
    room.post(2, "one")
    accepted = room.next("Accepted")
    for event in (joined, accepted):
        after = (1, room.generation, event.seq)
        again = ann.open(name, start=after, digest=codec.digest(event, ann.user))
        same(again.opened().start, event.seq + 1)
        other = ann.open(name, start=after, digest=b"\xff\xff\xff\xfe")
        same((other.opened().start, other.next("Event").seq), (1, 1))


@check("a newer Open of a conversation replaces the older stream")
def _(relay):
    [ann] = people(relay, "ann")
    older = ann.join(name := a_room())
    newer = ann.open(name)
    newer.opened()
    same(older.find("End").code, REOPENED)
    newer.post(2, "here")
    newer.next("Accepted")
    # Of two that arrive the other way round, the one with the higher number stays.
    low, high = ann.stream(of=type(older)), ann.stream(of=type(older))
    data = frame("Open", target_kind=2, target=name.encode())
    high.send(data)
    high.opened()
    low.send(data)
    same([newer.find("End").code, low.next("End").code], [REOPENED, REOPENED])
    high.post(3, "there")
    high.next("Accepted")


@check("commands behind Open need no round trip; FIN closes the stream and nothing else")
def _(relay):
    [ann] = people(relay, "ann")
    then = b"".join(frame("Post", n=n, kind=1, body=b"x") for n in (2, 3))
    stream = ann.open(name := a_room(), join=1, then=then)
    same(stream.opened().last_n, 1)
    same([stream.next("Event").seq, stream.next("Accepted").n, stream.next("Accepted").n], [1, 2, 3])
    stream.send(b"", finish=True)
    stream.wait_over()
    same(ann.open(name).opened().role, 3)


@check("joins: refused, MISSING, always using n up")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    room, name = ann.join(first := a_room()), first
    end = bob.open(name, join=3).next("End")
    same((end.code, end.info), (MISSING, 0))
    bob.join(name)
    again = bob.join(name, n=2)
    same([(outcome.n, outcome.code, outcome.seq) for outcome in again.first.outcomes], [(1, DONE, 2), (2, DONE, 0)])
    room.command("Remove", n=2, user=bob.user, ban=1)
    same(again.find("End").code, ENDED)
    same(bob.open(name, join=3).next("End").code, BANNED)
    room.command("Add", n=3, user=bob.user)
    settle(lambda: any(message.what == "Ack" for message in room.messages), 5)
    same(bob.join(name, n=4).first.last_n, 4)


@check("the end of membership: the last event, the answers, ENDED; and what a former member reads")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    room = ann.join(name := a_room())
    member = bob.join(name)
    member.next("Event")
    member.post(2, "bye")
    member.command("Leave", n=3)
    same([member.next("Accepted").n, member.next("Accepted").n, member.next("End").code], [2, 3, ENDED])
    member.wait_over()
    room.post(2, "later")
    settle_all(room, 1)
    former = bob.open(name, start=BEGINNING)
    opened = former.opened()
    same((opened.role, opened.head), (0, 4))
    same([former.next("Event").kind for _ in range(4)], [JOINED, JOINED, TEXT, LEFT])
    same(former.next("End").code, ENDED)
    same(bob.ask("Members", conversation=member.first.conversation, limit=1)[1].code, NOT_A_MEMBER)
    page, _ = bob.ask("History", conversation=member.first.conversation, limit=1)
    same((page[0].head, page[1].seq), (4, 4))


@check("one who is back sees both memberships, and a Skip between them")
def _(relay):
    ann, bob = people(relay, "ann", "bob")
    group = ann.join((3, number := b"\x02" + os.urandom(15)))
    group.command("Add", n=2, user=bob.user)
    group.command("Remove", n=3, user=bob.user)
    group.post(4, "between")
    group.command("Add", n=5, user=bob.user)
    settle_all(group, 4)
    back = bob.open(number, start=BEGINNING)
    opened = back.opened()
    same((opened.first_kept, opened.start, opened.head), (2, 2, 5))
    found = [back.next() for _ in range(5)]
    same([message.what for message in found], ["Skip", "Event", "Event", "Skip", "Event"])
    same((found[3].to, found[3].why, found[4].seq), (4, 2, 5))
