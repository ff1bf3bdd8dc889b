"""A relay as a process of its own."""

import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

# Development mode: the token is the user id itself.
NONE = '[auth]\nmode = "none"\n'


class Relay:
    def __init__(self, binary, config=NONE):
        self.binary, self.folder = binary, pathlib.Path(tempfile.mkdtemp(prefix="quip-wire-"))
        self.data, self.config, self.address, self.process = self.folder / "data", config, ("127.0.0.1", 0), None
        self.start()

    def start(self):
        host, port = self.address
        top = f'listen = "{host}:{port}"\ndata = "{self.data}"\n'
        (self.folder / "quip.toml").write_text(top + self.config)
        (self.data / "listen").unlink(missing_ok=True)
        with open(self.folder / "log", "ab") as log:
            command = [self.binary, "serve", "--config", self.folder / "quip.toml"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + 30
        while not (self.data / "listen").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the relay does not come up: " + (self.folder / "log").read_text())
            time.sleep(0.005)
        host, port = (self.data / "listen").read_text().strip().rsplit(":", 1)
        self.address = (host, int(port))

    def fingerprint(self):
        return (self.data / "fingerprint").read_text().strip()

    def token(self, user, *arguments):
        command = [self.binary, "token", "--config", self.folder / "quip.toml", "--user", user, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        return self.process.wait(timeout=30)

    def remove(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
