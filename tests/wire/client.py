"""QUIC connections and streams of a small client, on aioquic without its event loop."""

import os
import select
import socket
import ssl
import time

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic import events
from cryptography.hazmat.primitives import hashes

import codec
from codec import frame

CONNECTIONS = set()


class Timeout(Exception):
    pass


def wait(condition, what, seconds=8):
    """Runs every connection until `condition()` holds, and returns what it says."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Timeout(f"waited for {what}")
        timers = [timer for connection in CONNECTIONS if (timer := connection.flush()) is not None]
        pause = min([deadline, *timers]) - time.monotonic()
        ready, _, _ = select.select([c.socket for c in CONNECTIONS], [], [], max(0, min(pause, 0.5)))
        for connection in list(CONNECTIONS):
            connection.turn(connection.socket in ready)
    return found


class Connection:
    """One QUIC connection: section 2."""

    def __init__(self, relay, alpn="quip/1", ticket=None):
        config = QuicConfiguration(
            is_client=True, alpn_protocols=[alpn], max_datagram_frame_size=65536, max_data=64 << 20,
            verify_mode=ssl.CERT_NONE, server_name="localhost", session_ticket=ticket,
        )
        self.quic = QuicConnection(configuration=config, session_ticket_handler=self._keep_ticket)
        # aioquic has no setting for this: the relay opens no streams.
        self.quic._local_max_streams_bidi.value = self.quic._local_max_streams_uni.value = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.relay, self.streams, self.datagrams, self.ticket = relay, {}, [], None
        self.closed, self.reason, self.alpn, self.resumed = None, "", None, False
        self.quic.connect(relay.address, now=time.monotonic())
        CONNECTIONS.add(self)
        wait(lambda: self.alpn or self.closed is not None, "the handshake")

    def _keep_ticket(self, ticket):
        self.ticket = ticket

    def certificate(self):
        """SHA-256 of the leaf certificate, or `None` where none was shown. CERT_NONE leaves the signature checked."""
        certificate = self.quic.tls._peer_certificate
        return certificate and certificate.fingerprint(hashes.SHA256()).hex()

    def flush(self):
        for data, address in self.quic.datagrams_to_send(now=time.monotonic()):
            self.socket.sendto(data, address)
        return self.quic.get_timer()

    def turn(self, readable):
        now = time.monotonic()
        while readable:
            try:
                data, address = self.socket.recvfrom(65536)
            except BlockingIOError:
                break
            except ConnectionRefusedError:
                continue
            self.quic.receive_datagram(data, address, now=now)
        if (timer := self.quic.get_timer()) is not None and timer <= now:
            self.quic.handle_timer(now=now)
        while (event := self.quic.next_event()) is not None:
            self._take(event)
        self.flush()

    def _take(self, event):
        if isinstance(event, events.HandshakeCompleted):
            self.alpn, self.resumed = event.alpn_protocol, event.session_resumed
        elif isinstance(event, events.ConnectionTerminated):
            self.closed, self.reason = event.error_code, event.reason_phrase
            CONNECTIONS.discard(self)
        elif isinstance(event, events.DatagramFrameReceived):
            kind, at = codec.take_varint(event.data)
            self.datagrams.append(codec.decode(kind, event.data[at:]))
        elif isinstance(event, events.StreamDataReceived):
            self.streams[event.stream_id].take(event.data, event.end_stream)
        elif isinstance(event, events.StreamReset):
            self.streams[event.stream_id].reset = event.error_code
        elif isinstance(event, events.StopSendingReceived):
            self.streams[event.stream_id].stopped = event.error_code

    def stream(self, data=b"", finish=False, of=None):
        """Opens a stream and sends on it."""
        stream = (of or Stream)(self, self.quic.get_next_available_stream_id())
        self.streams[stream.id] = stream
        stream.send(data, finish)
        return stream

    def wait_closed(self, seconds=8):
        wait(lambda: self.closed is not None, "the connection's end", seconds)
        return self.closed

    def close(self, code=0):
        if self.closed is None:
            self.quic.close(error_code=code)
            self.flush()
            CONNECTIONS.discard(self)
            self.socket.close()


class Stream:
    """A stream of frames in each direction."""

    def __init__(self, connection, number):
        self.connection, self.id = connection, number
        self.buffer, self.messages, self.finished, self.reset, self.stopped = b"", [], False, None, None

    def send(self, data, finish=False):
        self.connection.quic.send_stream_data(self.id, data, finish)

    def take(self, data, finished):
        self.buffer += data
        while (found := codec.split(self.buffer)) is not None:
            kind, content, used = found
            self.buffer = self.buffer[used:]
            if (message := codec.decode(kind, content)) is not None:
                self.messages.append(message)
        self.finished |= finished
        assert not (finished and self.buffer), "a relay finished inside a frame"

    def next(self, *names):
        """The next message, which must have one of these names if there are any."""
        over = lambda: self.finished or self.reset is not None or self.connection.closed is not None
        wait(lambda: self.messages or over(), f"{names or 'a message'} on stream {self.id}")
        assert self.messages, f"stream {self.id} is over: reset {self.reset}, closed {self.connection.closed}"
        message = self.messages.pop(0)
        assert not names or message.what in names, f"{message} where {names} was to come"
        return message

    def find(self, name, test=lambda message: True):
        """The next message with this name for which the test holds. Others before it are dropped."""
        while True:
            message = self.next()
            if message.what == name and test(message):
                return message

    def wait_over(self):
        wait(lambda: self.finished or self.reset is not None, f"the end of stream {self.id}")


class Conversation(Stream):
    """A conversation stream. It keeps the cursor, and accepts no hole: section 12."""

    cursor = None
    generation = None

    def next(self, *names):
        message = super().next(*names)
        if message.what == "Opened":
            self.generation, self.cursor = message.generation, message.start - 1
        elif message.what in ("Event", "Accepted"):
            assert message.seq == self.cursor + 1, f"{message} at cursor {self.cursor}"
            self.cursor = message.seq
        elif message.what == "Skip":
            assert message.to >= self.cursor, f"{message} at cursor {self.cursor}"
            self.cursor = message.to
        return message

    def opened(self):
        return self.next("Opened")

    def command(self, name, /, **fields):
        self.send(frame(name, **fields))

    def post(self, n, text):
        self.send(frame("Post", n=n, kind=1, body=text.encode()))


class Client(Connection):
    """A connection that has said `Hello`: section 11."""

    def __init__(self, relay, user, device=None, instance=None, streams=16, **quic):
        super().__init__(relay, **quic)
        self.user, self.device, self.instance = user, device or os.urandom(16), instance or os.urandom(16)
        self.session = self.stream(self.hello(user, streams))
        self.welcome = None

    def hello(self, token, streams=16):
        grease = [(61, b"\xff"), (0xBD, b"")]
        return frame("Hello", grease, token=token, device=self.device, instance=self.instance, client="wire.py 1",
                     streams=streams, features=[125])

    def welcomed(self):
        self.welcome = self.welcome or self.session.next("Welcome")
        return self.welcome

    def open(self, target, join=0, channel=0, start=(0, 0, 0), digest=bytes(4), then=b""):
        """Sends `Open` for `lobby:main`, `@user`, an id, or (3, id) for a new group."""
        if isinstance(target, bytes):
            kind, target = 0, target
        elif isinstance(target, tuple):
            kind, target = target
        else:
            kind, target = (1, target[1:].encode()) if target.startswith("@") else (2, target.encode())
        start_kind, generation, value = start
        data = frame("Open", target_kind=kind, target=target, join=join, channel=channel, start_kind=start_kind,
                     generation=generation, value=value, digest=digest)
        return self.stream(data + then, of=Conversation)

    def join(self, target, n=1, **more):
        conversation = self.open(target, join=n, **more)
        conversation.first = conversation.opened()
        return conversation

    def ask(self, name, /, **fields):
        """The answer to a request, and its `End`."""
        stream, answers = self.stream(frame(name, **fields), finish=True), []
        while (message := stream.next()).what != "End":
            answers.append(message)
        stream.wait_over()
        return answers, message


def settle_all(conversation, count):
    """Takes messages until `count` commands were answered, and returns those answers."""
    answers = []
    while len(answers) < count:
        message = conversation.next()
        if message.what in ("Accepted", "Ack", "Rejected"):
            answers.append(message)
    return answers
