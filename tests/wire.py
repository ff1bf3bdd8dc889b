#!/usr/bin/env python3
"""A second implementation of quip/1, written from protocol/WIRE.md and protocol/vectors.json, against a real relay.

    tests/wire.py target/debug/quip-relay [WORD ...]     only the checks whose line has one of the words

Needs aioquic and blake3 (PyPI). `scripts/test` makes an environment with them.
"""

import pathlib
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).with_name("wire")))

try:
    import aioquic
    import blake3
except ImportError as error:
    print(f"skipped: {error}; pip install aioquic==1.7.2 blake3")
    sys.exit(0)

import check_bytes
import check_session
import check_conversation
import check_commands
import check_people
import checks
import client
import relay

CONFIG = """
[limits]
messages_per_second = 0
[[namespaces]]
name = "quiet"
history = "joined"
joins_shown = false
"""


def main(binary, words):
    passed = failed = 0
    shared = relay.Relay(pathlib.Path(binary).resolve(), relay.NONE + CONFIG)
    try:
        for text, function in checks.ALL:
            if words and not any(word in text for word in words):
                continue
            begun = time.monotonic()
            try:
                function(shared)
                passed += 1
                print(f"ok      {text} ({time.monotonic() - begun:.1f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED  {text}\n{traceback.format_exc()}", flush=True)
            for connection in list(client.CONNECTIONS):
                connection.close()
    finally:
        shared.remove()
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
