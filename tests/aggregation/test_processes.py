"""Server, clients and decryptors in processes of their own."""

import contextlib
import gc
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fedjax_private.aggregation import processes
from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.aggregation.processes import ProcessAggregation
from fedjax_private.encryption.errors import (
    OpenFHEUnavailable,
    RefusedError,
    VoidRoundError,
)
from fedjax_private.encryption.openfhe.backend import interpreter
from fedjax_private.encryption.parameters import Scheme
from fedjax_private.encryption.parties import children
from fedjax_private.encryption.parties.attendance import DropOut
from fedjax_private.encryption.parties.sockets import Run
from fedjax_private.trust import Decryptor, Trust
from tests.aggregation.process_sums import (
    VALUES,
    K,
    arguments,
    encoded,
    ended,
    released,
    started,
    wait_until,
)

pytestmark = pytest.mark.needs_openfhe


@pytest.mark.parametrize("name", [scheme.value for scheme in Scheme])
def test_sums_are_those_of_one_process(running, numbers, name):
    separate = running(name)
    request, trust = arguments(name)
    single = EncryptedAggregation(request, trust, quorum=3)
    for seed in range(3):
        number, slots = next(numbers), encoded(single, seed)
        total, report = released(separate, slots, number)
        other, of_other = released(single, slots, number)
        if request.scheme.exact:
            np.testing.assert_array_equal(total, other)
            np.testing.assert_array_equal(total, slots.sum(axis=0))
            assert report.max_error == 0.0
        else:
            within = 8 * separate.parameters.error_std(K)
            np.testing.assert_allclose(total, other, rtol=0, atol=2 * within)
            assert report.max_error < within
        assert report.link_bytes == of_other.link_bytes
        assert report.upload_bytes_per_client == of_other.upload_bytes_per_client
        assert report.saturated == of_other.saturated
        assert (report.seconds_keys > 0) is (seed == 0)
        for seconds in ("encrypt", "add", "decrypt"):
            assert getattr(report, f"seconds_{seconds}") > 0
    assert "run in separate processes" in separate.description


@pytest.mark.parametrize("name", ["ckks", "threshold_exact"])
def test_too_few_uploads_are_never_decrypted(running, numbers, name):
    aggregation = running(name)
    slots = encoded(aggregation)
    session = aggregation.open(next(numbers))
    with pytest.raises(RefusedError, match="no upload"):
        session.release()
    session = aggregation.open(next(numbers))
    session.add(np.arange(K - 1), slots[1:])
    with pytest.raises(RefusedError, match=f"sum of {K - 1} uploads is not decrypted"):
        session.release()
    released(aggregation, slots, next(numbers))


def test_rounds_are_released_once_and_only_while_open(running, numbers):
    aggregation, number = running("exact"), next(numbers)
    slots = encoded(aggregation)
    session = aggregation.open(number)
    session.add(np.arange(K), slots)
    session.release()
    with pytest.raises(RuntimeError, match="released already"):
        session.release()
    with pytest.raises(RefusedError, match="has been opened before"):
        released(aggregation, slots, number)
    old = aggregation.open(next(numbers))
    old.add(np.arange(K), slots)
    new = aggregation.open(next(numbers))
    new.add(np.arange(K), slots)
    with pytest.raises(RefusedError, match="is not open"):
        old.release()
    new.release()


def test_clients_are_enrolled_when_they_come(running, numbers):
    aggregation = running("exact")
    slots = encoded(aggregation)
    session = aggregation.open(next(numbers))
    session.add(np.array([907, 2]), slots[:2])
    session.add(np.array([31, 12]), slots[2:])
    total, _ = session.release()
    np.testing.assert_array_equal(total, slots.sum(axis=0))


def test_errors_of_clients_come_back(running, numbers):
    aggregation = running("ckks")
    bad = np.zeros((K, VALUES), np.float32)
    bad[2, 7] = np.nan
    session = aggregation.open(next(numbers))
    with pytest.raises(ValueError, match=r"client 2: .* not finite") as caught:
        session.add(np.arange(K), bad)
    assert type(caught.value) is ValueError
    session.add(np.arange(K), np.nan_to_num(bad))  # none of the chunk is in the sum
    with pytest.raises(RefusedError, match="twice"):
        session.add(np.array([2]), bad[:1])
    released(aggregation, encoded(aggregation), next(numbers))


def test_the_report_names_what_the_server_has_taken(running, numbers):
    aggregation, number = running("exact"), next(numbers)
    slots, session = encoded(aggregation), aggregation.open(number)
    # Client 1 uploads by itself, and refuses to do so again; client 3 of its process
    # comes after it.
    aggregation._upload(number, [1], slots[1:2])
    with pytest.raises(RefusedError):
        session.add(np.arange(K), slots)
    session.add(np.array([3]), slots[3:])
    total, report = session.release()
    np.testing.assert_array_equal(total, slots.sum(axis=0))
    assert (report.uploads, report.max_error) == (K, 0.0)


def test_keys_are_rotated_when_the_budget_is_used_up():
    with contextlib.closing(started("threshold_ckks", query_budget=4)) as aggregation:
        slots = encoded(aggregation)
        assert aggregation.parameters.sums_per_key == 2
        for number in range(4):
            _, report = released(aggregation, slots, number)
            assert (report.seconds_keys > 0) is (number % 2 == 0)
        # A rotation later the parties know what they did in round 3, though whoever
        # opens rounds has forgotten.
        aggregation._opened.clear()
        session = aggregation.open(3)
        with pytest.raises(RefusedError, match="has declared in round 3 already"):
            session.add(np.arange(K), slots)
        session = aggregation.open(4)
        session.add(np.arange(K, 2 * K), slots)
        session.release()
        aggregation._opened.clear()
        session = aggregation.open(4)
        with pytest.raises(RefusedError, match="has decrypted in round 4 already"):
            session.add(np.arange(2 * K, 3 * K), slots)


def test_keys_are_rotated_after_so_many_rounds():
    request, trust = arguments("exact")
    with contextlib.closing(ProcessAggregation(request, trust, key_rounds=2)) as sums:
        slots = encoded(sums)
        for number in range(4):
            _, report = released(sums, slots, number)
            assert (report.seconds_keys > 0) is (number % 2 == 0)
        assert "A new key is made every 2 rounds." in sums.description


def test_sums_are_the_same_where_holders_vanish():
    request, trust = arguments("threshold_exact")
    drop_out = DropOut(0.2, 2)
    with contextlib.closing(
        ProcessAggregation(request, trust, quorum=3, drop_out=drop_out)
    ) as separate:
        single = EncryptedAggregation(request, trust, quorum=3, drop_out=drop_out)
        seen = []
        for number in range(3):
            slots, found = encoded(single, number), []
            for aggregation in (separate, single):
                try:
                    total, report = released(aggregation, slots, number)
                except VoidRoundError as error:
                    found.append(str(error))
                    continue
                np.testing.assert_array_equal(total, slots.sum(axis=0))
                found.append((report.recovered_holders, report.link_bytes))
            assert found[0] == found[1]
            seen.append(found[0] if isinstance(found[0], str) else found[0][0])
        assert any(isinstance(each, str) for each in seen)
        assert {0, 1} <= set(seen)


@pytest.mark.parametrize("name", ["exact", "threshold_ckks"])
def test_sums_that_nobody_verifies(name):
    request, trust = arguments(name)
    single = EncryptedAggregation(request, trust, quorum=3, verified=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "MOST_PROCESSES", 2)
        separate = ProcessAggregation(request, trust, quorum=3, verified=False)
    with contextlib.closing(separate):
        slots = encoded(separate)
        total, report = released(separate, slots, 0)
        other, of_other = released(single, slots, 0)
        within = 16 * separate.parameters.error_std(K)
        np.testing.assert_allclose(total, other, rtol=0, atol=within)
        assert report.link_bytes == of_other.link_bytes
        from_clients = {link for link in report.link_bytes if link.startswith("client")}
        assert from_clients == {"client to server"}


def test_dead_processes_are_named_and_none_is_left():
    aggregation = started("exact")
    slots = encoded(aggregation)
    processes = list(aggregation.children.values())
    clients = aggregation.children["clients 1"]
    authority = aggregation.children["authority"]
    with contextlib.closing(aggregation):
        session = aggregation.open(0)
        clients.process.kill()
        with pytest.raises(RuntimeError, match="'clients 1' has ended, with status -9"):
            session.add(np.arange(K), slots)
        session = aggregation.open(1)
        session.add(np.array([0, 2, 4, 6]), slots)
        authority.process.kill()
        with pytest.raises(RuntimeError, match="the key authority does not answer"):
            session.release()
        with pytest.raises(RuntimeError, match="'authority' has ended"):
            aggregation.open(2)
    assert all(child.process.poll() is not None for child in processes)
    aggregation.close()
    with pytest.raises(RuntimeError, match="has ended, with status"):
        aggregation.open(3)


def test_forgotten_processes_end():
    aggregation = started("exact")
    session = aggregation.open(0)
    pids = [child.process.pid for child in aggregation.children.values()]
    del aggregation, session
    gc.collect()
    assert all(map(ended, pids))


DRIVER = """
import os, pickle, sys
from fedjax_private.encryption.parties.children import Child
from fedjax_private.encryption.parties import children
from fedjax_private.encryption.parties.sockets import Run

run = pickle.load(sys.stdin.buffer)
os.mkdir(run.folder)
children = [Child(run, role, role) for role in ("server", "clients")]
for child in children:
    child.call("enrol", 1)
    child.call("listen", 1 + children.index(child))
print(*(child.process.pid for child in children), flush=True)
os.kill(os.getpid(), 9)
"""


def test_processes_end_with_their_driver(tmp_path):
    folder = tmp_path / "sockets"
    run = Run(str(folder), b"key", *arguments("exact"), 1, True)
    done = subprocess.run(
        [*interpreter(), "-c", DRIVER],
        input=pickle.dumps(run),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr.decode()
    wait_until(lambda: all(map(ended, pids)) and not folder.exists())


def test_impossible_arguments_are_refused(tmp_path, monkeypatch):
    request, trust = arguments("exact")
    holders = Trust(K, Decryptor.HOLDERS)
    with pytest.raises(ValueError, match="one of the two is wrong") as caught:
        ProcessAggregation(request, holders)
    assert type(caught.value) is ValueError
    script = tmp_path / "without.py"
    script.write_text(
        "import sys\nsys.modules['openfhe'] = None\n"
        "from fedjax_private.encryption.parties import processes\n"
        "processes.main(int(sys.argv[-1]))\n"
    )
    without = [*interpreter(), str(script)]
    monkeypatch.setattr(children, "interpreter", lambda: without)
    with pytest.raises(OpenFHEUnavailable, match="plain arms run without it"):
        ProcessAggregation(request, trust)
