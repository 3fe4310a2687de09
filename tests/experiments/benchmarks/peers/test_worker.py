"""The real worker, around libraries that are made up."""

import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest

from experiments.benchmarks.peers import client
from experiments.benchmarks.peers.environments import PeerUnavailable

FOLDER = Path(client.__file__).parent
CLIENTS = {"clients": 2, "batch": 4, "model": "tutorial_cnn", "private": True}
ROUND = {"clients": 2, "examples": 8, "batch": 4, "epochs": 1}


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Starts the worker of opacus_hooks on a module with the given `build`."""
    for name in ("worker.py", "registry.py", "work.py"):
        shutil.copy(FOLDER / name, tmp_path)
    for package in ("opacus", "torch"):
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        text = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        (about / "METADATA").write_text(text)

    def start(body):
        (tmp_path / "torch_clients.py").write_text(
            "import os, sys, time, work\nprint('Welcome!')\nos.write(1, b'{garbage')\n"
            f"def build(peer, case, threads):\n    {body}\n"
        )
        monkeypatch.setattr(client, "SCRIPT", tmp_path / "worker.py")
        return closing(client.Worker("opacus_hooks", CLIENTS, 1, sys.executable))

    return start


def test_a_library_that_is_not_installed(made_up):
    with pytest.raises(PeerUnavailable) as caught:
        made_up("import a_library_that_there_is_not")
    assert str(caught.value).startswith("opacus_hooks: ModuleNotFoundError: No module")


def test_what_libraries_print_does_not_disturb(made_up):
    work = "return work.fastest({'slow': lambda: time.sleep(0.5), 'fast': print})"
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


def test_stages_are_timed_one_by_one(worker_modules):
    seen = []
    call = worker_modules("work").staged(
        lambda before: seen.append(before) or 1, lambda one: seen.append(one)
    )
    assert len(call()) == 2 and seen == [None, 1]


@pytest.mark.slow
def test_a_real_peer():
    """naive_jax in this interpreter, with the files of the folder alone."""
    with closing(client.Worker("naive_jax", ROUND, 1, sys.executable)) as worker:
        assert worker.ready["variant"] == "vmap"
        assert set(worker.ready["versions"]) == {"jax"}
        assert all(seconds > 0 for seconds in worker.repeat(2))
