"""What all checks share."""

import itertools

from client import Client, Timeout, wait
from codec import VECTORS

# Section 9.
BYE, ENDED, DONE, REOPENED = 0x00, 0x01, 0x02, 0x03
MALFORMED, UNKNOWN_STREAM, UNEXPECTED, NO_HELLO = 0x10, 0x14, 0x15, 0x17
UNAUTHENTICATED, WRONG_AUDIENCE, FORBIDDEN, NOT_FOUND, UNSUPPORTED = 0x40, 0x42, 0x43, 0x44, 0x46
MESSAGE_TOO_LARGE, MESSAGE_EMPTY, KNOWN, REUSED, MISSING, NOT_A_MEMBER = 0x47, 0x48, 0x4A, 0x4B, 0x4C, 0x4D
BANNED, NO_TARGET, REPLACED, WRONG_KIND, USER_CHANGED, TOO_MANY_STREAMS = 0x4E, 0x4F, 0x50, 0x53, 0x54, 0x55
RATE, BEHIND, SHUTDOWN = 0x81, 0xC0, 0xC1

# Section 8.
TEXT, EDITED, DELETED, REACTED, JOINED, LEFT, ADDED, REMOVED, ROLE, TITLE, TOMBSTONE = (
    1,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
)

# Section 12.
NOW, BEGINNING = (0, 0, 0), (1, 0, 0)

ALL = []
_numbers = itertools.count(1)


def check(text):
    def add(function):
        ALL.append((text, function))
        return function

    return add


def fresh(name):
    """A name that no other check uses."""
    return f"{name}{next(_numbers)}"


def people(relay, *names, **options):
    clients = [Client(relay, fresh(name), **options) for name in names]
    for client in clients:
        client.welcomed()
    return clients


def a_room():
    return fresh("wire:room-")


def settle(condition, seconds):
    """True when the condition holds within the time."""
    try:
        return bool(wait(condition, "what may not come", seconds))
    except Timeout:
        return False


def same(found, wanted):
    assert found == wanted, f"{found} where {wanted} was to be"
