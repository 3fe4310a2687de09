"""A service in its own process, clients that break rules, and a listening proxy."""

import contextlib
import http.client
import json
import os
import pickle
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np

from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.inference.compiling.circuit import Affine, Circuit, Polynomial
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.access import make_token
from fedjax_private.inference.serving.frames import Kind
from fedjax_private.inference.serving.offer import Offer

SCRIPT = Path(__file__).parent / "serve_circuit.py"

# Seconds after which something is broken, however busy the machine is.
PATIENCE = 300.0


def tiny(seed=0):
    """A circuit from (4, 4, 1) images to 3 scores, as deep as a small network."""
    random = np.random.default_rng(seed)
    circuit = Circuit(
        (4, 4, 1),
        (
            Affine("hidden", random.normal(size=(6, 16)) / 4, random.normal(size=6)),
            Polynomial("square", np.outer([0, 0, 1.0], np.ones(6))),
            Affine("scores", random.normal(size=(3, 6)), random.normal(size=3)),
        ),
    )
    return circuit.measured(images(64, seed) / 255)


def images(count, seed=1):
    """uint8 (count, 4, 4, 1)."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8)


def waited_for(condition):
    """Waits until a condition holds; returns its first true value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


class Server:
    """A running service. `lines` are its log so far."""

    def __init__(
        self,
        folder,
        circuit,
        *,
        packing="single",
        split=None,
        score_noise=0.0,
        queries=10**4,
        **limits,
    ):
        self.token = make_token(folder / "token")
        (folder / "circuit.pickle").write_bytes(pickle.dumps(circuit))
        options = {
            "packing": packing,
            "split": split,
            "score_noise": score_noise,
            "queries": queries,
            "limits": limits,
        }
        (folder / "options.json").write_text(json.dumps(options))
        self.process = subprocess.Popen(
            [*interpreter(), str(SCRIPT), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        self.lines = []
        first = self.process.stdout.readline()
        assert first.startswith("port "), "the service did not start"
        self.port = int(first.split()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _listen(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def said(self, part):
        """Waits for a line of the log with that part."""
        waited_for(lambda: any(part in line for line in list(self.lines)))

    def workers(self):
        """Process ids of the open sessions' processes."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for file in children for pid in file.read_text().split()]

    def memory(self):
        """Bytes of the service's own memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (x for x in status.splitlines() if x.startswith("VmRSS"))
        return int(line.split()[1]) << 10

    def stop(self):
        """Ends it with SIGTERM; returns its exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


class Stranger:
    """A client that sends arbitrary bytes, over one connection at a time."""

    def __init__(self, server, token=None):
        self.port, self.token = server.port, token or server.token
        status, self.said = self.ask("GET", "/model")
        assert status == 200
        self.offer = Offer.from_bytes(self.said)

    def ask(self, method, path, body=None, headers=None):
        """Returns the status, and the body: the sentence if it is a refusal."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=PATIENCE
        )
        with contextlib.closing(connection):
            with contextlib.suppress(ConnectionError):
                connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            said = response.read()
        if response.status == 200:
            return 200, said
        sentence = json.loads(said)["error"]
        assert isinstance(sentence, str)
        assert sentence.endswith(".")
        return response.status, sentence

    def hello(self, nonce=None):
        channel = frames.opening_channel(self.token, self.said)
        return channel.write(Kind.HELLO, 0, nonce or frames.nonce())

    def open(self):
        """Opens a session."""
        nonce = frames.nonce()
        status, said = self.ask("POST", "/sessions", self.hello(nonce))
        assert status == 200, said
        return Opened(self, *frames.read_welcome(self.token, self.said, nonce, said))


class Opened:
    """A stranger's session, with its channels and the number of the next body."""

    def __init__(self, stranger, to_server, to_client):
        self.stranger, self.to_server, self.to_client = stranger, to_server, to_client
        self.path = f"/sessions/{to_server.session.hex()}"
        self.counter = 1

    def put(self, method, path, kind, payload):
        """Sends a payload in an authentic body."""
        body = self.to_server.write(kind, self.counter, payload)
        self.counter += 1
        return self.stranger.ask(method, self.path + path, body)

    def keys(self, payload):
        return self.put("PUT", "/keys", Kind.KEYS, payload)

    def predict(self, payload):
        return self.put("POST", "/predict", Kind.REQUEST, payload)

    def close(self):
        return self.put("DELETE", "", Kind.CLOSE, b"")

    def due(self):
        """The number of the body that is due, from the refusal of another one."""
        body = self.to_server.write(Kind.CLOSE, 2**63, b"")
        status, said = self.stranger.ask("DELETE", self.path, body)
        assert (status, "is due" in said) == (400, True)
        return int(said.split("where number ")[1].split()[0])

    @contextlib.contextmanager
    def unfinished(self, method, path, kind, payload, sent):
        """Sends the first `sent` bytes of an authentic body, and keeps the rest back.

        Yields the connection and the rest, once the server is receiving the body.
        """
        body = self.to_server.write(kind, self.counter, payload)
        self.counter += 1
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.stranger.port, timeout=PATIENCE
        )
        with contextlib.closing(connection):
            connection.putrequest(method, self.path + path)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            connection.send(body[:sent])
            waited_for(lambda: self.due() == self.counter)
            yield connection, body[sent:]


class Tap:
    """A TCP proxy that records all bytes that a server receives."""

    def __init__(self, port):
        self._to, self._lock, self._received = port, threading.Lock(), bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def received(self):
        with self._lock:
            return bytes(self._received)

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                for ends in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, sink, kept):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if kept:
                    with self._lock:
                        self._received += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
