"""The service in one process, its clients in another."""

import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedjax_private.datasets import Normalization
from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.inference import plan
from fedjax_private.inference.evaluating.querier import Querier
from fedjax_private.inference.serving import frames
from fedjax_private.inference.serving.access import Quota
from fedjax_private.inference.serving.frames import Kind
from fedjax_private.inference.serving.head import fit
from fedjax_private.inference.serving.offer import Offer
from fedjax_private.inference.serving.remote import RemoteModel, ServiceError
from fedjax_private.inference.serving.service import Service
from fedjax_private.inference.serving.worker import Task
from tests.inference.serving.services import PATIENCE, Server, Stranger, images, tiny

pytestmark = pytest.mark.needs_openfhe

ERROR = 1e-2  # of a score: what was planned for


@pytest.fixture(scope="module")
def circuit():
    return tiny()


@pytest.fixture(scope="module")
def server(circuit, tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server"), circuit)
    yield running
    assert running.stop() == 0


@pytest.fixture
def serve(tmp_path):
    """Starts a service with a folder of its own; ends it whatever happens."""
    running = []

    def start(circuit, **options):
        running.append(Server(tmp_path, circuit, **options))
        return running[-1]

    yield start
    for server in running:
        server.process.kill()


@pytest.fixture(scope="module")
def querier(server):
    return Querier(Stranger(server).offer.plan)


@pytest.fixture
def opened(server, querier):
    """A session with its keys loaded, which numbers bodies by hand."""
    session = Stranger(server).open()
    status, said = session.keys(querier.evaluation_keys())
    assert status == 200, said
    yield session
    session.close()


def assert_scores(circuit, scores, asked):
    np.testing.assert_allclose(scores, circuit.plain(asked / 255), rtol=0, atol=ERROR)


def test_scores_are_those_of_the_plain_circuit(server, circuit):
    asked = images(3)
    with RemoteModel.connect(server.url, server.token) as model:
        scores = model.predict(asked)
        assert scores.dtype == np.float64
        assert_scores(circuit, scores, asked)
        # What is normalised already is taken as it is.
        again = model.predict((asked[:1] / 255).astype(np.float32))
        np.testing.assert_allclose(again, scores[:1], atol=2 * ERROR)
        assert model.offer.model == "tiny"
        assert model.predict(asked[:0]).shape == (0, 3)
    server.said("closed by its client")


def test_eight_clients_at_once_each_get_their_own_scores(server, circuit):
    ready = threading.Barrier(8)

    def ask(seed):
        asked = images(2, seed)
        with RemoteModel.connect(server.url, server.token) as model:
            ready.wait(PATIENCE)  # all sessions are open before any is asked
            assert_scores(circuit, model.predict(asked), asked)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def test_a_batch_holds_many_images(circuit, serve):
    running = serve(circuit, packing="batch")
    with RemoteModel.connect(running.url, running.token) as model:
        held = model.offer.plan.images_per_request
        asked = images(held + 3)
        assert_scores(circuit, model.predict(asked), asked)
    running.said(f"after {2 * held} images")  # all slots count, not those used
    assert running.stop() == 0


def test_whoever_lacks_the_token_gets_no_session(server):
    with pytest.raises(RefusedError, match="did not make"):
        RemoteModel.connect(server.url, os.urandom(32))
    status, said = Stranger(server, os.urandom(32)).ask("POST", "/sessions", b"")
    assert (status, said) == (400, "a body ended too early.")


def test_a_hello_opens_one_session(server):
    stranger = Stranger(server)
    hello = stranger.hello()
    assert stranger.ask("POST", "/sessions", hello)[0] == 200
    status, said = stranger.ask("POST", "/sessions", hello)
    assert status == 400
    assert "replayed" in said


def test_a_hello_to_another_run_of_the_server_opens_none(server):
    stranger = Stranger(server)
    stranger.said = stranger.said.replace(stranger.offer.run.hex().encode(), b"0" * 32)
    status, said = stranger.ask("POST", "/sessions", stranger.hello())
    assert status == 400
    assert "tag" in said


def test_replayed_and_reordered_bodies_are_refused(opened, querier):
    request = querier.encrypt(images(1) / np.float32(255))
    first = opened.to_server.write(Kind.REQUEST, 2, request)
    later = opened.to_server.write(Kind.REQUEST, 3, request)
    ask, path = opened.stranger.ask, f"{opened.path}/predict"
    status, said = ask("POST", path, later)
    assert (status, "number 3 where number 2 is due" in said) == (400, True)
    assert ask("POST", path, first)[0] == 200
    status, said = ask("POST", path, first)
    assert (status, "number 2 where number 3 is due" in said) == (400, True)
    assert ask("POST", path, later)[0] == 200  # the refused ones changed nothing
    opened.counter = 4


def test_bodies_of_another_session_kind_and_direction_are_refused(opened, querier):
    request = querier.encrypt(images(1) / np.float32(255))
    ask = opened.stranger.ask
    other = opened.stranger.open()
    for channel, kind, path in (
        (other.to_server, Kind.REQUEST, "/predict"),
        (opened.to_client, Kind.REQUEST, "/predict"),
        (opened.to_server, Kind.ANSWER, "/predict"),
        (opened.to_server, Kind.CLOSE, "/predict"),
    ):
        body = channel.write(kind, opened.counter, request)
        status, said = ask("POST", opened.path + path, body)
        assert status == 400, said
    body = opened.to_server.write(Kind.REQUEST, opened.counter, request)
    assert ask("POST", f"{other.path}/predict", body)[0] == 400
    assert ask("POST", f"{opened.path}/predict", body)[0] == 200
    opened.counter += 1
    other.close()


def test_an_answer_is_for_its_request_and_client_only(opened, querier):
    plan = opened.stranger.offer.plan
    asked = images(1)
    request = querier.encrypt(asked / np.float32(255))
    status, said = opened.predict(request)
    assert status == 200
    opened.to_client.read(said, Kind.ANSWER, 2, plan.answer_bytes)
    for channel, number in ((opened.to_client, 1), (opened.to_server, 2)):
        with pytest.raises(WireError):
            channel.read(said, Kind.ANSWER, number, plan.answer_bytes)


def test_a_session_takes_keys_once_and_first(server, querier):
    session = Stranger(server).open()
    request = querier.encrypt(images(1) / np.float32(255))
    assert session.predict(request) == (
        409,
        "this session has no evaluation keys yet.",
    )
    keys = querier.evaluation_keys()
    assert session.keys(keys)[0] == 200
    status, said = session.keys(keys)
    assert (status, "already" in said) == (409, True)
    assert session.predict(request)[0] == 200
    assert session.close()[0] == 200
    status, said = session.predict(request)
    assert (status, "closed by its client" in said) == (404, True)


def test_what_is_not_served_is_said(server):
    stranger = Stranger(server)
    for method, path in (
        ("GET", "/"),
        ("POST", "/model"),
        ("GET", "/sessions"),
        ("PUT", f"/sessions/{'0' * 32}/keys"),
        ("DELETE", "/sessions/..%2f..%2fetc"),
        ("POST", "/sessions/%00/predict"),
    ):
        status, said = stranger.ask(method, path)
        assert status in (404, 405), said
    status, said = stranger.ask("GET", "/health")
    assert (status, b'"ok"' in said) == (200, True)


def test_a_token_has_a_query_limit_over_all_sessions(circuit, serve):
    running = serve(circuit, queries=5)
    with RemoteModel.connect(running.url, running.token) as model:
        model.predict(images(3))
    assert running.stop() == 0
    again = serve(circuit, queries=5)  # goes on counting
    with RemoteModel.connect(again.url, again.token) as model:
        model.predict(images(2))
        with pytest.raises(RefusedError, match="access token is reached: 0 images of"):
            model.predict(images(1))
    assert again.stop() == 0


def test_a_quota_keeps_within_what_the_flooding_is_for(circuit, tmp_path):
    planned = plan(circuit, packing="single", queries=100)
    offer = Offer(bytes(16), "tiny", "x", Normalization(), (), None, planned.public)
    task, token = Task(circuit, planned, 0.0, 1 << 30), bytes(32)
    Service(offer, task, token, Quota(token, 100, tmp_path / "queries"))
    with pytest.raises(ValueError, match="planned for 100 images"):
        Service(offer, task, token, Quota(token, 101, tmp_path / "queries"))


def test_sessions_are_bounded(circuit, serve):
    running = serve(circuit, sessions=2)
    stranger = Stranger(running)
    first = stranger.open()
    stranger.open()
    status, said = stranger.ask("POST", "/sessions", stranger.hello())
    assert (status, "all 2 sessions are taken" in said) == (503, True)
    assert len(running.workers()) == 2
    assert first.close()[0] == 200
    stranger.open()
    assert running.stop() == 0


def test_idle_sessions_end(circuit, serve):
    running = serve(circuit, idle_seconds=1.0)
    session = Stranger(running).open()
    running.said("ended (idle for 1 s)")
    assert running.workers() == []
    status, said = session.close()
    assert (status, "idle for 1 s" in said) == (404, True)
    assert running.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_answers_the_bodies_in_progress(circuit, serve, number):
    running = serve(circuit)
    Stranger(running).open()
    with RemoteModel.connect(running.url, running.token) as model:
        workers, asked = running.workers(), images(1)
        assert len(workers) == 2
        plan = model.offer.plan
        querier = Querier(plan)
        session = Stranger(running).open()
        assert session.keys(querier.evaluation_keys())[0] == 200
        request = querier.encrypt(asked / np.float32(255))
        start = frames.PREFIX_BYTES + 10
        with session.unfinished("POST", "/predict", Kind.REQUEST, request, start) as (
            connection,
            rest,
        ):
            running.process.send_signal(number)
            running.said("finishing what is in progress")
            connection.send(rest)
            answer = connection.getresponse().read()
        scores = session.to_client.read(answer, Kind.ANSWER, 2, plan.answer_bytes)
        assert_scores(circuit, querier.decrypt(scores, 1), asked)
        assert running.process.wait(PATIENCE) == 0
        with pytest.raises(ServiceError, match="is a service running there"):
            model.predict(asked)
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_split_serving_leaves_the_last_layer_to_the_client(circuit, serve):
    first, rest = circuit.split("square")
    running = serve(first, split="square")
    asked = images(24)
    # Labels of the client's own, which the model was not trained on.
    labels = (asked.reshape(24, -1)[:, :8].mean(axis=1) > 127.5).astype(np.int32)
    with RemoteModel.connect(running.url, running.token) as model:
        assert model.offer.split == "square"
        features = model.predict(asked)
        assert_scores(first, features, asked)
        head = fit(features, labels, 2, split=model.offer.split, penalty=1e-4)
    plain = fit(first.plain(asked / 255), labels, 2, split="square", penalty=1e-4)
    agreed = head(features).argmax(axis=1) == plain(first.plain(asked / 255)).argmax(1)
    assert agreed.mean() > 0.9
    np.testing.assert_allclose(
        rest.plain(features), circuit.plain(asked / 255), atol=20 * ERROR
    )
    assert running.stop() == 0


def test_only_one_body_at_a_time_is_let_into_a_session(opened, querier):
    request = querier.encrypt(images(1) / np.float32(255))
    start = frames.PREFIX_BYTES + 10
    with opened.unfinished("POST", "/predict", Kind.REQUEST, request, start) as (
        connection,
        rest,
    ):
        following = opened.to_server.write(Kind.REQUEST, opened.counter, request)
        path = f"{opened.path}/predict"
        status, said = opened.stranger.ask("POST", path, following)
        assert (status, "one body at a time" in said) == (409, True)
        connection.send(rest)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    assert opened.stranger.ask("POST", path, following)[0] == 200
    opened.counter += 1


def test_neither_side_needs_jax():
    modules = "worker", "service", "remote", "head"
    names = [f"fedjax_private.inference.serving.{name}" for name in modules]
    script = f"import sys, {', '.join(names)}\n"
    script += "assert not {'jax', 'flax'} & set(sys.modules)"
    subprocess.run([*interpreter(), "-c", script], check=True, timeout=PATIENCE)


def test_score_noise_is_fresh_and_as_wide_as_was_said(circuit, serve):
    running = serve(circuit, packing="batch", score_noise=0.5)
    with RemoteModel.connect(running.url, running.token) as model:
        asked = np.repeat(images(1), model.offer.plan.images_per_request, axis=0)
        errors = model.predict(asked) - circuit.plain(asked / 255)
        again = model.predict(asked) - circuit.plain(asked / 255)
    count = errors.size
    assert abs(errors.std() / 0.5 - 1) < 5 / np.sqrt(2 * count)
    assert abs(errors.mean()) < 5 * 0.5 / np.sqrt(count)
    assert abs(np.corrcoef(errors.ravel(), again.ravel())[0, 1]) < 5 / np.sqrt(count)
