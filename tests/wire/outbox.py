"""The outbox of one conversation, as protocol/WIRE-STATES.md has it. Pure."""

from dataclasses import dataclass

# Section 9 of WIRE.md.
FINAL = range(0x40, 0x80)
LATER = range(0x80, 0xC0)
INVALID_NAME, UNSUPPORTED, MESSAGE_TOO_LARGE, MESSAGE_EMPTY, NOT_UTF8 = 0x45, 0x46, 0x47, 0x48, 0x49
KNOWN, REUSED, MISSING = 0x4A, 0x4B, 0x4C
NOT_USED_UP = {INVALID_NAME, UNSUPPORTED, MESSAGE_TOO_LARGE, MESSAGE_EMPTY, NOT_UTF8}


@dataclass
class Item:
    n: int
    content: str
    sent: bool = False
    tried: bool = False


class Outbox:
    def __init__(self, send, tell):
        self.items, self.last, self.is_open, self.pausing, self._send, self._tell = [], 0, True, False, send, tell

    def compose(self, content):
        self.last += 1
        self.items.append(Item(self.last, content))
        self.send()

    def send(self):
        for item in self.items:
            if self.is_open and not self.pausing and not item.sent:
                item.sent = True
                self._send(item.n, item.content)

    def find(self, n):
        return next((item for item in self.items if item.n == n and item.sent), None)

    def remove(self, item, fate):
        self.items.remove(item)
        self._tell(fate, item.content)

    def accepted(self, n):
        if item := self.find(n):
            self.remove(item, "done")

    def rejected(self, n, code, info=0):
        decides = code in FINAL and code not in NOT_USED_UP and code not in (MISSING, KNOWN, REUSED)
        item = next((item for item in self.items if item.n == n and (item.sent or decides)), None)
        if not item:
            return
        if code in LATER:
            self.wait_from(n)
            self.pausing = True
        elif code in NOT_USED_UP:
            self.remove(item, "refused")
            for later in self.items:
                if later.n > n:
                    later.n, later.sent = later.n - 1, False
            self.last -= 1
        elif code == MISSING:
            self.decided_up_to(info)
        elif code == KNOWN:
            self.remove(item, "unknown")
        elif code == REUSED:
            self.displace(item)
        else:
            self.remove(item, "refused")
        self.send()

    def displace(self, item):
        """Other content has its number."""
        self.last += 1
        self.items.remove(item)
        self.items.append(Item(self.last, item.content))

    def later(self):
        """The pause is over."""
        self.pausing = False
        self.send()

    def lost(self):
        self.is_open = self.pausing = False
        for item in self.items:
            item.tried, item.sent = item.tried or item.sent, False

    def opened(self, last_n, outcomes, other_log=False):
        self.is_open = True
        for item in list(self.items):
            if outcomes.get(item.n) == "OTHER":
                if not other_log:
                    self.displace(item)
            elif item.n in outcomes:
                self.remove(item, "done" if outcomes[item.n] == "DONE" else "refused")
        if other_log:
            self.number_from(last_n + 1)
        else:
            self.unknown_where(lambda item: item.n <= last_n)
            self.decided_up_to(last_n)
        self.last = max([last_n, *(item.n for item in self.items)])
        self.send()

    def decided_up_to(self, m):
        if self.items and self.items[0].n > m + 1:
            self.unknown_where(lambda item: item.tried or item.sent)
            self.number_from(m + 1)
        self.wait_from(m + 1)

    def wait_from(self, n):
        for item in self.items:
            item.sent = item.sent and item.n < n

    def number_from(self, n):
        for place, item in enumerate(self.items):
            item.n, item.sent, item.tried = n + place, False, False
        self.last = n + len(self.items) - 1

    def unknown_where(self, test):
        for item in list(self.items):
            if test(item):
                self.remove(item, "unknown")
