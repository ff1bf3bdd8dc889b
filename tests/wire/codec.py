"""Varints, frames and messages of quip/1: protocol/WIRE.md, sections 3, 4, 5, 8, 12. Fields are from vectors.json."""

import json
import pathlib

from blake3 import blake3

VECTORS = json.loads((pathlib.Path(__file__).parents[2] / "protocol" / "vectors.json").read_text())

# The fields of messages and bodies with their encodings, and the numbers of types.
FIELDS, TYPES = {}, {}
for _vector in VECTORS["messages"] + VECTORS["event_bodies"]:
    FIELDS[_vector["name"]] = [(field, encoding) for field, encoding, _ in _vector["fields"]]
    TYPES[_vector["name"]] = _vector.get("type")
    for _, _encoding, _items in _vector["fields"]:
        if _encoding == "list of Outcome" and _items:
            FIELDS["Outcome"] = [(field, encoding) for field, encoding, _ in _items[0]]
NAMES = {number: name for name, number in TYPES.items() if number}


class Malformed(Exception):
    pass


class Incomplete(Malformed):
    pass


class Message:
    """A message or a body: its name, and its fields as attributes."""

    def __init__(self, what, fields):
        self.what, self.fields = what, fields

    def __getattr__(self, field):
        return self.fields[field]

    def __repr__(self):
        return f"{self.what}{self.fields}"


def put_varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def take_varint(data, at=0):
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise Incomplete("a varint that does not end")
        byte = data[at + i]
        if i == 9 and byte > 1:
            break
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise Malformed("a varint of more than 64 bits")


def take_bytes(data, at, length):
    if at + length > len(data):
        raise Malformed("fewer bytes than the length says")
    return bytes(data[at : at + length]), at + length


def put(encoding, value):
    if encoding == "varint":
        return put_varint(value)
    if encoding in ("byte", "bool"):
        return bytes([value])
    if encoding.endswith(" bytes"):
        return value or bytes(int(encoding.split()[0]))
    if encoding.startswith("list of "):
        items = [put_item(encoding[8:], item) for item in value or ()]
        return put("bytes", b"".join(items))
    data = (value or "").encode() if encoding == "text" else value or b""
    return put_varint(len(data)) + data


def put_item(encoding, item):
    return body(encoding, **item.fields) if encoding in FIELDS else put(encoding, item)


def take(encoding, data, at):
    if encoding == "varint":
        return take_varint(data, at)
    if encoding in ("byte", "bool"):
        value, at = take_bytes(data, at, 1)
        if encoding == "bool" and value[0] > 1:
            raise Malformed("a bool that is neither 0 nor 1")
        return value[0], at
    if encoding.endswith(" bytes"):
        return take_bytes(data, at, int(encoding.split()[0]))
    if encoding in FIELDS:
        return take_fields(encoding, data, at)
    length, at = take_varint(data, at)
    value, at = take_bytes(data, at, length)
    if encoding.startswith("list of "):
        items, place = [], 0
        while place < len(value):
            item, place = take(encoding[8:], value, place)
            items.append(item)
        return items, at
    try:
        return value.decode() if encoding == "text" else value, at
    except UnicodeDecodeError as error:
        raise Malformed("a text that is not UTF-8") from error


def take_fields(name, data, at=0):
    fields = {}
    for field, encoding in FIELDS[name]:
        fields[field], at = take(encoding, data, at)
    return Message(name, fields), at


def body(name, /, **fields):
    """The fields of a message in order; what is not named is zero or empty."""
    assert fields.keys() <= {field for field, _ in FIELDS[name]}, f"{name} has no such fields: {fields}"
    return b"".join(put(encoding, fields.get(field, 0)) for field, encoding in FIELDS[name])


def raw(kind, content):
    inner = put_varint(kind) + content
    return put_varint(len(inner)) + inner


def frame(name, extensions=(), /, **fields):
    extra = b"".join(put_varint(number) + put("bytes", content) for number, content in extensions)
    return raw(TYPES[name], body(name, **fields) + extra)


def split(data, limit=65536):
    """The first frame: its type, its body, and how many bytes it takes; `None` while it is not whole."""
    try:
        length, at = take_varint(data)
    except Incomplete:
        return None
    if length > limit:
        raise Malformed("a frame over the limit")
    if len(data) < at + length:
        return None
    inner = bytes(data[at : at + length])
    kind, start = take_varint(inner)
    return kind, inner[start:], at + length


def decode(kind, content):
    """A message from a relay; `None` for what is to be skipped."""
    if kind not in NAMES:
        if kind % 2 == 0:
            raise Malformed(f"an unknown even type {kind:#x}")
        return None
    message, at = take_fields(NAMES[kind], content)
    while at < len(content):
        number, at = take_varint(content, at)
        length, at = take_varint(content, at)
        _, at = take_bytes(content, at, length)
        if number % 2 == 0:
            raise Malformed(f"an unknown even extension {number:#x}")
    return message


def event_body(name, event):
    return take_fields(name, event.body)[0]


# Section 5.
def _hash(*parts):
    return blake3(b"".join(parts)).digest()[:15]


def direct(a, b):
    a, b = sorted([a.encode(), b.encode()])
    return b"\x01" + _hash(b"\x01", bytes([len(a)]), a, bytes([len(b)]), b)


def room(name):
    return b"\x03" + _hash(b"\x03", bytes([len(name)]), name.encode())


# Section 13.
def check(name, **fields):
    """Of a command without its n."""
    kind = put_varint(TYPES[name])
    if name == "Open":
        return blake3(kind).digest()[:4]
    parts = [put(encoding, fields[field]) for field, encoding in FIELDS[name] if field != "n"]
    return blake3(kind + b"".join(parts)).digest()[:4]


# Section 12.
def digest(event, user=None):
    """Of an `Event`, or of an `Accepted` of `user`."""
    user = user or event.user
    return blake3(b"".join(put_varint(x) for x in (event.seq, event.number, event.at)) + put("text", user)).digest()[:4]
