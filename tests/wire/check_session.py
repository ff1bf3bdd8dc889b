"""Connections, sessions and what breaks the protocol: sections 2, 4, 6, 11 and 16."""

import codec
from checks import *
from client import Client, Connection, Conversation, wait
from codec import frame
from outbox import Outbox
from relay import NONE, Relay


@check("handshake: ALPN, pinned certificate; another ALPN fails")
def _(relay):
    connection = Connection(relay)
    same((connection.alpn, connection.certificate()), ("quip/1", relay.fingerprint()))
    connection.close()
    other = Connection(relay, alpn="quip/0")
    assert other.alpn is None and other.closed & ~0xFF == 0x100, f"closed with {other.closed}"


@check("a resumed TLS session shows no certificate")
def _(relay):
    [first] = people(relay, "ann")
    wait(lambda: first.ticket, "a session ticket")
    again = Client(relay, first.user, ticket=first.ticket)
    again.welcomed()
    same((again.resumed, again.certificate()), (True, None))
    same(first.ticket.max_early_data_size, None)


@check("Hello and Welcome, with reserved features, extensions and frames")
def _(relay):
    [client] = people(relay, "ann", streams=5)
    welcome = client.welcomed()
    same((welcome.user, welcome.streams, welcome.message, welcome.unanswered), (client.user, 5, 16384, 64))
    assert 0 < welcome.generation < 1 << 53 and welcome.time > 1_600_000_000_000
    client.session.send(codec.raw(0x7D, b"\xff" * 20) + frame("Refresh", token=client.user))
    same(client.session.next("Refreshed").expires, 0)


@check("the session stream is the one that begins with Hello; what comes before it waits")
def _(relay):
    connection, name = Connection(relay), a_room()
    early = connection.stream(frame("Open", target_kind=2, target=name.encode(), join=1), of=Conversation)
    early.post(2, "early")
    session = connection.stream(frame("Hello", token=fresh("ann"), streams=1))
    same(session.next("Welcome").streams, 1)
    early.opened()
    same([early.next("Event").kind, early.next("Accepted").n], [JOINED, 2])


@check("refused bytes: every row of the table")
def _(relay):
    for row in VECTORS["refused"]:
        try:
            _refused(relay, row)
        except Exception as error:
            raise AssertionError(f"{row['where']} {row['bytes']}: {row['why']}: {error!r}") from error


def _refused(relay, row):
    data, finish, where = bytes.fromhex(row["bytes"]), row["finish"], row["where"]
    client = Connection(relay) if where == "hello" else people(relay, "eve")[0]
    if where in ("conversation", "datagram"):
        stream = client.join(name := a_room(), channel=1)
        stream.next("Event")
    if where == "session":
        stream = client.session
        stream.send(data, finish)
    elif where == "conversation":
        stream.send(data, finish)
    elif where == "request":
        stream = client.stream(frame("List", limit=1) + data, finish)
    elif where == "datagram":
        [other] = people(relay, "bob")
        other.join(name, channel=2)
        client.quic.send_datagram_frame(data)
        client.quic.send_datagram_frame(codec.put_varint(0x61) + codec.body("Signal", channel=1, kind=99))
        wait(lambda: other.datagrams, "the signal behind it")
        same([signal.kind for signal in other.datagrams], [99])
    else:
        stream = client.stream(data, finish)
    code, ends = row["code"], row["ends"]
    if ends == "connection":
        same(client.wait_closed(), code)
        is_violation = 0x10 <= code < 0x40
        same(client.reason.startswith(f"stream {stream.id}, "), is_violation)
        return
    if ends == "stream":
        wait(lambda: stream.reset is not None and stream.stopped is not None, "a reset")
        same((stream.reset, stream.stopped), (code, code))
    elif ends == "answer":
        same(stream.next("End").code, code)
    elif ends == "command":
        same(stream.next("Rejected").code, code)
    # Whatever was skipped or refused, the connection goes on.
    same(client.ask("List", limit=1)[1].code, DONE)
    client.close()


@check("STOP_SENDING: a conversation is reset, the session says goodbye")
def _(relay):
    [client] = people(relay, "ann")
    stream = client.join(name := a_room())
    stream.next("Event")
    client.quic.stop_stream(stream.id, BYE)
    wait(lambda: stream.reset is not None, "a reset")
    client.open(name).opened()
    client.quic.stop_stream(client.session.id, BYE)
    same(client.wait_closed(), BYE)


@check("another instance of a device replaces the older one, the same instance may overlap")
def _(relay):
    [first] = people(relay, "ann")
    moved = Client(relay, first.user, first.device, first.instance)
    moved.welcomed()
    first.ask("List", limit=1)
    other = Client(relay, first.user, first.device)
    other.welcomed()
    same([first.wait_closed(), moved.wait_closed()], [REPLACED, REPLACED])


@check("conversations beyond Welcome.streams")
def _(relay):
    [client] = people(relay, "ann", streams=2)
    first, name = client.join(a_room()), a_room()
    client.join(a_room())
    same(client.open(name, join=1).next("End").code, TOO_MANY_STREAMS)
    first.send(b"", finish=True)
    first.wait_over()
    same(client.open(name, join=1).opened().last_n, 1)


@check("tokens: grants, audience, another user")
def _(shared):
    relay = Relay(shared.binary, '[auth]\nleeway = "60s"\n')
    try:
        ann = Client(relay, relay.token("ann", "--create", "own:*", "--post", "own:*"))
        assert ann.welcomed().expires > ann.welcomed().time + 3_600_000, "an hour and the leeway"
        same(ann.open("other:x", join=1).next("End").code, NOT_FOUND)
        room = ann.join("own:x")
        room.next("Event")
        narrow = relay.token("ann", "--join", "else:*")
        ann.session.send(frame("Refresh", token=narrow))
        ann.session.next("Refreshed")
        same(room.find("End").code, FORBIDDEN)
        same(ann.ask("History", conversation=codec.room("own:x"), limit=1)[1].code, FORBIDDEN)
        ann.session.send(frame("Refresh", token=relay.token("bob")))
        same(ann.wait_closed(), USER_CHANGED)
        forged = relay.token("ann")
        forged = forged[:-4] + ("AAAA" if forged[-4:] != "AAAA" else "BBBB")
        same(Client(relay, forged).wait_closed(), UNAUTHENTICATED)
    finally:
        relay.remove()


@check("a token that expires, and Hello in time")
def _(shared):
    config = '[limits]\nunauthenticated = "1s"\n[auth]\nleeway = "1s"\n[presence]\nsweep = "200ms"\n'
    relay = Relay(shared.binary, config)
    try:
        silent = Connection(relay)
        short = Client(relay, relay.token("ann", "--ttl", "3s"))
        short.welcomed()
        same([silent.wait_closed(), short.wait_closed()], [NO_HELLO, 0x41])
    finally:
        relay.remove()


@check("one refusal for a rate: go back to n, wait, send again")
def _(shared):
    relay = Relay(shared.binary, NONE + "[limits]\nmessages_per_second = 50\nmessages_burst = 5\n")
    try:
        [client] = people(relay, "ann")
        same((client.welcomed().rate, client.welcomed().burst), (50, 5))
        room, refusals, told = client.join(a_room()), 0, []
        room.next("Event")
        outbox = Outbox(room.post, lambda *fate: told.append(fate))
        for n in range(2, 22):
            outbox.last = n - 1
            outbox.compose(f"message {n}")
        while len(told) < 20:
            answer = room.next("Accepted", "Rejected")
            if answer.what == "Accepted":
                outbox.accepted(answer.n)
                continue
            same((answer.n, answer.code), (outbox.items[0].n, RATE))
            assert answer.retry_after > 0
            outbox.rejected(answer.n, RATE)
            settle(lambda: False, answer.retry_after / 1000)
            outbox.later()
            refusals += 1
        same(told, [("done", f"message {n}") for n in range(2, 22)])
        assert refusals < 20, f"{refusals} refusals"
    finally:
        relay.remove()
