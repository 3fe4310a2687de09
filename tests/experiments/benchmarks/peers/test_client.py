"""The protocol, with workers that obey it and workers that do not."""

import contextlib
import sys
import time
from pathlib import Path

import pytest

from experiments.benchmarks.peers import client, registry
from experiments.benchmarks.peers.environments import PeerUnavailable

CLIENTS = {"clients": 2, "batch": 4, "model": "tutorial_cnn", "private": True}
ENCRYPTION = {"parameters": 10, "clients": 2}
INFERENCE = {"images": 1}

PREAMBLE = "import json, os, sys, time\nrequest = json.loads(input())\n"
READY = 'print(json.dumps({"ready": True, "warmup_seconds": 0.5}), flush=True)\n'


@pytest.fixture
def started(tmp_path, monkeypatch):
    with contextlib.ExitStack() as workers:

        def start(program, case=CLIENTS, peer="torch_func"):
            script = tmp_path / "fake.py"
            script.write_text(PREAMBLE + program)
            monkeypatch.setattr(client, "SCRIPT", script)
            worker = client.Worker(peer, case, 1, sys.executable)
            workers.callback(worker.close)
            return worker

        yield start


def test_a_worker_is_told_what_to_do_and_asked_again_and_again(started, tmp_path):
    program = READY.replace("0.5}", '0.5, "variant": json.dumps(request)}')
    program += 'for line in sys.stdin: n = json.loads(line)["repeat"]; '
    program += 'print(json.dumps({"seconds": [0.25] * n}), flush=True)\n'
    program += f"open({str(tmp_path / 'ended')!r}, 'w')\n"
    worker = started(program)
    told = '{"peer": "torch_func", "case": {"clients": 2, "batch": 4, '
    assert worker.ready["variant"].startswith(told)
    assert worker.repeat(1) == [0.25]
    assert worker.repeat(3) == [0.25] * 3
    worker.close()
    assert (tmp_path / "ended").exists()
    worker.close()


@pytest.mark.parametrize("case", [ENCRYPTION, INFERENCE], ids=registry.STAGES)
def test_work_in_stages(started, case):
    said = "".join(
        f', "{name}": 33' for name in registry.READY_NUMBERS[registry.suite_of(case)]
    )
    ready = READY.replace("0.5}", f"0.5{said}}}")
    answer = "for line in sys.stdin: print('{\"seconds\": [[1, 2, 3]]}', flush=True)\n"
    worker = started(ready + answer, case, "tenseal")
    assert worker.repeat(1) == [[1, 2, 3]]
    with pytest.raises(PeerUnavailable, match="an answer that breaks the protocol"):
        worker.repeat(2)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("sys.exit('no such thing')", "torch_func ended: no such thing"),
        ("raise ImportError('no torch')", "torch_func ended: ImportError: no torch"),
        ("os._exit(3)", "torch_func ended: it wrote nothing"),
        ("os.kill(os.getpid(), 9)", "torch_func ended: it wrote nothing"),
        ('print(\'{"error": "the batch is odd."}\')', "torch_func: the batch is odd."),
        (
            "print('Downloading...', flush=True); time.sleep(999)",
            "an answer that breaks the protocol",
        ),
        (
            "print('[1, 2]', flush=True); time.sleep(999)",
            "an answer that breaks the protocol",
        ),
        (
            "os.write(1, bytes(range(128, 256)) + b'\\n')",
            "an answer that breaks the protocol",
        ),
        ("while True: print(end='x' * 65536)", "an answer that breaks the protocol"),
        ("print('{\"ready\": true}')", "an answer that breaks the protocol"),
        (READY.replace("0.5", "float('nan')"), "an answer that breaks the protocol"),
    ],
)
def test_a_worker_that_does_not_get_ready(started, program, said):
    with pytest.raises(PeerUnavailable) as caught:
        started(program)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("sys.exit('out of memory')", "out of memory"),
        ("input(); sys.exit('out of memory')", "out of memory"),
        ("input(); print('{\"seconds\": [0.1]}', flush=True)", "breaks the protocol"),
        (
            "input(); print('{\"seconds\": [0.1, -1]}', flush=True)",
            "breaks the protocol",
        ),
        (
            "input(); print('{\"seconds\": [true, 1]}', flush=True)",
            "breaks the protocol",
        ),
        ("input(); print('{\"seconds\": [[1, 2, 3]] * 2}')", "breaks the protocol"),
        (
            "input(); print('{\"seconds\": [0.1, NaN]}', flush=True)",
            "breaks the protocol",
        ),
    ],
)
def test_a_worker_that_fails_later(started, program, said):
    worker = started(READY + program)
    with pytest.raises(PeerUnavailable, match=said):
        worker.repeat(2)


def alive(pid):
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_worker_that_hangs_is_ended_with_its_children(started, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "START_SECONDS", 0.2)
    with pytest.raises(PeerUnavailable, match=r"no answer within 0\.2 s"):
        started("time.sleep(999)")
    monkeypatch.setattr(client, "START_SECONDS", 300.0)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    pid = tmp_path / "pid"
    child = "import subprocess; child = subprocess.Popen(['sleep', '999'])\n"
    child += f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
    worker = started(child + READY + "time.sleep(999)")
    with pytest.raises(PeerUnavailable, match=r"no answer within 0\.2 s"):
        worker.repeat(1)
    deadline = time.monotonic() + 300
    while alive(pid.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_interpreter_is_no_worker(tmp_path):
    with pytest.raises(PeerUnavailable, match="torch cannot be started"):
        client.Worker("torch", CLIENTS, 1, tmp_path / "python")
