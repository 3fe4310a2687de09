"""Virtual environments, made by an interpreter and a pip that are shell scripts."""

import re
import shutil
import sys

import pytest

from experiments.benchmarks.peers import environments, registry
from experiments.benchmarks.peers.environments import (
    HINTS,
    REQUIREMENTS,
    PeerUnavailable,
    requirements,
)


def is_one_sentence(text):
    return "\n" not in text and text.endswith(".") and ". " not in text


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_an_environment_is_pinned_and_names_no_host(name):
    for requirement in requirements(name):
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+]+", requirement)
    assert name in {peer.environment for peer in registry.PEERS.values()}


def test_hints_are_for_packages_that_are_asked_for_and_name_no_host():
    assert set(HINTS) <= {each for name in REQUIREMENTS for each in requirements(name)}
    assert not any("://" in hint for hint in HINTS.values())


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
    assert f"-r {REQUIREMENTS['jax']}\n" in log.read_text()
    # What was interrupted is made again, and another Python has its own.
    (python.parent.parent / environments.COMPLETE).unlink()
    assert environments.python("jax", print) == python
    stub(version="3.11.10")
    assert environments.python("jax", print) != python
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
        ("fedjax", ":", ("(no message)",)),
    ],
)
def test_a_failing_pip_gives_one_sentence(stub, tmp_path, name, pip, named):
    stub(pip=f"{pip}\nexit 1")
    with pytest.raises(PeerUnavailable) as caught:
        environments.python(name, print)
    assert is_one_sentence(str(caught.value))
    for part in named:
        assert part in str(caught.value)
    left = (tmp_path / "cache/fedjax_private/peers").iterdir()
    assert [path.suffix for path in left] == [".lock"]


def test_a_failing_venv_gives_one_sentence(stub):
    stub(venv="echo 'Error: no room' >&2; exit 1")
    with pytest.raises(PeerUnavailable, match=r"\(Error: no room\)") as caught:
        environments.python("jax", print)
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
        environments.python("jax", print)
    assert "CPython 3.11 or 3.12" in str(caught.value)
    assert is_one_sentence(str(caught.value).replace("3.", "3"))


def test_interpreters_of_pyenv_and_this_one_are_found(stub, tmp_path, monkeypatch):
    stub()
    found = shutil.which("python3.11")
    home = tmp_path / ".pyenv/versions/3.11.9/bin"
    home.mkdir(parents=True)
    shutil.move(found, home / "python")
    assert environments.python("jax", print).exists()
    shutil.move(home / "python", tmp_path / "this")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "this"))
    assert environments.python("fedjax", print).exists()


def test_a_cache_that_cannot_be_written(stub, tmp_path, monkeypatch):
    stub()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "log"))
    with pytest.raises(PeerUnavailable, match="set XDG_CACHE_HOME") as caught:
        environments.python("jax", print)
    assert is_one_sentence(str(caught.value))


def test_an_installation_that_takes_too_long(stub, monkeypatch):
    stub(pip="read never < /dev/zero")
    monkeypatch.setattr(environments, "INSTALL_SECONDS", 0.2)
    with pytest.raises(PeerUnavailable, match="took more than") as caught:
        environments.python("jax", print)
    assert is_one_sentence(str(caught.value))


def test_variables_that_steer_another_python_are_dropped(monkeypatch):
    for name in ("PYTHONPATH", "JAX_PLATFORMS", "XLA_FLAGS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    kept = environments.clean_environ()
    assert kept["PIP_FIND_LINKS"] == "/wheels"
    assert not {"PYTHONPATH", "JAX_PLATFORMS", "XLA_FLAGS"} & set(kept)
    assert "OMP_NUM_THREADS" not in kept
