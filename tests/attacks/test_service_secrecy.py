"""What reaches a server, and what is in its memory: neither images nor secret keys."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from fedjax_private.inference.serving.remote import RemoteModel
from tests.inference.serving.services import Server, Stranger, Tap, tiny

pytestmark = pytest.mark.needs_openfhe


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server, all bytes that it received of a client, and the client."""
    server = Server(tmp_path_factory.mktemp("server"), tiny())
    tap = Tap(server.port)
    image = np.random.default_rng(3).integers(0, 256, (1, 4, 4, 1)).astype(np.uint8)
    url = f"http://127.0.0.1:{tap.port}"
    with RemoteModel.connect(url, server.token) as model:
        model.predict(image)
        yield server, tap, model, image
    tap.close()
    assert server.stop() == 0


def traces(image):
    """Byte strings by which the image would show: too long to occur by chance."""
    rows = image.reshape(4, 4)
    yield image.tobytes()
    for values in (rows, rows / 255):
        for kind in (np.float32, np.float64):
            yield from (row.astype(kind).tobytes() for row in values)
    yield ",".join(map(str, image.ravel())).encode()


def found(data, image):
    return [trace for trace in traces(image) if trace in data]


def secrets(model):
    """Parts of the client's secret key, as OpenFHE keeps and serialises it."""
    querier = model.querier
    serialised = querier.ckks.serialised(querier.key_pair.secretKey)
    # From the end: a header is alike in all keys.
    return [serialised[-offset : -offset + 48] for offset in (64, 20_000)]


def test_a_server_receives_neither_the_image_nor_a_secret_key(served):
    server, tap, model, image = served
    received = tap.received
    plan = model.offer.plan
    assert len(received) > plan.evaluation_keys_bytes + plan.request_bytes
    assert found(received, image) == []
    assert not [secret for secret in secrets(model) if secret in received]
    assert server.token not in received
    assert server.token.hex().encode() not in received


def test_the_tap_would_show_an_image_that_is_sent_in_clear(served):
    server, tap, _, _ = served
    image = np.random.default_rng(4).integers(0, 256, (1, 4, 4, 1)).astype(np.uint8)
    stranger = Stranger(server)
    stranger.port = tap.port
    body = image.tobytes() + (image / 255).astype(np.float32).tobytes()
    assert stranger.ask("POST", "/sessions", body)[0] == 400
    assert len(found(tap.received, image)) == 5


def memory(pid):
    """What a process keeps in memory that it may write."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                with contextlib.suppress(OSError, ValueError):
                    file.seek(start)
                    yield file.read(end - start)


def test_no_process_of_the_server_has_the_secret_key_or_the_image(served):
    server, _, model, image = served
    needles = secrets(model)
    left = set(needles)  # this is how it would show
    for region in memory("self"):
        left = {needle for needle in left if needle not in region}
        if not left:
            break
    assert not left
    # All of it at once: a row is too short for the billions of bytes that follow.
    needles += [image.tobytes(), (image / 255).astype(np.float32).tobytes()]
    pids = [server.process.pid, *server.workers()]
    assert len(pids) == 2
    for pid in pids:
        read = 0
        for region in memory(pid):
            read += len(region)
            assert not [needle for needle in needles if needle in region]
        assert read > 10 << 20
