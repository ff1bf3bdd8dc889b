"""Bytes alone: vectors.json."""

import checks
import codec
from checks import VECTORS, check, same
from codec import Malformed, Message
from outbox import Outbox


def value(encoding, found):
    """A field as vectors.json has it."""
    if encoding.endswith("bytes"):
        return found.hex()
    if encoding == "bool":
        return found == 1
    if encoding.startswith("list of "):
        return [listed(item) if isinstance(item, Message) else item for item in found]
    return str(found) if encoding == "varint" and found >= 1 << 53 else found


def listed(message):
    return [[name, encoding, value(encoding, message.fields[name])] for name, encoding in codec.FIELDS[message.what]]


@check("varints: both ways, and what is none")
def _(relay):
    for vector in VECTORS["varints"]:
        data, number = bytes.fromhex(vector["bytes"]), int(vector["value"])
        same((codec.put_varint(number), codec.take_varint(data)), (data, (number, len(data))))
    for vector in VECTORS["malformed_varints"]:
        try:
            codec.take_varint(bytes.fromhex(vector["bytes"]))
        except Malformed:
            continue
        raise AssertionError(f"{vector} was read")


@check("every message and body: fields, and the same bytes again")
def _(relay):
    for vector in VECTORS["messages"]:
        data = bytes.fromhex(vector["bytes"])
        if vector["from"] == "both":
            kind, at = codec.take_varint(data)
            content = data[at:]
        else:
            kind, content, used = codec.split(data)
            same(used, len(data))
        same((kind, codec.NAMES[kind]), (vector["type"], vector["name"]))
        message = codec.decode(kind, content)
        same(listed(message), vector["fields"])
        extra = bytes.fromhex(vector["extensions"])
        again = codec.body(message.what, **message.fields) + extra
        same(codec.put_varint(kind) + again if vector["from"] == "both" else codec.raw(kind, again), data)
    for vector in VECTORS["event_bodies"]:
        message, used = codec.take_fields(vector["name"], data := bytes.fromhex(vector["bytes"]))
        same((listed(message), used), (vector["fields"], len(data)))
        same(codec.body(message.what, **message.fields), data)


@check("ids of conversations and digests of events")
def _(relay):
    for vector in VECTORS["ids"]:
        kind, *names = vector["of"]
        same((codec.direct if kind == "direct" else codec.room)(*names).hex(), vector["id"])
    for vector in VECTORS["digests"]:
        same(codec.digest(Message("Event", vector)).hex(), vector["digest"])


@check("the session of section 17, frame by frame")
def _(relay):
    for step in VECTORS["session"]:
        data = bytes.fromhex(step["bytes"])
        if step["stream"] == "datagram":
            kind, at = codec.take_varint(data)
            same(codec.decode(kind, data[at:]).what, step["name"])
        else:
            kind, content, used = codec.split(data)
            same((codec.decode(kind, content).what, used), (step["name"], len(data)))


@check("the outbox: every trace")
def _(relay):
    for trace in VECTORS["outbox"]:
        sent, told = [], []
        outbox = Outbox(lambda n, content: sent.append(f"{n}{content}"), lambda *fate: told.append(" ".join(fate)))
        for step in trace["steps"]:
            what, *words = step.split()
            if what == "compose":
                for content in words:
                    outbox.compose(content)
            elif what in ("lost", "later"):
                getattr(outbox, what)()
            elif what == "<":
                answer(outbox, *words)
            elif what == ">":
                same((trace["name"], sent), (trace["name"], words))
                sent.clear()
            elif what == "=":
                same([f"{item.n}{item.content}" for item in outbox.items], words)
            else:
                same((trace["name"], told.pop(0)), (trace["name"], step))
        same((sent, told), ([], []))


def answer(outbox, what, n, *words):
    if what == "Rejected":
        outbox.rejected(int(n), getattr(checks, words[0]), int(words[1]) if words[1:] else 0)
    elif what == "Opened":
        outcomes = dict(zip(map(int, words[1::2]), words[2::2])) if "outcomes" in words else {}
        outbox.opened(int(n), outcomes, "generation" in words or "start" in words)
    else:
        outbox.accepted(int(n))
