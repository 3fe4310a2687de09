import importlib
import operator
import re
import shutil
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import peers
from experiments.benchmarks.peers import client, environments, registry
from experiments.benchmarks.peers.environments import ENVIRONMENTS, PeerUnavailable

FOLDER = Path(client.__file__).parent
CLIENTS = {"clients": 2, "batch": 4, "model": "tutorial_cnn", "private": True}
ROUND = {"clients": 2, "examples": 8, "batch": 4, "epochs": 1}
ENCRYPTION = {"parameters": 10, "clients": 2}
INFERENCE = {"images": 1}


def is_one_sentence(text):
    return "\n" not in text and text.endswith(".") and ". " not in text


# The registry.


@pytest.mark.parametrize("name", registry.PEERS)
def test_a_peer_has_its_environment_and_modules(name):
    peer = registry.PEERS[name]
    assert peer.suites
    assert peer.suites <= set(registry.SUITES)
    for module in peer.modules.values():
        assert (FOLDER / f"{module}.py").is_file()
    pins = ENVIRONMENTS[peer.environment].requirements
    for package in peer.packages:
        assert any(pin.startswith(f"{package}==") for pin in pins)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_is_pinned_and_names_no_host(name):
    environment = ENVIRONMENTS[name]
    for requirement in environment.requirements:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+]+", requirement)
    assert set(environment.hints) <= set(environment.requirements)
    assert not any("://" in hint for hint in environment.hints.values())
    assert name in {peer.environment for peer in registry.PEERS.values()}


def test_every_suite_has_peers():
    assert {suite: peers.serving(suite) for suite in peers.SUITES} == {
        "clients": (
            "torch",
            "torch_func",
            "opacus_hooks",
            "opacus_ghost",
            "jax_privacy",
            "naive_jax",
        ),
        "round": ("naive_jax", "fedjax", "pfl"),
        "encryption": ("tenseal", "tenseal_public_key"),
        "inference": ("tenseal",),
    }


@pytest.mark.parametrize(
    ("peer", "case", "named"),
    [
        ("magic", CLIENTS, "unknown peer magic"),
        ("torch", {"rounds": 3}, "no suite"),
        ("tenseal", CLIENTS, "clients"),
        ("torch", CLIENTS, "no private steps"),
        ("opacus_ghost", {**CLIENTS, "private": False}, "no non-private steps"),
    ],
)
def test_what_a_peer_cannot_do_is_said(peer, case, named):
    reason = peers.unsuitable(peer, case)
    assert named in reason
    assert is_one_sentence(reason)
    with pytest.raises(ValueError, match=re.escape(reason)):
        peers.start(peer, case)


def test_what_a_peer_can_do():
    assert peers.unsuitable("opacus_hooks", CLIENTS) is None
    assert peers.unsuitable("naive_jax", {**CLIENTS, "private": False}) is None
    assert peers.unsuitable("pfl", ROUND) is None
    assert peers.unsuitable("tenseal", ENCRYPTION) is None
    assert peers.unsuitable("tenseal", INFERENCE) is None


# The work itself, of which only the JAX part can be looked at here.


@pytest.fixture
def worker_modules(monkeypatch):
    """Imports as the worker does: by bare name, from the folder of the peers."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = {path.stem for path in FOLDER.glob("*.py")}
    for name in names & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module
    for name in names & set(sys.modules):
        del sys.modules[name]


def test_the_cases_and_networks_fit_together(worker_modules):
    cases = worker_modules("cases")
    networks = worker_modules("jax_networks")
    for kind, case, network, size in (
        ("clients", cases.ClientsCase(**CLIENTS), networks.tutorial_cnn, 26_010),
        ("round", cases.RoundCase(**ROUND), networks.round_cnn, 114_314),
    ):
        params, (images, labels) = case.parameters(), case.data()
        if kind == "clients":
            params = jax.tree.map(operator.itemgetter(0), params)
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size
        logits = jax.eval_shape(network, params, images[0])
        assert logits.shape == (len(labels[0]), 10)
    assert cases.EncryptionCase(**ENCRYPTION).vectors(3).shape == (3, 10)


def test_a_step_of_jax_keeps_the_shapes(worker_modules):
    cases, clients = worker_modules("cases"), worker_modules("jax_clients")
    case = cases.ClientsCase(**CLIENTS)
    own = jax.tree.map(operator.itemgetter(0), (case.parameters(), *case.data()))
    for step in (clients.plain_step, clients.textbook_step):
        after = jax.eval_shape(step, *own, jax.random.key(0))
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, own[0])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ClientsCase", {**CLIENTS, "clients": 0}),
        ("ClientsCase", {**CLIENTS, "model": "resnet"}),
        ("RoundCase", {**ROUND, "batch": 3}),
        ("EncryptionCase", {**ENCRYPTION, "parameters": 1.5}),
        ("InferenceCase", {"images": 2}),
    ],
)
def test_impossible_cases_are_refused(worker_modules, kind, fields):
    with pytest.raises(ValueError) as caught:
        getattr(worker_modules("cases"), kind)(**fields)
    assert is_one_sentence(str(caught.value).replace("1.5", ""))


# The protocol, with workers that obey it and workers that do not.

PREAMBLE = "import json, os, sys, time\nrequest = json.loads(input())\n"
READY = 'print(json.dumps({"ready": True, "warmup_seconds": 0.5}), flush=True)\n'


@pytest.fixture
def started(tmp_path):
    workers = []

    def start(program, case=CLIENTS, peer="torch_func", **limits):
        script = tmp_path / "fake.py"
        script.write_text(PREAMBLE + program)
        limits = {"start_seconds": 20, "answer_seconds": 20, **limits}
        worker = client.Worker(peer, case, 1, sys.executable, script=script, **limits)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.close()


def test_a_worker_is_told_what_to_do_and_asked_again_and_again(started):
    program = READY.replace("0.5}", '0.5, "variant": json.dumps(request)}')
    program += 'for line in sys.stdin: n = json.loads(line)["repeat"]; '
    program += 'print(json.dumps({"seconds": [0.25] * n}), flush=True)\n'
    with started(program) as worker:
        told = '{"peer": "torch_func", "case": {"clients": 2, "batch": 4, '
        assert worker.ready["variant"].startswith(told)
        assert worker.repeat(1) == [0.25]
        assert worker.repeat(3) == [0.25] * 3
        process = worker._process
    assert process.returncode == 0
    worker.close()


@pytest.mark.parametrize("case", [ENCRYPTION, INFERENCE], ids=registry.STAGES)
def test_work_in_stages(started, case):
    said = "".join(f', "{name}": 33' for name in registry.SAID[registry.suite_of(case)])
    ready = READY.replace("0.5}", f"0.5{said}}}")
    answer = "for line in sys.stdin: print('{\"seconds\": [[1, 2, 3]]}', flush=True)\n"
    worker = started(ready + answer, case, "tenseal")
    assert worker.repeat(1) == [[1, 2, 3]]
    with pytest.raises(PeerUnavailable, match="no answer that makes sense"):
        worker.repeat(2)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("sys.exit('no such thing')", "torch_func ended: no such thing"),
        ("raise ImportError('no torch')", "torch_func ended: ImportError: no torch"),
        ("os._exit(3)", "torch_func ended: it said nothing"),
        ("os.kill(os.getpid(), 9)", "torch_func ended: it said nothing"),
        ('print(\'{"error": "the batch is odd."}\')', "torch_func: the batch is odd."),
        (
            "print('Downloading...', flush=True); time.sleep(9)",
            "no answer that makes sense",
        ),
        ("print('[1, 2]', flush=True); time.sleep(9)", "no answer that makes sense"),
        ("os.write(1, bytes(range(128, 256)) + b'\\n')", "no answer that makes sense"),
        ("while True: print(end='x' * 65536)", "no answer that makes sense"),
        ("print('{\"ready\": true}')", "no answer that makes sense"),
        (READY.replace("0.5", "float('nan')"), "no answer that makes sense"),
    ],
)
def test_a_worker_that_does_not_get_ready(started, program, said):
    before = time.monotonic()
    with pytest.raises(PeerUnavailable) as caught:
        started(program)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - before < 5


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("sys.exit('out of memory')", "out of memory"),
        ("input(); sys.exit('out of memory')", "out of memory"),
        ("input(); print('{\"seconds\": [0.1]}', flush=True)", "makes sense"),
        ("input(); print('{\"seconds\": [0.1, -1]}', flush=True)", "makes sense"),
        ("input(); print('{\"seconds\": [true, 1]}', flush=True)", "makes sense"),
        ("input(); print('{\"seconds\": [[1, 2, 3]] * 2}')", "makes sense"),
        ("input(); print('{\"seconds\": [0.1, NaN]}', flush=True)", "makes sense"),
    ],
)
def test_a_worker_that_fails_later(started, program, said):
    worker = started(READY + program)
    with pytest.raises(PeerUnavailable, match=said):
        worker.repeat(2)
    assert worker._process.poll() is not None


def test_a_worker_that_hangs_is_ended_with_its_children(started, tmp_path):
    with pytest.raises(PeerUnavailable, match=r"no answer within 0\.2 s"):
        started("time.sleep(60)", start_seconds=0.2)
    pid = tmp_path / "pid"
    child = "import subprocess; child = subprocess.Popen(['sleep', '60'])\n"
    child += f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
    worker = started(child + READY + "time.sleep(60)", answer_seconds=0.2)
    with pytest.raises(PeerUnavailable, match=r"no answer within 0\.2 s"):
        worker.repeat(1)
    status = Path(f"/proc/{pid.read_text()}/status")
    until = time.monotonic() + 5
    while alive := status.exists() and "zombie" not in status.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not alive


def test_no_interpreter_is_no_worker(tmp_path):
    with pytest.raises(PeerUnavailable, match="torch cannot be started"):
        client.Worker("torch", CLIENTS, 1, tmp_path / "python")


# The real worker, around a library that is not there and one that is made up.


def real(script=client.SCRIPT):
    return client.Worker("opacus_hooks", CLIENTS, 1, sys.executable, script=script)


def test_a_library_that_is_not_installed():
    with pytest.raises(PeerUnavailable) as caught:
        real()
    assert str(caught.value).startswith("opacus_hooks: ModuleNotFoundError: No module")


@pytest.fixture
def made_up(tmp_path):
    for name in ("worker.py", "registry.py", "work.py"):
        shutil.copy(FOLDER / name, tmp_path)

    def write(body):
        (tmp_path / "torch_clients.py").write_text(
            "import os, sys, work\nprint('Welcome!')\nos.write(1, b'{garbage')\n"
            f"def build(peer, case, threads):\n    {body}\n"
        )
        script = tmp_path / "worker.py"
        text = script.read_text()
        version = "importlib.metadata.version(name)"
        assert version in text
        script.write_text(text.replace(version, "'1.0'"))
        return real(script)

    return write


def test_what_libraries_print_does_not_disturb(made_up):
    work = "return work.fastest({'slow': lambda: sum(range(10**6)), 'fast': print})"
    with made_up(work) as worker:
        assert worker.ready["variant"] == "fast"
        assert worker.ready["versions"] == {"opacus": "1.0", "torch": "1.0"}
        assert len(worker.repeat(4)) == 4


def test_errors_in_a_library_are_one_sentence(made_up):
    with pytest.raises(PeerUnavailable, match=r"^opacus_hooks: KeyError: 'what'$"):
        made_up("raise KeyError('what')")


def test_only_one_core_for_one_thread(made_up):
    work = "n = len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS']; "
    work += "return work.Work(lambda: 0.0, {'warmup_seconds': 0, 'variant': n})"
    with made_up(work) as worker:
        assert worker.ready["variant"] == [1, "1"]


# Environments, with an interpreter and a pip that are shell scripts.

INTERPRETER = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
  -I*) echo CPython {version} ;;
  *venv*) mkdir -p "$3/bin"; cp "{pip}" "$3/bin/python"; {venv} ;;
esac
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Puts a python3.11 on PATH, alone; returns what its calls are logged to."""
    path = tmp_path / "path"
    path.mkdir()
    for tool in ("sh", "mkdir", "cp"):
        (path / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    log = tmp_path / "log"
    log.touch()

    def executable(file, text):
        file.write_text(text)
        file.chmod(0o755)

    def install(pip="exit 0", venv="exit 0", version="3.11.9", name="python3.11"):
        executable(tmp_path / "pip", f'#!/bin/sh\necho "pip $@" >> "{log}"\n{pip}\n')
        values = {"log": log, "pip": tmp_path / "pip", "venv": venv}
        executable(path / name, INTERPRETER.format(version=version, **values))
        return log

    return install


def installations(log):
    return sum(line.startswith("pip ") for line in log.read_text().splitlines())


def test_an_environment_is_made_once(stub, tmp_path):
    log, said = stub(), []
    python = environments.python("jax", said.append)
    assert python.parent.parent.parent == tmp_path / "cache/fedjax_private/peers"
    assert re.fullmatch(r"jax-[0-9a-f]{12}", python.parent.parent.name)
    assert environments.python("jax", said.append) == python
    assert installations(log) == len(said) == 1
    listed = (python.parent.parent / "requirements.txt").read_text().split()
    assert tuple(listed) == ENVIRONMENTS["jax"].requirements
    # What was interrupted is made again, and another Python has its own.
    (python.parent.parent / environments.COMPLETE).unlink()
    assert environments.python("jax") == python
    stub(version="3.11.10")
    assert environments.python("jax") != python
    assert installations(log) == 3


@pytest.mark.parametrize(
    ("name", "pip", "named"),
    [
        (
            "torch",
            "echo 'ERROR: No matching distribution found for torch==2.13.0+cpu' >&2",
            ("torch==2.13.0+cpu", "PIP_EXTRA_INDEX_URL", "CPU wheels"),
        ),
        (
            "jax",
            "echo 'WARNING: slow' >&2; echo 'ERROR: No space left.' >&2; echo >&2",
            ("the jax peers", "(No space left)", "package index"),
        ),
        ("jax", "echo first >&2; echo Killed >&2", ("(Killed)",)),
        ("fedjax", ":", ("(nothing was said)",)),
    ],
)
def test_a_failing_pip_gives_one_sentence(stub, tmp_path, name, pip, named):
    stub(pip=f"{pip}\nexit 1")
    with pytest.raises(PeerUnavailable) as caught:
        environments.python(name)
    assert is_one_sentence(str(caught.value))
    for part in named:
        assert part in str(caught.value)
    left = (tmp_path / "cache/fedjax_private/peers").iterdir()
    assert [path.suffix for path in left] == [".lock"]


def test_a_failing_venv_gives_one_sentence(stub):
    stub(venv="echo 'Error: no room' >&2; exit 1")
    with pytest.raises(PeerUnavailable, match=r"\(Error: no room\)") as caught:
        environments.python("jax")
    assert is_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    "broken",
    [
        {"version": "3.10.1"},
        {"name": "python3.10", "version": "3.10.1"},
        {"version": "3.11.9; exit 1"},
    ],
)
def test_no_suitable_interpreter(stub, broken):
    stub(**broken)
    with pytest.raises(PeerUnavailable) as caught:
        environments.python("jax")
    assert "CPython 3.11 or 3.12" in str(caught.value)
    assert is_one_sentence(str(caught.value).replace("3.", "3"))


def test_interpreters_of_pyenv_and_this_one_are_found(stub, tmp_path, monkeypatch):
    stub()
    found = shutil.which("python3.11")
    home = tmp_path / ".pyenv/versions/3.11.9/bin"
    home.mkdir(parents=True)
    shutil.move(found, home / "python")
    assert environments.python("jax").exists()
    shutil.move(home / "python", tmp_path / "this")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "this"))
    assert environments.python("fedjax").exists()


def test_a_cache_that_cannot_be_written(stub, tmp_path, monkeypatch):
    stub()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "log"))
    with pytest.raises(PeerUnavailable, match="set XDG_CACHE_HOME") as caught:
        environments.python("jax")
    assert is_one_sentence(str(caught.value))


def test_an_installation_that_takes_too_long(stub, monkeypatch):
    stub(pip="read never < /dev/zero")
    monkeypatch.setattr(environments, "INSTALL_SECONDS", 0.2)
    with pytest.raises(PeerUnavailable, match="took more than") as caught:
        environments.python("jax")
    assert is_one_sentence(str(caught.value))


def test_variables_that_steer_another_python_are_dropped(monkeypatch):
    for name in ("PYTHONPATH", "JAX_PLATFORMS", "XLA_FLAGS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    kept = environments.clean_environ()
    assert kept["PIP_FIND_LINKS"] == "/wheels"
    assert not {"PYTHONPATH", "JAX_PLATFORMS", "XLA_FLAGS"} & set(kept)
    assert "OMP_NUM_THREADS" not in kept
